"""Light on the surface: one lamp, light from all around, cast shadows and shaded hollows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from face_drawing.shapes import Array, box_blur, ramp

if TYPE_CHECKING:
    from face_drawing.factors import Factors


class Light(NamedTuple):
    """Light on every point of the head, (n, rows, columns)."""

    diffuse: Array
    """To be multiplied with the reflectance; about 1 in full light."""
    gloss: Array
    """To be added: the lamp mirrored in glossy skin."""


def lamp_direction(f: Factors) -> tuple[Array, Array, Array]:
    """Return the unit vector towards the lamp: right, down, towards the viewer; each (n, 1, 1)."""
    x, y = 1.3 * f["light_x"], -1.1 * f["light_y"]
    length = np.sqrt(x * x + y * y + 1.0)
    return x / length, y / length, 1.0 / length


def lamp_share(f: Factors) -> Array:
    """Return the part of all light that comes from the lamp."""
    return 0.4 + 0.5 * f["light_hardness"]


def lambert(f: Factors, slope_x: Array, slope_y: Array) -> Array:
    """Return the light a surface of these slopes takes from the lamp: 1 where it faces it."""
    lamp_x, lamp_y, lamp_z = lamp_direction(f)
    facing = lamp_z - slope_x * lamp_x - slope_y * lamp_y
    facing = facing / np.sqrt(1.0 + slope_x**2 + slope_y**2)
    # A lamp of some size still reaches a little beyond the horizon.
    wrap = 0.25 * (1.0 - f["light_hardness"])
    return np.maximum((facing + wrap) / (1.0 + wrap), 0.0)


def mirror_glint(f: Factors, slope_x: Array, slope_y: Array) -> Array:
    """Return the broad highlight of a glossy surface: 1 where it mirrors the lamp to the camera."""
    lamp_x, lamp_y, lamp_z = lamp_direction(f)
    length = np.sqrt(lamp_x**2 + lamp_y**2 + (lamp_z + 1.0) ** 2)
    facing = (lamp_z + 1.0 - slope_x * lamp_x - slope_y * lamp_y) / length
    facing = facing / np.sqrt(1.0 + slope_x**2 + slope_y**2)
    return np.maximum(facing, 0.0) ** 16


def cast_shadow(f: Factors, depth: Array, unit: Array) -> Array:
    """Return how deep each point lies in the shadow of others, by steps towards the lamp.

    depth is (n, rows, columns); unit, (n, 1, 1), is the number of grid pixels in its unit length.
    """
    n, rows, columns = depth.shape
    lamp_x, lamp_y, lamp_z = lamp_direction(f)
    face = np.arange(n)[:, None, None]
    row = np.arange(rows)[None, :, None]
    column = np.arange(columns)[None, None, :]
    shadow = np.zeros_like(depth)
    for step in (0.08, 0.15, 0.24, 0.36, 0.5):
        down = np.rint(step * lamp_y * unit).astype(np.int64)
        right = np.rint(step * lamp_x * unit).astype(np.int64)
        there = np.clip(row + down, 0, rows - 1), np.clip(column + right, 0, columns - 1)
        above = depth[face, there[0], there[1]] - depth - step * lamp_z
        # The margin keeps a surface from shading itself through rounding to whole pixels.
        shadow = np.maximum(shadow, ramp(above - 0.03, 0.08))
    return shadow


def light_head(f: Factors, depth: Array, unit: Array) -> Light:
    """Light the head whose surface is depth; arguments as for cast_shadow."""
    slope_y, slope_x = np.gradient(depth, axis=(1, 2))
    slope_x, slope_y = slope_x * unit, slope_y * unit
    lamp = lambert(f, slope_x, slope_y) * (1.0 - 0.85 * cast_shadow(f, depth, unit))
    # Light from all around: a little more from above, and less in hollows.
    normal_up = slope_y / np.sqrt(1.0 + slope_x**2 + slope_y**2)
    hollow = np.maximum(box_blur(depth, depth.shape[1] // 14) - depth, 0.0)
    around = (0.8 + 0.25 * normal_up) * np.exp(-9.0 * hollow)
    share = lamp_share(f)
    gloss = 0.1 * f["shine"] * share * mirror_glint(f, slope_x, slope_y) * (lamp > 0.0)
    return Light(share * 1.25 * lamp + (1.0 - share) * around, gloss)


def light_egg(f: Factors, x: Array, y: Array) -> Array:
    """Return the light on a smooth ball that fills the unit circle: for hair, ears and neck."""
    # Short of the rim, where the slopes would be infinite.
    toward = np.sqrt(1.0 - np.minimum(x * x + y * y, 0.85))
    share = lamp_share(f)
    return share * 1.25 * lambert(f, -x / toward, -y / toward) + (1.0 - share) * 0.8
