"""What the face is made of: the reflectance of skin, eyes, brows, mouth, beard and glasses.

Reflectances are linear (twice the number sends back twice the light) and lie between 0 and 1.
Each painter takes the layer below it and returns it with its own laid on top. The numbers in this
file are proportions of faces and of their tones, set by eye.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from face_drawing.shapes import Array, bump, mix, ramp, rounded_box, stripe

if TYPE_CHECKING:
    from face_drawing.factors import Factors
    from face_drawing.head import Landmarks, View

EDGE = 0.05
"""Half width of an ordinary edge: half a pixel of the final picture."""


def skin_reflectance(f: Factors) -> Array:
    """Return the plain skin tone, (n, 1, 1)."""
    return 0.11 + 0.5 * f["skin"] ** 1.2


def hair_reflectance(f: Factors) -> Array:
    """Return the plain hair tone, (n, 1, 1)."""
    return 0.012 + 0.45 * f["hair_tone"] ** 2


def face_reflectance(f: Factors, marks: Landmarks, view: View) -> Array:
    """Colour the whole face (n, rows, columns), without scalp hair and without glasses."""
    side = np.abs(view.u)
    # Cheeks and nose are a little darker (redder) than the forehead, and sockets darker still.
    cheeks = 0.12 * bump(side - 0.55, view.v - 0.5, 0.22, 0.2)
    nose = 0.1 * bump(view.u, view.v - 0.55, 0.15, 0.15)
    socket = bump(side - marks.eye_u, view.v, 0.25, 0.15)
    colour = skin_reflectance(f) * (1.0 - cheeks - nose)
    colour = colour * (1.0 - (0.4 + 0.15 * f["age"]) * socket)
    colour = paint_beard(colour, f, marks, view)
    colour = paint_nostrils(colour, marks, view)
    colour = paint_mouth(colour, f, marks, view)
    colour = paint_eyes(colour, f, marks, view)
    return paint_brows(colour, f, marks, view)


def paint_beard(below: Array, f: Factors, marks: Landmarks, view: View) -> Array:
    """Cover cheeks, chin and upper lip with beard and moustache, in the tone of the hair."""
    side = np.abs(view.u)
    mouth = view.v - marks.mouth_v
    cheek_line = 0.02 - 0.8 * ramp(side - 0.65, 0.4)
    cheeks = ramp(mouth - cheek_line, 0.16) * ramp(side - 0.3 + mouth, 0.25)
    area = np.maximum(cheeks, ramp(mouth - 0.16, 0.08))
    lips = bump(view.u, mouth, 0.24, 0.07)
    tone = 0.8 * hair_reflectance(f) + 0.01
    # Half a beard already hides most of the skin, hence the square roots.
    colour = mix(below, tone, 0.95 * np.sqrt(f["beard"]) * area * (1.0 - lips))
    # Shaven men keep a faint shadow.
    colour = colour * (1.0 - 0.15 * f["masculine"] * area)

    middle = 0.5 * (marks.nose_v - marks.mouth_v) + 0.06
    upper_lip = stripe(mouth - middle - 0.18 * side**2, 0.07) * ramp(0.48 - side, 0.14)
    return mix(colour, tone, 0.95 * np.sqrt(f["moustache"]) * upper_lip)


def paint_nostrils(below: Array, marks: Landmarks, view: View) -> Array:
    """Darken the two nostrils and the underside of the nose."""
    nostril_u = np.abs(view.u) - 0.5 * marks.nose_half_width
    holes = bump(nostril_u, view.v - marks.nose_v + 0.005, 0.06, 0.035)
    under = bump(view.u, view.v - marks.nose_v - 0.01, 0.8 * marks.nose_half_width, 0.05)
    return below * (1.0 - 0.6 * holes) * (1.0 - 0.15 * under)


def paint_mouth(below: Array, f: Factors, marks: Landmarks, view: View) -> Array:
    """Paint lips, the dark of an open mouth, and teeth."""
    across = view.u / marks.mouth_half_width
    within = ramp(1.0 - np.abs(across), 0.12)
    # 1 in the middle of the mouth, 0 at its corners.
    middle = np.clip(1.0 - across**2, 0.0, 1.0)
    # Corners rise with a smile: v grows downwards, so the middle lies lower.
    bow = 0.15 * np.where(f["smile"] > 0.0, f["smile"], 0.8 * f["smile"]) * (middle - 0.6)
    line = view.v - marks.mouth_v - bow
    happy = np.maximum(f["smile"], 0.0)
    gap_above = 0.05 * f["mouth_open"] * middle
    gap_below = (0.02 + 0.32 * f["mouth_open"] * (1.0 - 0.3 * happy)) * middle

    cupid_bow = 1.0 - 0.25 * stripe(view.u, 0.05)
    upper = (0.05 + 0.06 * f["lip_fullness"]) * np.sqrt(middle) * cupid_bow
    lower = (0.06 + 0.09 * f["lip_fullness"]) * np.sqrt(middle)
    lips = ramp(line + gap_above + upper, EDGE) * ramp(gap_below + lower - line, EDGE) * within
    colour = mix(below, skin_reflectance(f) * (0.7 - 0.45 * f["lip_dark"]), lips)

    opening = ramp(line + gap_above, 0.04) * ramp(gap_below - line, 0.04) * within
    colour = mix(colour, 0.02, opening)
    parting = stripe(line, 0.035) * within * (1.0 - f["mouth_open"])
    corners = bump(np.abs(across) - 1.0, line, 0.1, 0.05)
    colour = colour * (1.0 - 0.6 * parting) * (1.0 - 0.4 * corners)

    teeth_end = (gap_below + gap_above) * (0.35 + 0.6 * f["teeth"]) - gap_above
    teeth = opening * ramp(teeth_end - line, 0.04) * ramp(0.9 - np.abs(across), 0.25)
    # They show only where there is an opening to speak of, and darken towards the corners.
    teeth = teeth * ramp(f["teeth"] - 0.2, 0.2) * ramp(f["mouth_open"] - 0.1, 0.1)
    return mix(colour, 0.55 - 0.12 * f["age"], teeth * (1.0 - 0.3 * across**2))


def paint_eyes(below: Array, f: Factors, marks: Landmarks, view: View) -> Array:
    """Paint the white of the eyes, the iris, the line of the lashes and the fold of the lid."""
    beside = np.abs(view.u) - marks.eye_u
    across = beside / marks.eye_half_width
    middle = np.clip(1.0 - across**2, 0.0, 1.0)
    opening = f["eye_open"] * (1.0 + 0.25 * f["eye_size"])
    upper = 0.115 * opening * middle**0.7
    # A smile lifts the lower lid.
    lower = 0.065 * (0.3 + 0.7 * opening) * middle - 0.03 * np.maximum(f["smile"], 0.0)
    line = view.v - 0.01
    slit = ramp(line + upper, 0.04) * ramp(lower - line, 0.04) * ramp(1.0 - np.abs(across), 0.15)

    white = 0.36 * (1.0 - 0.4 * stripe(line + upper, 0.05))
    colour = mix(below, white, slit)
    iris_u = view.u - np.sign(view.u) * marks.eye_u - 0.07 * f["gaze"]
    iris = ramp(0.12 - np.hypot(iris_u, line + 0.02), 0.035)
    colour = mix(colour, 0.03, slit * iris)

    lashes = stripe(line + upper, 0.06 - 0.015 * f["masculine"]) * ramp(1.1 - np.abs(across), 0.2)
    fold = bump(beside, line + upper + 0.09, 0.17, 0.025)
    return colour * (1.0 - 0.8 * lashes) * (1.0 - 0.25 * fold)


def paint_brows(below: Array, f: Factors, marks: Landmarks, view: View) -> Array:
    """Paint the brows: arched bands that thin towards the temples."""
    along = (np.abs(view.u) - 0.17) / 0.55
    arch = 0.1 * (1.0 - (2.0 * along - 1.1) ** 2) - 0.05
    tilt = 0.09 * f["brow_tilt"] * (along - 0.5)
    line = view.v - marks.brow_v + arch - tilt
    half_thick = (0.04 + 0.055 * f["brow_weight"]) * (1.15 - 0.5 * along)
    cover = ramp(half_thick - np.abs(line), EDGE) * ramp(along, 0.1) * ramp(1.0 - along, 0.2)
    tone = 0.6 * hair_reflectance(f) + 0.1 * skin_reflectance(f)
    return mix(below, tone, (0.45 + 0.5 * f["brow_weight"]) * cover)


def ear_cover(f: Factors, view: View) -> Array:
    """Return the cover of the two ears; long hair hides them."""
    side = np.abs(view.x + 0.25 * np.sin(f["yaw"]))
    distance = np.hypot((side - view.half_width) / 0.13, (view.y - 0.12) / 0.32)
    return ramp(1.0 - distance, 0.3) * (1.0 - ramp(f["hair_length"] - 0.45, 0.1))


def glasses_cover(f: Factors, view: View) -> Array:
    """Return the cover of the frame: two rounded rims, the bridge and the start of the arms."""
    side = np.abs(view.u) - 0.47
    half_thick = 0.025 + 0.035 * f["glasses_weight"]
    rims = ramp(half_thick - np.abs(rounded_box(side, view.v - 0.05, 0.31, 0.22, 0.15)), 0.04)
    bridge = ramp(0.16 - np.abs(view.u), 0.03) * ramp(half_thick - np.abs(view.v + 0.06), 0.03)
    arms = ramp(side - 0.31, 0.03) * ramp(half_thick - np.abs(view.v + 0.05), 0.03)
    arms = arms * ramp(1.0 - view.radius, EDGE)
    return f["glasses"] * np.maximum(np.maximum(rims, bridge), arms)


def glasses_reflectance(f: Factors) -> Array:
    """Return the tone of the frame: thin frames shine like metal, thick ones are dark."""
    return 0.22 - 0.2 * f["glasses_weight"]
