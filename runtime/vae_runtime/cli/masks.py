"""Which pixels are missing: as a picture, an array or boxes say it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from vae_runtime.arrays import read_npy
from vae_runtime.cli.pictures import load_picture
from vae_runtime.errors import InputError
from vae_runtime.model import Model
from vae_runtime.restoration import Mask, as_mask

_TOUCHED = 32
"""Of 255: a pixel of which more than an eighth is white is missing."""


def read_mask(
    path: Path | None, boxes: Sequence[tuple[int, int, int, int]], count: int, model: Model
) -> Mask:
    """Return which pixels are missing, all sources taken together; (1, H, W) or (N, H, W) bool.

    Args:
        path: a picture, white where pixels are missing, cropped and resized as the model's pictures are; or a .npy of
            booleans, (H, W) or (N, H, W).
        boxes: x and y of the upper left corner, width and height, in the model's pixels.
        count: how many images there are.
        model: tells the shape.

    Raises:
        click.UsageError: neither, or a box that reaches beyond the image.
        InputError: a file that is neither a picture nor a mask of this shape.
    """
    if path is None and not boxes:
        raise click.UsageError("nothing is missing; expected --mask FILE or --box X,Y,WIDTH,HEIGHT")
    shape = model.card.image_shape
    mask = np.zeros((1, *shape[1:]), bool)
    for x, y, width, height in boxes:
        if x + width > shape[2] or y + height > shape[1]:
            raise click.UsageError(
                f"box {x},{y},{width},{height} reaches beyond the model's images of {shape[2]}x{shape[1]} pixels"
            )
        mask[:, y : y + height, x : x + width] = True
    return mask if path is None else mask | _read(path, count, shape)


def _read(path: Path, count: int, shape: tuple[int, int, int]) -> Mask:
    if path.suffix.lower() != ".npy":
        return load_picture(path, shape[1], shape[2], 1)[None] > _TOUCHED
    try:
        return as_mask(read_npy(path), count, shape)
    except InputError as error:
        if str(error).startswith(str(path)):
            raise
        raise InputError(f"{path}: {error}") from error


def with_holes(images: npt.NDArray[Any], mask: Mask) -> npt.NDArray[Any]:
    """Return images or pictures with gray where they are missing, to be looked at."""
    if images.dtype != np.uint8:
        return np.where(mask[:, None], images.dtype.type(0.5), images)
    return np.where(mask if images.ndim == 3 else mask[..., None], np.uint8(128), images)
