"""What the commands read: pictures, latents, and the points that interpolation goes through."""

from __future__ import annotations

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


def read_images(paths: Sequence[Path], model: Model, limit: int | None = None) -> npt.NDArray[Any]:
    """Read pictures, folders of pictures, or one .npy or .npz (its array `images`), in the model's shape.

    Args:
        paths: what was typed.
        model: tells the shape that picture files are cropped and resized to.
        limit: take only the first so many.

    Returns:
        Pictures (N, H, W[, C]) uint8, or what the array holds: the model checks it.
    """
    if len(paths) == 1 and paths[0].suffix == ".npy":
        return _first(read_npy(paths[0]), limit)
    if len(paths) == 1 and paths[0].suffix == ".npz":
        return _first(read_npz(paths[0], "images")["images"], limit)
    channels, height, width = model.card.image_shape
    return load_pictures(list_pictures(paths)[:limit], height, width, channels)


def _first(array: npt.NDArray[Any], limit: int | None) -> npt.NDArray[Any]:
    return array[:limit] if array.ndim else array  # the model refuses one without axes


def read_latents(path: Path) -> npt.NDArray[Any]:
    """Read latents from a .npy, or from a .npz that `encode` wrote (its `mean`); the model checks the shape."""
    if path.suffix == ".npz":
        return read_npz(path, "mean")["mean"]
    return read_npy(path)


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
        return model.sample_latents(1, int(point))
    path = Path(point)
    if not path.exists():
        raise InputError(
            f"{point}: expected a seed (a whole number) or a picture file; there is no such file"
        )
    return model.encode(read_images([path], model)).mean[:1]
