"""Images as differences of neighbouring pixels: the same numbers, which pack to fewer bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.uint8]


def from_differences(differences: Array) -> Array:
    """Undo what `data/wheel_images.py` does to the embedded set.

    Args:
        differences: (N, H, W) uint8. All rows of all images stand one after another: of each pixel the one before it
            was taken away, and of that what came out for the pixel W before, modulo 256.

    Returns:
        (N, H, W) uint8, the images.
    """
    along_rows = differences.reshape(-1, differences.shape[-1]).cumsum(axis=0, dtype=np.uint8)
    return along_rows.cumsum(dtype=np.uint8).reshape(differences.shape)
