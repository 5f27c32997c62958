"""Images in graphs and pictures for people, and the way between them.

Images are (N, C, H, W) float32 in [0, 1]. Pictures are (N, H, W) where C is 1, else (N, H, W, C), uint8.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from vae_runtime.errors import InputError, NumbersError, one_line

Images = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]

# Arithmetic elsewhere may leave a pixel a rounding error outside of [0, 1].
_SLACK = 1e-5

_FLOAT32 = np.dtype(np.float32)

# Numbers in one call of BLAS: beyond 10,000 OpenBLAS wakes threads of its own.
_FEW = 8192


def picture_shape(image_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the shape of the picture of an image (C, H, W): (H, W) where C is 1, else (H, W, C)."""
    channels, height, width = image_shape
    return (height, width) if channels == 1 else (height, width, channels)


def to_uint8(images: npt.NDArray[np.floating[Any]], out: Pictures | None = None) -> Pictures:
    """Turn images into pictures: round(x * 255).

    Args:
        images: (N, C, H, W) floating point in [0, 1]; what lies outside is clipped, and NaN becomes 0.
        out: where to write, (N, H, W) or (N, H, W, C) uint8; a new array where None.

    Returns:
        (N, H, W) where C is 1, else (N, H, W, C), uint8.

    Raises:
        InputError: no images: of another type or shape.
    """
    images = as_array(images, "images")
    if images.dtype.kind != "f" or images.ndim != 4:
        raise InputError(
            f"{images.dtype} of shape {images.shape} given; expected images (N, C, H, W) in floating point"
        )
    count, channels, height, width = images.shape
    if out is None:
        out = np.empty((count, *picture_shape((channels, height, width))), np.uint8)
    levels = _levels(images)
    if math.isnan(np.add.reduce(levels, axis=None)):
        levels[np.isnan(levels)] = 0.0  # casting NaN differs between processors, and numpy warns of it
    _put(levels, out)
    return out


def fill_pictures(images: Images, out: Pictures) -> None:
    """Do what `to_uint8` does, with images that hold no NaN."""
    _put(_levels(images), out)


def _levels(images: npt.NDArray[np.floating[Any]]) -> Images:
    levels: Images = np.multiply(images, 255.0, dtype=np.float32)
    np.rint(levels, out=levels)
    return levels.clip(0.0, 255.0, out=levels)


def _put(levels: Images, out: Pictures) -> None:
    channels = levels.shape[1]
    if channels == 1:
        out[...] = levels[:, 0]
        return
    for channel in range(channels):  # three times as fast as all at once with the axis moved
        out[..., channel] = levels[:, channel]


def to_float(pictures: Pictures) -> Images:
    """Turn (N, H, W) or (N, H, W, C) uint8 pictures into (N, C, H, W) float32 images in [0, 1]: x / 255.

    Raises:
        InputError: no pictures: of another type or shape.
    """
    pictures = as_array(pictures, "pictures")
    if pictures.dtype != np.uint8 or pictures.ndim not in (3, 4):
        raise InputError(
            f"{pictures.dtype} of shape {pictures.shape} given; expected pictures (N, H, W) or (N, H, W, C) in uint8"
        )
    arranged = pictures[:, None] if pictures.ndim == 3 else np.moveaxis(pictures, -1, 1)
    images: Images = np.divide(arranged, 255.0, dtype=np.float32, order="C")
    return images


def as_floats(images: npt.NDArray[Any]) -> Images:
    """Return checked images or pictures as graphs take them, (N, C, H, W) float32: images are returned themselves."""
    return to_float(images) if images.dtype == np.uint8 else images


def as_images(
    given: npt.ArrayLike, shape: tuple[int, int, int], *, check_finite: bool = True, begins_at: int = 0
) -> npt.NDArray[Any]:
    """Check what a caller gave for images of `shape` (C, H, W), and bring it to native byte order.

    Args:
        given: the images.
        shape: (C, H, W).
        check_finite: refuse NaN and infinity. Without it they pass; the other pixels must be in [0, 1] still.
        begins_at: which image of a whole is the first here, for messages.

    Returns:
        (N, C, H, W) float32 in [0, 1] as it came, or uint8 pictures as they came: those are turned into
        floats chunk by chunk, so that no float copy of the whole is made.

    Raises:
        InputError: wrong type, wrong shape, NaN, or outside of [0, 1].
    """
    array = as_array(given, "images")
    require_images(array.dtype, array.shape, shape)
    if array.dtype == np.uint8:
        return array[..., 0] if array.ndim == 4 and shape[0] == 1 else array
    images = as_float32(array)
    if _are_pixels(images):
        return images
    if check_finite:
        require_finite(images, "images", begins_at=begins_at)
    _require_range(images)
    return images


def require_images(dtype: np.dtype[Any], found: tuple[int, ...], shape: tuple[int, int, int]) -> None:
    """Raise `InputError` unless type and shape are those of images or pictures of `shape` (C, H, W)."""
    channels, height, width = shape
    if dtype == np.uint8:
        if channels == 1 and found[1:] == (height, width, 1):
            return
        _require_shape(found, picture_shape(shape), "uint8 pictures", "pictures")
        return
    if dtype.kind != "f":
        raise InputError(f"images of type {dtype}; expected floating point in [0, 1] or uint8 in 0..255")
    _require_shape(found, shape, "floating point images", "images")


def _are_pixels(images: Images) -> bool:
    """Whether all are in [0, 1], at one look: the least and the greatest are NaN where one is."""
    return images.size == 0 or bool(images.min() >= -_SLACK and images.max() <= 1 + _SLACK)


def _require_range(images: Images) -> None:
    """Raise unless all pixels are in [0, 1], but for those that are no finite numbers."""
    low, high = _range(images)
    if math.isinf(low) or math.isinf(high):
        low, high = _range(images[np.isfinite(images)])
    if low < -_SLACK or high > 1 + _SLACK:
        raise NumbersError(
            f"images range from {low:g} to {high:g}; expected [0, 1] "
            "(divide pixels by 255, or give them as uint8)"
        )


def _range(numbers: Images) -> tuple[float, float]:
    """Return the lowest and the highest number, leaving out NaN: (0, 0) of none at all, NaN where all are NaN."""
    if numbers.size == 0:
        return 0.0, 0.0
    return float(np.fmin.reduce(numbers, axis=None)), float(np.fmax.reduce(numbers, axis=None))


def as_float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return an array as float32, contiguous and in native byte order: itself where it is so already."""
    if array.dtype is _FLOAT32 and array.flags.c_contiguous:
        return array
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which others refuse
        return np.ascontiguousarray(array, dtype=np.float32)


def owned(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array whose memory is its own and not, say, onnxruntime's: itself where it is so already."""
    return array if array.flags.owndata else array.copy()


def as_array(given: object, what: str) -> npt.NDArray[Any]:
    """Return what a caller gave as an array, or raise `InputError` where none can be made: rows of several lengths."""
    if (
        type(given) is np.ndarray
    ):  # nothing more is asked then, which would take a tenth of decoding one latent
        return given
    if isinstance(given, np.ndarray) and np.any(getattr(given, "mask", False)):  # numpy would forget the mask
        raise InputError(
            f"{what}: a masked array with numbers missing; expected numbers everywhere: .filled(0)"
        )
    try:
        return np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:  # the last: a tensor of PyTorch with gradients
        raise InputError(f"{what}: cannot be made an array ({one_line(error)})") from error


def is_whole_number(value: object) -> TypeGuard[int]:
    """Whether it is a whole number, Python's or numpy's; True and False are not."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def all_finite(array: npt.NDArray[np.floating[Any]]) -> bool:
    """Whether an array holds neither NaN nor infinity: what `np.isfinite(array).all()` says, sooner."""
    # One NaN or infinity makes the sum of squares so; so do some large numbers.
    if array.size <= _FEW and math.isfinite(np.vdot(array, array)):
        return True
    return bool(np.count_nonzero(np.isfinite(array)) == array.size)


def require_finite(array: npt.NDArray[np.floating[Any]], what: str, *, begins_at: int = 0) -> None:
    """Raise `InputError` with the place of the first NaN or infinity; `begins_at` is the row that is row 0 here."""
    if not all_finite(array):
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        shown = (begins_at + place[0], *place[1:])
        raise NumbersError(f"{what} hold {array[place]} at index {shown}; expected finite numbers")


def _require_shape(found: tuple[int, ...], expected: tuple[int, ...], what: str, name: str) -> None:
    if found[1:] == expected and len(found) == len(expected) + 1:
        return
    hint = f"; add the batch axis: {name}[None]" if found == expected else ""
    wanted = ", ".join(("N", *map(str, expected)))
    raise InputError(f"{what} of shape {found}; expected ({wanted}){hint}")
