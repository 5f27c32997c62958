"""What the commands read: pictures, latents, and the points that interpolation goes through."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from vae_runtime.arrays import read_npy, read_npz
from vae_runtime.cli.pictures import list_pictures, load_pictures
from vae_runtime.errors import InputError
from vae_runtime.latent import Latents
from vae_runtime.model import Model

_ARRAYS = (".npy", ".npz")
_LONGEST_SEED = 1000  # digits; Python itself turns no more than 4,300 into a number


def read_images(paths: Sequence[Path], model: Model, limit: int | None = None) -> npt.NDArray[Any]:
    """Read pictures, folders of pictures, or one .npy or .npz (its array `images`), in the model's shape.

    Args:
        paths: what was typed.
        model: tells the shape that picture files are cropped and resized to.
        limit: take only the first so many.

    Returns:
        Pictures (N, H, W[, C]) uint8, or what the array holds: the model checks it.

    Raises:
        InputError: a file that is not what its name says, or an array beside other inputs.
    """
    arrays = [path for path in paths if _suffix(path) in _ARRAYS]
    if arrays and len(paths) > 1:
        raise InputError(f"{arrays[0]}: one array goes alone; expected it, or pictures and folders of them")
    if arrays and _suffix(arrays[0]) == ".npy":
        return _first(read_npy(arrays[0]), limit)
    if arrays:
        return _first(read_npz(arrays[0], "images")["images"], limit)
    channels, height, width = model.card.image_shape
    return load_pictures(list_pictures(paths)[:limit], height, width, channels)


def _first(array: npt.NDArray[Any], limit: int | None) -> npt.NDArray[Any]:
    return array[:limit] if array.ndim else array  # the model refuses one without axes


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def read_latents(path: Path) -> npt.NDArray[Any]:
    """Read latents from a .npy, or from a .npz that `encode` wrote (its `mean`); the model checks the shape.

    Raises:
        InputError: not such a file, or whole numbers: those are pixels, and no latents.
    """
    latents = read_npz(path, "mean")["mean"] if _suffix(path) == ".npz" else read_npy(path)
    if latents.dtype.kind != "f":
        raise InputError(f"{path}: latents of type {latents.dtype}; expected floating point (N, D)")
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
    latents = model.encode(read_images([Path(point)], model, limit=1)).mean
    if len(latents) == 0:
        raise InputError(f"{point}: holds no images; expected one")
    return latents
