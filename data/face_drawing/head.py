"""The head as a surface: where each picture point lies on the face, and how high it stands.

Face coordinates (u, v) have their origin midway between the eyes; u runs to the right of the
picture, v downwards, w towards the viewer, all in half head widths. In these units a head reaches
from v = -1.65 (crown) to 1.65 (chin), pupils stand at u = +-0.45, the nose ends near 0.68 and the
mouth lies near 1.03.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from face_drawing.shapes import Array, bump, ramp, stripe

if TYPE_CHECKING:
    from face_drawing.factors import Factors

HEAD_HEIGHT = 1.65
HEAD_DEPTH = 0.95
PIXELS_PER_UNIT = 10.9
"""Of the final 24: the picture then reaches from the hairline nearly to the chin."""
EYE_ROW = 8.2
"""Row of the final 24 on which the eyes of an unshifted head lie."""


class Landmarks(NamedTuple):
    """Where the features of each face are, all of shape (n, 1, 1)."""

    eye_u: Array
    eye_half_width: Array
    brow_v: Array
    nose_v: Array
    nose_half_width: Array
    mouth_v: Array
    mouth_half_width: Array


class View(NamedTuple):
    """The head seen by the camera, of shape (n, rows, columns) unless said otherwise."""

    x: Array
    """Picture coordinates in half head widths, upright with the head, origin at its middle."""
    y: Array
    u: Array
    """Face coordinates of the surface point that each picture point shows."""
    v: Array
    depth: Array
    """Height of that point towards the camera."""
    half_width: Array
    """Half width of the head at its widest, (n, 1, 1)."""
    radius: Array
    """1 on the outline of the head, smaller inside."""


def place_landmarks(f: Factors) -> Landmarks:
    """Work out the places of eyes, brows, nose and mouth from the factors."""
    nose_v = 0.66 + 0.07 * f["nose_length"]
    return Landmarks(
        eye_u=0.46 + 0.04 * f["eye_spacing"],
        eye_half_width=0.225 + 0.03 * f["eye_size"],
        brow_v=-0.29 - 0.06 * f["brow_height"],
        nose_v=nose_v,
        nose_half_width=0.22 + 0.05 * f["nose_width"],
        mouth_v=0.37 + nose_v - 0.03 * f["smile"],
        mouth_half_width=0.38 + 0.06 * f["mouth_width"] + 0.13 * np.maximum(f["smile"], 0.0),
    )


def head_half_width(f: Factors) -> Array:
    """Return half the width of the head at its widest, (n, 1, 1)."""
    return 1.0 + 0.07 * f["face_width"]


def outline_radius(f: Factors, u: Array, v: Array) -> Array:
    """Return 1 on the outline of the head, less inside and more outside it."""
    half_width = head_half_width(f)
    # The lower half of the head bulges (square jaw) or narrows (pointed chin).
    power = np.where(v > 0.0, 2.5 + 0.45 * f["jaw"], 2.2)
    chin = HEAD_HEIGHT + 0.12 * f["mouth_open"] * (v > 0.0)
    return ((np.abs(u) / half_width) ** 2 + (np.abs(v) / chin) ** power) ** 0.5


def relief(f: Factors, marks: Landmarks, u: Array, v: Array) -> Array:
    """Return how far the features at (u, v) stand out from the smooth egg of the head."""
    # A rounded absolute value: a sharp one would fold the face along its middle.
    side = np.sqrt(u * u + 0.015)
    smile = np.maximum(f["smile"], 0.0)
    eye = side - marks.eye_u
    height = 0.06 * f["masculine"] * bump(eye, v - marks.brow_v, 0.3, 0.09)
    height -= (0.19 + 0.08 * f["eye_depth"]) * bump(side - 0.38, v + 0.03, 0.2, 0.15)
    height += 0.05 * bump(eye, v - 0.01, 0.13, 0.1)
    height -= 0.05 * f["age"] * bump(eye + 0.03, v - 0.24, 0.16, 0.04)

    height += nose_height(marks, u, v)
    height += (0.07 + 0.09 * smile) * bump(side - 0.56, v - 0.48 + 0.06 * smile, 0.2, 0.2)
    height -= 0.05 * bump(side - 0.78, v - 0.85, 0.15, 0.3)
    # The fold from the wing of the nose to the corner of the mouth.
    fold_u = 0.3 + 0.55 * (v - marks.nose_v + 0.1) * (0.7 + 0.5 * smile)
    fold = bump(side - fold_u, v - marks.nose_v - 0.13, 0.05, 0.2)
    height -= (0.02 + 0.05 * smile + 0.05 * f["age"]) * fold

    mouth = v - marks.mouth_v
    height += 0.07 * bump(u, mouth, 0.36, 0.2)
    height -= 0.02 * bump(u, mouth + 0.22, 0.04, 0.08)
    fullness = 0.02 + 0.035 * f["lip_fullness"]
    height += fullness * bump(u, mouth + 0.06, 0.25, 0.045)
    height += 1.2 * fullness * bump(u, mouth - 0.09 - 0.12 * f["mouth_open"], 0.22, 0.055)
    height -= 0.05 * bump(u, mouth - 0.25 - 0.15 * f["mouth_open"], 0.22, 0.06)
    height += 0.1 * bump(u, v - 1.47 - 0.1 * f["mouth_open"], 0.24, 0.14)
    return height


def nose_height(marks: Landmarks, u: Array, v: Array) -> Array:
    """Return how far the nose stands out: a ridge that widens and rises to its tip, and wings."""
    along = np.clip((v + 0.2) / (marks.nose_v + 0.12), 0.0, 1.0)
    ridge_width = marks.nose_half_width * (0.42 + 0.28 * along)
    above_base = ramp(marks.nose_v - 0.02 - v, 0.1)
    ridge = ramp(along - 0.25, 0.25) * (0.12 + 0.28 * along**1.5) * above_base
    wing = bump(np.abs(u) - 0.8 * marks.nose_half_width, v - marks.nose_v + 0.09, 0.07, 0.07)
    return ridge * stripe(u, ridge_width) + 0.09 * wing


def view_head(f: Factors, marks: Landmarks, size: int, final_size: int) -> View:
    """Look at the turned head through a size x size grid that later shrinks to final_size."""
    pixel = (np.arange(size) + 0.5) * (final_size / size)
    unit = PIXELS_PER_UNIT * f["scale"]
    right = (pixel[None, None, :] - final_size / 2.0 - f["shift_x"]) / unit
    down = (pixel[None, :, None] - EYE_ROW - f["shift_y"]) / unit
    # The head tilts about a point below the eyes, the middle of the picture.
    pivot = 0.3
    cos, sin = np.cos(f["roll"]), np.sin(f["roll"])
    x = cos * right + sin * (down - pivot)
    y = cos * (down - pivot) - sin * right + pivot
    # Turning carries the features sideways; a photographer follows them with most of that.
    follow = 0.7 * HEAD_DEPTH
    x = x + follow * np.sin(f["yaw"])
    y = y + follow * np.sin(f["pitch"])

    radius = outline_radius(f, x, y)
    egg = HEAD_DEPTH * np.sqrt(1.0 - np.minimum(radius, 1.0) ** 2)
    # Find the face point behind each picture point. The egg looks the same from every side; only
    # the relief has to be found by repetition, and its slopes are mild, so three rounds suffice.
    depth = egg
    for _ in range(3):
        u = x * np.cos(f["yaw"]) - depth * np.sin(f["yaw"])
        v = y * np.cos(f["pitch"]) - depth * np.sin(f["pitch"])
        depth = egg + relief(f, marks, u, v)
    return View(x, y, u, v, depth, head_half_width(f), radius)
