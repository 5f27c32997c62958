"""What a caller may ask of a model: how many images, how warm, of which type."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vae_runtime.errors import InputError, shown
from vae_runtime.images import is_whole_number

Dtype = Literal["float32", "uint8"] | type[np.float32] | type[np.uint8] | np.dtype[Any]

ImageArray = npt.NDArray[Any]
"""Images (N, C, H, W) float32 in [0, 1], or pictures (N, H, W) or (N, H, W, C) uint8."""

FLOAT32, UINT8 = np.dtype(np.float32), np.dtype(np.uint8)
_BY_NAME = {"float32": FLOAT32, "uint8": UINT8}

_HOTTEST = 1e30  # far below the largest float32: noise times this is finite


def as_count(n: object) -> int:
    """Return how many were asked for, or raise `InputError` unless it is a whole number of at least 0."""
    if not is_whole_number(n) or n < 0:
        raise InputError(f"n is {shown(n)}; expected a whole number of at least 0")
    return int(n)


def require_temperature(temperature: float) -> None:
    """Raise `InputError` unless noise may be multiplied by it."""
    try:
        # As a number of Python's: beside one of 16 bits the largest would be infinite, with a warning.
        number = np.asarray(temperature).item() if np.ndim(temperature) == 0 else None
        possible = bool(0.0 <= number <= _HOTTEST)  # type: ignore[operator]  # whatever it is
    except TypeError:
        possible = False
    if not possible:
        raise InputError(
            f"temperature is {shown(temperature)}; expected a number of at least 0, at most {_HOTTEST:g}"
        )


def image_dtype(dtype: Dtype) -> np.dtype[Any]:
    """Return `FLOAT32` or `UINT8`, whichever a caller means, or raise `InputError`."""
    if type(dtype) is str and dtype in _BY_NAME:  # nothing more is asked then, for the sake of single images
        return _BY_NAME[dtype]
    try:
        kind = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError) as error:
        raise InputError(f"dtype {shown(dtype)}; expected float32 or uint8") from error
    if kind == FLOAT32:
        return FLOAT32
    if kind == UINT8:
        return UINT8
    raise InputError(f"dtype {kind}; expected float32 or uint8")
