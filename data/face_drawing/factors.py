"""The named numbers that decide a face, their ranges, and how they are drawn at random.

Every face uses one row of independent uniform numbers. Ages, hair, beards and the like then hang
together (older people have grayer hair and deeper folds), while light, pose, skin tone and
background are independent of each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from face_drawing.shapes import Array

Factors = dict[str, Array]


class Factor(NamedTuple):
    """One factor: its name, the closed range it stays in, and what it means."""

    name: str
    low: float
    high: float
    meaning: str


FACTORS: tuple[Factor, ...] = (
    Factor("light_x", -1.0, 1.0, "side the main light comes from: -1 left, 1 right of the picture"),
    Factor("light_y", -0.5, 1.0, "height of the main light: -0.5 below, 1 high above"),
    Factor("light_hardness", 0.0, 1.0, "0 soft light from everywhere, 1 one hard lamp"),
    Factor("exposure", -1.0, 1.0, "brightness of the picture: -1 dark, 1 bright"),
    Factor("contrast", -1.0, 1.0, "tone curve: -1 flat, 1 steep"),
    Factor("blur", 0.0, 1.0, "softness of the lens"),
    Factor("yaw", -0.5, 0.5, "head turned, radians: positive shows the nose further right"),
    Factor("pitch", -0.25, 0.25, "head nodding, radians: positive looks down"),
    Factor("roll", -0.2, 0.2, "head tilted, radians: positive turns clockwise"),
    Factor("scale", 0.9, 1.1, "size of the head, 1 on average"),
    Factor("shift_x", -1.0, 1.0, "sideways shift, pixels of the 24"),
    Factor("shift_y", -1.0, 1.0, "downward shift, pixels of the 24"),
    Factor("background", 0.0, 1.0, "tone behind the head: 0 black, 1 white"),
    Factor("background_slope_x", -1.0, 1.0, "background gets brighter to the right"),
    Factor("background_slope_y", -1.0, 1.0, "background gets brighter downwards"),
    Factor("skin", 0.0, 1.0, "skin tone: 0 darkest, 1 lightest"),
    Factor("age", 0.0, 1.0, "0 about twenty, 1 about eighty years"),
    Factor("masculine", 0.0, 1.0, "0 feminine, 1 masculine build of jaw, brows, lips and hair"),
    Factor("face_width", -1.0, 1.0, "-1 narrow, 1 wide face"),
    Factor("jaw", -1.0, 1.0, "-1 pointed, 1 square jaw"),
    Factor("eye_spacing", -1.0, 1.0, "-1 close, 1 far apart"),
    Factor("eye_size", -1.0, 1.0, "-1 small, 1 large"),
    Factor("eye_depth", -1.0, 1.0, "-1 flat, 1 deep sockets"),
    Factor("eye_open", 0.0, 1.0, "0 closed lids, 1 wide open"),
    Factor("gaze", -1.0, 1.0, "eyes look: -1 left, 1 right of the picture"),
    Factor("brow_weight", 0.0, 1.0, "0 thin and faint, 1 thick and dark brows"),
    Factor("brow_height", -1.0, 1.0, "-1 lowered, 1 raised brows"),
    Factor("brow_tilt", -1.0, 1.0, "-1 inner ends down (frown), 1 inner ends up (worry)"),
    Factor("nose_length", -1.0, 1.0, "-1 short, 1 long nose"),
    Factor("nose_width", -1.0, 1.0, "-1 narrow, 1 wide nose"),
    Factor("mouth_width", -1.0, 1.0, "-1 narrow, 1 wide mouth"),
    Factor("lip_fullness", 0.0, 1.0, "0 thin, 1 full lips"),
    Factor("lip_dark", 0.0, 1.0, "0 as the skin, 1 dark lips"),
    Factor("smile", -1.0, 1.0, "-1 corners of the mouth down, 1 broad smile"),
    Factor("mouth_open", 0.0, 1.0, "0 closed, 1 wide open"),
    Factor("teeth", 0.0, 1.0, "how much of an open mouth the teeth fill"),
    Factor("hair_tone", 0.0, 1.0, "0 black, 1 white or very fair"),
    Factor("hair_length", 0.0, 1.0, "0 cropped, 1 falling below the chin at both sides"),
    Factor("hair_volume", 0.0, 1.0, "thickness of the hair outside the skull"),
    Factor("hairline", -1.0, 1.0, "-1 low, 1 high forehead"),
    Factor("recession", 0.0, 1.0, "hair gone from temples and crown: 1 bald on top"),
    Factor("fringe", 0.0, 1.0, "hair falling over the forehead"),
    Factor("parting", -1.0, 1.0, "side of the parting: -1 left, 1 right of the picture"),
    Factor("beard", 0.0, 1.0, "0 shaven, 1 full beard on cheeks and chin"),
    Factor("moustache", 0.0, 1.0, "0 none, 1 thick"),
    Factor("glasses", 0.0, 1.0, "0 without, 1 with glasses (nothing between)"),
    Factor("glasses_weight", 0.0, 1.0, "0 thin light frame, 1 thick dark frame (0 without glasses)"),
)

UNIFORMS_PER_FACE = 64
"""Uniform numbers set aside for the factors of one face: a few more than are used today."""


def sample_factors(uniform: Array) -> Factors:
    """Turn uniform numbers (n, UNIFORMS_PER_FACE) in [0, 1) into one (n,) array per factor."""
    column: Iterator[Array] = iter(uniform.T)

    def flat(low: float = 0.0, high: float = 1.0) -> Array:
        return low + (high - low) * next(column)

    def peaked(low: float = -1.0, high: float = 1.0) -> Array:
        """Draw from a triangle over [low, high]: most faces near the middle, none far out."""
        u = next(column)
        triangle = np.where(u < 0.5, np.sqrt(2.0 * u), 2.0 - np.sqrt(2.0 - 2.0 * u)) / 2.0
        return low + (high - low) * triangle

    def chance(probability: Array | float) -> Array:
        return (next(column) < probability).astype(np.float64)

    def near(centre: Array, spread: float, low: float, high: float) -> Array:
        return np.clip(centre + peaked(-spread, spread), low, high)

    f: Factors = {}
    f["light_x"] = flat(-1.0, 1.0)
    f["light_y"] = peaked(-0.5, 1.0)
    f["light_hardness"] = flat()
    f["exposure"] = peaked()
    f["contrast"] = peaked()
    f["blur"] = flat()
    f["yaw"] = peaked(-0.5, 0.5)
    f["pitch"] = peaked(-0.25, 0.25)
    f["roll"] = peaked(-0.2, 0.2)
    f["scale"] = peaked(0.9, 1.1)
    f["shift_x"] = peaked()
    f["shift_y"] = peaked()
    f["background"] = flat()
    f["background_slope_x"] = peaked()
    f["background_slope_y"] = peaked()
    f["skin"] = flat()
    f["age"] = flat()
    # Two humps near 0.2 and 0.8 with a valley between them.
    f["masculine"] = near(0.2 + 0.6 * chance(0.5), 0.2, 0.0, 1.0)
    masculine, age = f["masculine"], f["age"]

    f["face_width"] = peaked()
    f["jaw"] = near(masculine - 0.5, 0.5, -1.0, 1.0)
    f["eye_spacing"] = peaked()
    f["eye_size"] = near(0.3 - 0.6 * masculine, 0.7, -1.0, 1.0)
    f["eye_depth"] = near(0.8 * masculine - 0.4, 0.6, -1.0, 1.0)
    f["gaze"] = peaked()
    f["brow_weight"] = near(0.25 + 0.5 * masculine, 0.3, 0.0, 1.0)
    f["brow_height"] = near(0.3 - 0.6 * masculine, 0.7, -1.0, 1.0)
    f["brow_tilt"] = peaked()
    f["nose_length"] = near(0.3 * masculine + 0.3 * age - 0.3, 0.7, -1.0, 1.0)
    f["nose_width"] = near(0.4 * masculine - 0.4 * f["skin"], 0.7, -1.0, 1.0)

    f["smile"] = np.where(chance(0.55) > 0.0, flat(0.3, 1.0), flat(-0.7, 0.3))
    happy = np.maximum(f["smile"], 0.0)
    f["eye_open"] = np.where(chance(0.05) > 0.0, 0.0, near(0.75 - 0.3 * happy, 0.25, 0.0, 1.0))
    f["mouth_width"] = peaked()
    f["lip_fullness"] = near(0.7 - 0.3 * masculine - 0.2 * age, 0.3, 0.0, 1.0)
    f["lip_dark"] = near(0.6 - 0.4 * masculine, 0.4, 0.0, 1.0)
    f["mouth_open"] = np.where(chance(0.25 + 0.5 * happy) > 0.0, flat(0.15, 1.0), flat(0.0, 0.05))
    f["teeth"] = np.clip(0.25 + 0.6 * happy + flat(-0.25, 0.25), 0.0, 1.0)

    # Fair hair is rarer on dark skin; gray comes with age.
    own_tone = flat() ** 1.5 * (0.25 + 0.55 * f["skin"])
    gray = np.clip((age - 0.45) * 2.0 + flat(-0.4, 0.4), 0.0, 1.0)
    f["hair_tone"] = np.clip(own_tone + (flat(0.6, 1.0) - own_tone) * gray, 0.0, 1.0)
    long_hair = chance(0.85 - 0.8 * masculine)
    f["hair_length"] = np.where(long_hair > 0.0, flat(0.45, 1.0), flat(0.0, 0.35))
    f["hair_volume"] = near(0.35 + 0.3 * long_hair, 0.35, 0.0, 1.0)
    f["hairline"] = peaked()
    balding = chance(0.75 * masculine * np.clip(0.15 + age, 0.0, 1.0))
    f["recession"] = np.where(balding > 0.0, flat(0.3, 1.0), 0.25 * flat() * masculine)
    f["fringe"] = chance(0.35 - 0.15 * masculine) * flat(0.4, 1.0) * (1.0 - balding)
    f["parting"] = flat(-1.0, 1.0)

    bearded = chance(np.clip(0.7 * masculine - 0.2, 0.0, 1.0))
    f["beard"] = bearded * chance(0.7) * flat(0.2, 1.0)
    f["moustache"] = bearded * np.clip(f["beard"] + flat(-0.3, 0.5), 0.0, 1.0)
    f["glasses"] = chance(0.08 + 0.2 * age)
    f["glasses_weight"] = f["glasses"] * flat(0.1, 1.0)
    return f


def as_table(factors: Factors) -> Array:
    """Stack the (n,) factors as columns, in the order of FACTORS: (n, F)."""
    return np.stack([factors[factor.name] for factor in FACTORS], axis=1)


def as_planes(factors: Factors) -> Factors:
    """Give every (n,) factor the shape (n, 1, 1), so that it broadcasts over a batch of pictures."""
    return {name: value[:, None, None] for name, value in factors.items()}
