"""Bringing arrays into order: data type, axes, channels and size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from vae_training.config import LONGEST_SIDE, SHORTEST_SIDE, SIDE_STEP
from vae_training.errors import DataError

if TYPE_CHECKING:
    from vae_training.data.image_set import Pictures, Size

Array = npt.NDArray[Any]

_LAYOUTS = "(N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3"
_BATCH = 1024


def to_pictures(what: str, array: Array) -> Pictures:
    """Turn images of any accepted layout and data type into (N, H, W, C) uint8.

    Args:
        what: what the array is called in messages.
        array: (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3; uint8, bool (False is 0, True is
            255) or floating point in [0, 1], rounded to the nearest of 0 to 255.

    Returns:
        (N, H, W, C) uint8, C-contiguous; the array's own memory where nothing had to change.

    Raises:
        DataError: another layout or data type, floating point values outside [0, 1], or NaN.
    """
    _channels_last(what, array)  # is it images at all? What is said of a pixel then is its place in the file
    return np.ascontiguousarray(_channels_last(what, _to_uint8(what, array)))


def conform(pictures: Pictures, image_size: Size | None, channels: int | None) -> Pictures:
    """Convert between gray and RGB, crop about the centre to the aspect ratio, and resize.

    Gray is Pillow's "L" (ITU-R 601 luma); RGB from gray repeats it; resizing is Lanczos: the rules by
    which picture files are read.

    Args:
        pictures: (N, H, W, C) uint8.
        image_size: (height, width) wished, or None for as it is.
        channels: 1 or 3, or None for as it is.

    Returns:
        (N, height, width, channels) uint8; `pictures` itself where they fit already.
    """
    count, *size, depth = pictures.shape
    height, width = image_size or size
    channels = channels or depth
    shape = (count, height, width, channels)
    if pictures.shape == shape:
        return pictures
    mode = "L" if channels == 1 else "RGB"
    conformed = np.empty(shape, np.uint8)
    for target, picture in zip(conformed, pictures, strict=True):
        image = Image.fromarray(picture[..., 0] if depth == 1 else picture).convert(mode)
        fitted = ImageOps.fit(image, (width, height), method=Image.Resampling.LANCZOS)
        target[...] = np.asarray(fitted).reshape(target.shape)
    return conformed


def require_trainable(what: str, pictures: Pictures) -> None:
    """Raise `DataError` unless there are two or more images of a size that the model can take."""
    count, height, width, _ = pictures.shape
    if count < 2:
        raise DataError(f"{what}: expected at least 2 images; found {count}")
    if not is_model_size((height, width)):
        raise DataError(f"{what}: images of {height}x{width} pixels; {_size_advice((height, width))}")


def require_image_size(image_size: Size) -> None:
    """Raise `DataError` unless (height, width) is a size that the model can take."""
    if not is_model_size(image_size):
        height, width = image_size
        raise DataError(f"image size {height}x{width}; {_size_advice(image_size)}")


def is_model_size(size: Size) -> bool:
    """Whether both sides are at least 8, at most 16,384 and divisible by 4."""
    return all(SHORTEST_SIDE <= side <= LONGEST_SIDE and side % SIDE_STEP == 0 for side in size)


def _size_advice(size: Size) -> str:
    # The nearest step, downwards when between two: better to lose detail than to invent it.
    steps = ((side + 1) // SIDE_STEP * SIDE_STEP for side in size)
    height, width = (min(max(SHORTEST_SIDE, side), LONGEST_SIDE) for side in steps)
    flag = f"{height}" if height == width else f"{height}x{width}"
    return (
        f"expected a height and width of at least {SHORTEST_SIDE} and divisible by {SIDE_STEP}, "
        f"at most {LONGEST_SIDE}: give --image-size {flag}"
    )


def _channels_last(what: str, array: Array) -> Array:
    if array.size == 0:
        raise DataError(f"{what}: shape {array.shape} holds no images; expected {_LAYOUTS}")
    if array.ndim == 3 and array.shape[2] in (1, 3):
        raise DataError(f"{what}: shape {array.shape} looks like one picture (H, W, C); expected {_LAYOUTS}")
    if array.ndim == 3:
        return array[..., np.newaxis]
    if array.ndim != 4:
        raise DataError(f"{what}: shape {array.shape}; expected {_LAYOUTS}")
    first, last = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
    if first and last:
        raise DataError(
            f"{what}: shape {array.shape} can be read as (N, C, H, W) and as (N, H, W, C); "
            "expected only one axis of 1 or 3 channels"
        )
    if not first and not last:
        raise DataError(f"{what}: shape {array.shape} has no axis of 1 or 3 channels; expected {_LAYOUTS}")
    return array if last else np.moveaxis(array, 1, 3)


def _to_uint8(what: str, array: Array) -> Pictures:
    if array.dtype == np.uint8:
        pictures: Pictures = array
        return pictures
    if array.dtype == np.bool_:
        return np.multiply(array, 255, dtype=np.uint8)
    if array.dtype.kind != "f":
        raise DataError(
            f"{what}: data type {array.dtype}; expected uint8 (0 to 255), bool, "
            "or a floating point type with values in [0, 1]"
        )
    _require_unit_range(what, array)
    converted = np.empty(array.shape, np.uint8)
    # Half precision is too coarse to round from.
    precision = np.promote_types(array.dtype, np.float32)
    # In batches, so that there is no second copy of it as floating point.
    for start in range(0, len(array), _BATCH):
        batch = slice(start, start + _BATCH)
        converted[batch] = np.rint(np.multiply(array[batch], 255, dtype=precision))
    return converted


def _require_unit_range(what: str, array: Array) -> None:
    low, high = float(np.min(array)), float(np.max(array))
    if np.isnan(low):
        index = tuple(int(axis[0]) for axis in np.nonzero(np.isnan(array)))
        raise DataError(f"{what}: NaN, first at index {index}; expected values in [0, 1]")
    if low < 0 or high > 1:
        raise DataError(
            f"{what}: values from {low!r} to {high!r}; expected floating point values in [0, 1] "
            "(divide 0..255 by 255, map -1..1 by (x + 1) / 2, or save uint8)"
        )
