"""Where the hair lies: behind the head, on the scalp and over the forehead."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from face_drawing.head import HEAD_HEIGHT, View
from face_drawing.shapes import Array, mix, ramp

if TYPE_CHECKING:
    from face_drawing.factors import Factors


class Hair(NamedTuple):
    """Covers from 0 to 1 and strand pattern about 1, all of shape (n, rows, columns)."""

    behind: Array
    """Hair that the head hides where it stands before it."""
    front: Array
    """Hair that hides the head."""
    strands: Array
    """What the hair tone is multiplied with, for lighter and darker strands."""


def place_hair(f: Factors, view: View) -> Hair:
    """Work out where the hair is and how its strands run."""
    is_long = ramp(f["hair_length"] - 0.4, 0.05)
    # A wavy edge, other for every parting, so that no two outlines agree.
    wave = 0.025 * np.sin(5.0 * np.arctan2(view.x, -view.y) + 9.0 * f["parting"])
    lower_end = 0.25 + (0.3 + 1.5 * f["hair_length"]) * is_long

    # The outside of the hair: a cap around the skull, straight down at both sides.
    thick = (0.04 + 0.2 * f["hair_volume"]) * (1.0 - 0.8 * f["recession"])
    half_width = view.half_width + thick + wave + 0.1 * is_long * ramp(view.y, 1.0)
    above = np.maximum(-view.y, 0.0) / (HEAD_HEIGHT + thick)
    cap = 1.0 - (np.abs(view.x) / half_width) ** 2.3 - above**2.3
    behind = ramp(cap, 0.12) * ramp(lower_end - view.y + wave, 0.12)

    front = np.maximum(scalp_cover(f, view, is_long, lower_end, wave), fringe_cover(f, view))
    # What is left on a balding head is thin.
    front = front * ramp(cap + 0.05, 0.12) * (1.0 - 0.35 * f["recession"])

    direction = np.arctan2(view.x - 0.6 * f["parting"], 1.9 + view.y)
    pattern = np.sin(11.0 * (1.0 + 0.4 * f["hair_volume"]) * direction + 20.0 * f["parting"])
    return Hair(behind, front, 1.0 + 0.3 * pattern)


def scalp_cover(f: Factors, view: View, is_long: Array, lower_end: Array, wave: Array) -> Array:
    """Return the cover of hair on the head: all that is outside a rounded field around the face."""
    top = 0.86 + 0.14 * f["hairline"] + 0.85 * f["recession"]
    # Long hair hangs over the edge of the cheeks; receding hair bares the temples.
    inner = view.half_width * (0.9 - 0.1 * f["hair_volume"] * is_long + 0.06 * f["recession"])
    up = np.maximum(0.15 - view.v, 0.0) / (top + 0.15)
    field = (np.abs(view.u) / inner) ** 2.8 + up**2.8 + 0.5 * wave
    sideburn_end = mix(0.2 + 0.25 * f["masculine"], lower_end, is_long)
    return ramp(field - 1.0, 0.16) * ramp(sideburn_end - view.y, 0.15)


def fringe_cover(f: Factors, view: View) -> Array:
    """Return the cover of the fringe, which hangs lower on one side of the parting."""
    uneven = 0.04 * np.sin(9.0 * view.u)
    end = 0.5 * f["fringe"] - 0.95 - 0.25 * f["parting"] * view.u + uneven
    return ramp(end - view.v, 0.09) * ramp(f["fringe"] - 0.2, 0.2)
