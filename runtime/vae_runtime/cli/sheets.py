"""Pictures put side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.images import Pictures, to_uint8


def beside_each_other(originals: npt.NDArray[Any], others: npt.NDArray[Any]) -> Pictures:
    """Join each original with its counterpart to one picture of twice the width.

    Args:
        originals: pictures (N, H, W[, C]) uint8, or images (N, C, H, W) floating point.
        others: as many, in either form.

    Returns:
        (N, H, 2 * W) or (N, H, 2 * W, C) uint8.
    """
    return np.concatenate([_pictures(originals), _pictures(others)], axis=2)


def _pictures(images: npt.NDArray[Any]) -> Pictures:
    if images.dtype != np.uint8:
        return to_uint8(images)
    # One channel may come with its axis or without.
    return images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images
