"""Images as differences of neighbouring pixels: the same numbers, which pack to fewer bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.uint8]


def from_differences(differences: Array) -> Array:
    """Undo what `data/wheel_images.py` does to the embedded set.

    Args:
        differences: (N, H, W) uint8. The pixels of all rows of all images, one after another, were differenced twice,
            modulo 256: each with the one before it, then each difference with the one W places before it.

    Returns:
        (N, H, W) uint8, the images.
    """
    along_rows = differences.reshape(-1, differences.shape[-1]).cumsum(axis=0, dtype=np.uint8)
    return along_rows.cumsum(dtype=np.uint8).reshape(differences.shape)
