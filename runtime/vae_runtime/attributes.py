"""Directions in the latent space along which images change in one respect: smile, glasses, the light.

Latents are plain arrays, so that arithmetic with them is numpy's own: `latents + 1.5 * direction`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.errors import InputError, shown
from vae_runtime.images import as_array, require_finite
from vae_runtime.latent import Latents

# The differences of means that are nothing but rounding, beside latents of about 1.
_NO_WAY = 1e-6


def attribute_direction(latents_with: npt.ArrayLike, latents_without: npt.ArrayLike) -> Latents:
    """Return the way from images without something to images with it: the difference of the means of their latents.

    So Larsen et al. (Autoencoding beyond pixels using a learned similarity metric, 2016) and White (Sampling Generative
    Networks, 2016). Fisher's linear discriminant, which divides by the covariance within the two, was measured beside
    it on faces whose factors are known: it moves them as far, takes no less of other factors along, and from a few
    dozen images is the worse one. What always comes along with an attribute among the images that are given (beards
    with men, gray hair with age) is part of the direction.

    Args:
        latents_with: (N, D) floating point, of images that have it: posterior means, as `Model.encode` gives them.
        latents_without: (M, D) of images that do not.

    Returns:
        (D,) float32. A step of this length leads from the mean of the one to the mean of the other.

    Raises:
        InputError: no latents of one size, none at all, or NaN; or both have the same mean, so that there is no way.
    """
    have, lack = _means_of(latents_with, "latents_with"), _means_of(latents_without, "latents_without")
    if have.shape != lack.shape:
        raise InputError(
            f"latents of sizes {have.size} (with) and {lack.size} (without); expected those of one model"
        )
    way = have - lack
    if np.abs(way).max() <= _NO_WAY * max(1.0, np.abs(have).max()):
        raise InputError(
            "latents with the same mean on both sides, between which there is no way; expected those of other images"
        )
    return _as_float32(way)


def as_direction(given: npt.ArrayLike, latent_size: int) -> Latents:
    """Return a direction as (D,) float32.

    Raises:
        InputError: not D finite numbers.
    """
    array = as_array(given, "direction")
    if array.dtype.kind not in "fiu" or array.shape != (latent_size,):
        raise InputError(
            f"a direction of type {array.dtype} and shape {array.shape}; expected floating point ({latent_size},): "
            "as many numbers as the model has latents"
        )
    return _as_float32(array)


def _as_float32(array: npt.NDArray[Any]) -> Latents:
    with np.errstate(over="ignore"):  # infinity is refused below
        direction: Latents = array.astype(np.float32)
    require_finite(direction, "directions")
    return direction


def moved(latents: Latents, direction: Latents, strengths: npt.ArrayLike) -> Latents:
    """Return latents (N, D) moved along a direction (D,), each by every strength (S,): (N * S, D) float32."""
    ways = np.asarray(strengths, np.float32)[:, None] * direction
    shifted: Latents = (latents[:, None] + ways).reshape(-1, direction.size)
    return shifted


def require_strength(strength: float) -> None:
    """Raise `InputError` unless a direction may be multiplied by it."""
    try:
        with np.errstate(over="ignore"):
            possible = bool(np.isfinite(np.float32(strength))) and np.ndim(strength) == 0
    except (TypeError, ValueError, OverflowError):
        possible = False
    if not possible:
        raise InputError(
            f"strength is {shown(strength)}; expected a number: 1 is the way from one class's mean to the other's"
        )


def _means_of(given: npt.ArrayLike, what: str) -> npt.NDArray[np.float64]:
    array: npt.NDArray[Any] = as_array(given, what)
    if array.dtype.kind not in "fiu" or array.ndim != 2 or array.size == 0:
        raise InputError(
            f"{what} of type {array.dtype} and shape {array.shape}; expected floating point (N, D), of one image "
            "or more"
        )
    if array.dtype.kind == "f":
        require_finite(array, what)
    means: npt.NDArray[np.float64] = array.mean(axis=0, dtype=np.float64)
    return means
