"""Files of directions: a .npz says which model it belongs to, a .npy holds the numbers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.arrays import read_npy, read_npz
from vae_runtime.attributes import as_direction
from vae_runtime.cli.outputs import ArraySpec
from vae_runtime.cli.rows import Rows
from vae_runtime.cli.work import Work
from vae_runtime.errors import InputError
from vae_runtime.latent import Latents
from vae_runtime.model import Model


def mean_latent(model: Model, images: Rows) -> Latents:
    """Return the mean of the latents of images that may be larger than memory, (1, D).

    Raises:
        InputError: no images.
    """
    if not len(images):
        raise InputError("a class of no images; expected one or more with it, and one or more without")
    summed = np.zeros(model.card.latent_size)
    for posterior in model.encode_stream(images):
        summed += posterior.mean.sum(axis=0, dtype=np.float64)
    mean: Latents = (summed / len(images)).astype(np.float32)
    return mean[None]


def write_direction(work: Work, direction: Latents) -> None:
    """Write a direction (D,) where a command's output is to go."""
    if work.output.kind == ".npz":
        work.output.write_npz({"direction": direction, "bundle_id": _bundle_id(work.model)})
    else:
        work.output.write_array([direction], ArraySpec(direction.dtype, direction.shape), "direction")


def read_direction(path: Path, model: Model) -> Latents:
    """Read a direction (D,).

    Raises:
        InputError: not such a file, or one of another model.
    """
    if path.suffix.lower() != ".npz":
        return _of_its_size(read_npy(path), path, model)
    arrays = read_npz(path)
    missing = {"direction", "bundle_id"} - set(arrays)
    if missing:
        raise InputError(f"{path}: no array {min(missing)!r}; expected a file that vae-run direction wrote")
    if not np.array_equal(arrays["bundle_id"], _bundle_id(model)):
        raise InputError(
            f"{path}: belongs to another model than {model.card.name[:40]!r}, to which it means nothing; "
            "make it again with this one: vae-run direction"
        )
    return _of_its_size(arrays["direction"], path, model)


def _of_its_size(array: npt.NDArray[Any], path: Path, model: Model) -> Latents:
    try:
        return as_direction(array, model.card.latent_size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _bundle_id(model: Model) -> npt.NDArray[np.uint8]:
    return np.frombuffer(model.card.bundle_id.encode(errors="surrogatepass"), np.uint8)
