"""Soft-edged building blocks that every other file draws with.

All of them work elementwise on arrays that broadcast together, so a whole batch of faces of shape
(n, rows, columns) goes through at once. Lengths are in half head widths.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def ramp(x: Array, width: Array | float) -> Array:
    """Rise smoothly from 0 (at x = -width) to 1 (at x = +width); 0.5 at x = 0."""
    t = np.clip(x / width * 0.5 + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def stripe(x: Array, width: Array | float) -> Array:
    """Return a Gaussian of height 1 at x = 0; width is its standard deviation."""
    return np.exp(-0.5 * (x / width) ** 2)


def bump(x: Array, y: Array, width: Array | float, height: Array | float) -> Array:
    """Return a Gaussian hill of height 1 at the origin; width and height are its deviations."""
    return np.exp(-0.5 * ((x / width) ** 2 + (y / height) ** 2))


def mix(below: Array, above: Array | float, cover: Array) -> Array:
    """Lay one layer over another, where cover runs from 0 (below shows) to 1 (above shows)."""
    return below + (above - below) * cover


def rounded_box(x: Array, y: Array, half_width: float, half_height: float, radius: float) -> Array:
    """Return the signed distance to a box with rounded corners: negative inside, 0 at its edge."""
    dx = np.abs(x) - half_width + radius
    dy = np.abs(y) - half_height + radius
    outside = np.hypot(np.maximum(dx, 0.0), np.maximum(dy, 0.0))
    return outside + np.minimum(np.maximum(dx, dy), 0.0) - radius


def smooth_field(grid: Array, size: int) -> Array:
    """Stretch a grid (n, k, k) of numbers in [0, 1) to a smooth (n, size, size) in [-1, 1]."""
    k = grid.shape[1]
    place = np.linspace(0.0, k - 1.0, size)
    weight = np.maximum(1.0 - np.abs(place[:, None] - np.arange(k)[None, :]), 0.0)
    weight = weight * weight * (3.0 - 2.0 * weight)
    field: Array = weight @ (2.0 * grid - 1.0) @ weight.T
    return field


def blur(image: Array, amount: Array) -> Array:
    """Mix (n, rows, columns) with its 3 x 3 binomial blur; amount (n, 1, 1) runs from 0 to 1."""
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = 0.25 * (padded[:, :-2] + padded[:, 2:]) + 0.5 * padded[:, 1:-1]
    soft = 0.25 * (rows[:, :, :-2] + rows[:, :, 2:]) + 0.5 * rows[:, :, 1:-1]
    return mix(image, soft, amount)


def box_blur(image: Array, half: int) -> Array:
    """Average each pixel of (n, rows, columns) over a square of side 2 * half + 1."""
    side = 2 * half + 1
    for axis in (1, 2):
        widths = [(0, 0), (0, 0), (0, 0)]
        widths[axis] = (half + 1, half)
        total = np.cumsum(np.pad(image, widths, mode="edge"), axis=axis)
        upper = np.take(total, np.arange(side, total.shape[axis]), axis=axis)
        lower = np.take(total, np.arange(total.shape[axis] - side), axis=axis)
        image = (upper - lower) / side
    return image


def block_mean(image: Array, size: int) -> Array:
    """Average (n, size * k, size * k) over k x k blocks to (n, size, size)."""
    n, rows, _ = image.shape
    k = rows // size
    mean: Array = image.reshape(n, size, k, size, k).mean(axis=(2, 4))
    return mean
