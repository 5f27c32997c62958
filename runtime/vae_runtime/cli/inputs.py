"""What the commands read: pictures, latents, and the points that interpolation goes through."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np

from vae_runtime.arrays import read_one_of_npz
from vae_runtime.cli.pictures import list_pictures, load_pictures
from vae_runtime.cli.rows import Rows
from vae_runtime.errors import InputError
from vae_runtime.images import require_images
from vae_runtime.latent import Latents, require_latents
from vae_runtime.model import Model

_ARRAYS = (".npy", ".npz")
_LONGEST_SEED = 1000  # digits; Python itself turns no more than 4,300 into a number


def read_images(
    paths: Sequence[Path], model: Model, limit: int | None = None, *, skip_bad: bool = False
) -> Rows:
    """Read pictures, folders of pictures, or one .npy or .npz (its `images`, or its only array), in the model's shape.

    Args:
        paths: what was typed.
        model: tells the shape that picture files are cropped and resized to.
        limit: take only the first so many.
        skip_bad: leave out, and log, files that are no pictures, instead of failing.

    Returns:
        Pictures (N, H, W[, C]) uint8, or images (N, C, H, W); what the numbers are is for the model to check.

    Raises:
        InputError: a file that is not what its name says, an array beside other inputs, or one of another shape.
    """
    arrays = [path for path in paths if _suffix(path) in _ARRAYS]
    if arrays and len(paths) > 1:
        raise InputError(f"{arrays[0]}: one array goes alone; expected it, or pictures and folders of them")
    if not arrays:
        channels, height, width = model.card.image_shape
        files, pictures = load_pictures(
            list_pictures(paths)[:limit], height, width, channels, skip_bad=skip_bad
        )
        return Rows(pictures, names=files)
    rows = _open_rows(arrays[0], "images", limit)
    with _named(arrays[0]):
        require_images(rows.dtype, rows.full_shape, model.card.image_shape)
    return rows


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say of which file it is that something is wrong: commands take several."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _open_rows(path: Path, name: str, limit: int | None = None) -> Rows:
    """Open the array of a .npy; of a .npz the one of a name, or the only one."""
    return Rows(read_one_of_npz(path, name) if _suffix(path) == ".npz" else path, limit, path=path)


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def read_latents(path: Path, model: Model) -> Rows:
    """Read latents from a .npy, or from a .npz that `encode` wrote (its `mean`).

    Raises:
        InputError: not such a file, latents of another size, or whole numbers: those are pixels, and no latents.
    """
    latents = _open_rows(path, "mean")
    if latents.dtype.kind != "f":
        raise InputError(f"{path}: latents of type {latents.dtype}; expected floating point (N, D)")
    with _named(path):
        require_latents(latents.dtype, latents.shape, model.card.latent_size)
    return latents


def read_points(points: Sequence[str], model: Model) -> Latents:
    """Turn what was typed into latents, (K, D): a whole number is a seed, anything else a picture file.

    Raises:
        click.UsageError: fewer than two points.
    """
    if len(points) < 2:
        raise click.UsageError(f"{len(points)} point given; expected at least two seeds or pictures")
    return np.concatenate([_point(point, model) for point in points])


def _point(point: str, model: Model) -> Latents:
    if point.isascii() and point.isdigit():
        if len(point) > _LONGEST_SEED:
            raise InputError(
                f"{point[:20]}...: a seed of {len(point)} digits; expected at most {_LONGEST_SEED}"
            )
        return model.sample_latents(1, int(point))
    if not point or not os.path.lexists(point):
        raise InputError(
            f"{point}: expected a seed (a whole number) or a picture file; there is no such file"
        )
    images = read_images([Path(point)], model, limit=2)
    if len(images) != 1:
        found = "no images" if len(images) == 0 else "more than one image"
        raise InputError(
            f"{point}: holds {found}; expected one: name every picture that the way goes through"
        )
    with _named(Path(point)):
        return model.encode(images.whole()).mean
