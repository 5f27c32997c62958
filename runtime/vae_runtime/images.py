"""Images in graphs and pictures for people, and the way between them.

Images are (N, C, H, W) float32 in [0, 1]. Pictures are (N, H, W) where C is 1, else (N, H, W, C), uint8.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.errors import InputError, one_line

Images = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]

# Arithmetic elsewhere may leave a pixel a rounding error outside of [0, 1].
_SLACK = 1e-5


def to_uint8(images: npt.NDArray[np.floating[Any]], out: Pictures | None = None) -> Pictures:
    """Turn images into pictures: round(x * 255).

    Args:
        images: (N, C, H, W) floating point in [0, 1]; what lies outside is clipped.
        out: where to write, (N, H, W) or (N, H, W, C) uint8; a new array where None.

    Returns:
        (N, H, W) where C is 1, else (N, H, W, C), uint8.
    """
    scaled = np.multiply(images, 255.0, dtype=np.float32)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0.0, 255.0, out=scaled)
    arranged = scaled[:, 0] if images.shape[1] == 1 else np.moveaxis(scaled, 1, -1)
    if out is None:
        out = np.empty(arranged.shape, np.uint8)
    out[...] = arranged
    return out


def to_float(pictures: Pictures) -> Images:
    """Turn (N, H, W) or (N, H, W, C) uint8 pictures into (N, C, H, W) float32 images in [0, 1]: x / 255."""
    arranged = pictures[:, None] if pictures.ndim == 3 else np.moveaxis(pictures, -1, 1)
    images: Images = np.divide(arranged, 255.0, dtype=np.float32, order="C")
    return images


def as_images(given: npt.ArrayLike, shape: tuple[int, int, int]) -> npt.NDArray[Any]:
    """Check what a caller gave for images of `shape` (C, H, W), and bring it to native byte order.

    Returns:
        (N, C, H, W) float32 in [0, 1] as it came, or uint8 pictures as they came: those are turned into
        floats chunk by chunk, so that no float copy of the whole is made.

    Raises:
        InputError: wrong type, wrong shape, NaN, or outside of [0, 1].
    """
    array = as_array(given, "images")
    channels, height, width = shape
    if array.dtype == np.uint8:
        expected = (height, width) if channels == 1 else (height, width, channels)
        if array.ndim == 4 and channels == 1 and array.shape[1:] == (height, width, 1):
            array = array[..., 0]
        _require_shape(array, expected, "uint8 pictures", "pictures")
        return array
    if array.dtype.kind != "f":
        raise InputError(
            f"images of type {array.dtype}; expected floating point in [0, 1] or uint8 in 0..255"
        )
    _require_shape(array, shape, "floating point images", "images")
    with np.errstate(over="ignore"):  # infinity is refused below
        images = np.ascontiguousarray(array, dtype=np.float32)
    require_finite(images, "images")
    if images.size and (images.min() < -_SLACK or images.max() > 1 + _SLACK):
        raise InputError(
            f"images range from {images.min():g} to {images.max():g}; expected [0, 1] "
            "(divide pixels by 255, or give them as uint8)"
        )
    return images


def as_array(given: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    """Return what a caller gave as an array, or raise `InputError` where it is none: rows of several lengths."""
    try:
        return np.asarray(given)
    except (ValueError, TypeError) as error:
        raise InputError(f"{what}: cannot be made an array ({one_line(error)})") from error


def is_whole_number(value: object) -> bool:
    """Whether it is a whole number, Python's or numpy's; a truth is none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def require_finite(array: npt.NDArray[np.floating[Any]], what: str) -> None:
    """Raise `InputError` with the place of the first NaN or infinity."""
    if not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InputError(f"{what} hold {array[place]} at index {place}; expected finite numbers")


def _require_shape(array: npt.NDArray[Any], expected: tuple[int, ...], what: str, name: str) -> None:
    if array.shape[1:] == expected and array.ndim == len(expected) + 1:
        return
    hint = f"; add the batch axis: {name}[None]" if array.shape == expected else ""
    wanted = ", ".join(("N", *map(str, expected)))
    raise InputError(f"{what} of shape {array.shape}; expected ({wanted}){hint}")
