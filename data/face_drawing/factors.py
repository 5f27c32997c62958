"""The named numbers that decide a face, their ranges, and how they are drawn at random.

Every face uses one row of independent uniform numbers. Ages, hair, beards and the like then hang
together (older people have grayer hair and deeper folds), while light, pose, skin tone and
background are independent of each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from face_drawing.shapes import Array

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    Factor("roll", -0.25, 0.25, "head tilted, radians: positive turns clockwise"),
    Factor("scale", 0.875, 1.125, "size of the head, 1 on average"),
    Factor("shift_x", -1.0, 1.0, "sideways shift, pixels of the 24"),
    Factor("shift_y", -1.0, 1.0, "downward shift, pixels of the 24"),
    Factor("background", 0.0, 1.0, "tone behind the head: 0 black, 1 white"),
    Factor("background_slope_x", -1.0, 1.0, "background gets brighter to the right"),
    Factor("background_slope_y", -1.0, 1.0, "background gets brighter downwards"),
    Factor("clothes", 0.0, 1.0, "tone of the shoulders: 0 black, 1 white"),
    Factor("clutter", 0.0, 1.0, "strength of blurred shapes in the background"),
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
    Factor("shine", 0.0, 1.0, "0 powdered, 1 glossy skin"),
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
    Factor("glasses_weight", 0.0, 1.0, "0 thin light frame, 1 thick dark frame (0: no glasses)"),
)

UNIFORMS_PER_FACE = 80
"""Uniform numbers set aside for the factors of one face: a few more than are used today."""


FACTOR_STEP = 1.0 / 128.0
"""Factors are multiples of this, so that float32 holds exactly what a face was drawn from."""


class Columns:
    """Hands out the columns of a table of uniform numbers (n, K) one after the other.

    Each method uses one column and returns (n,) numbers of another distribution.
    """

    def __init__(self, uniform: Array) -> None:
        """Start at the first column; the numbers lie in [0, 1)."""
        self._columns: Iterator[Array] = iter(uniform.T)

    def flat(self, low: float = 0.0, high: float = 1.0) -> Array:
        """Draw evenly from [low, high)."""
        u = next(self._columns)
        return low + (high - low) * u

    def peaked(self, low: float = -1.0, high: float = 1.0) -> Array:
        """Draw from a triangle over [low, high]: most faces near the middle, none far out."""
        u = next(self._columns)
        triangle = np.where(u < 0.5, np.sqrt(2.0 * u), 2.0 - np.sqrt(2.0 - 2.0 * u)) / 2.0
        return low + (high - low) * triangle

    def chance(self, probability: Array | float) -> Array:
        """Draw 1 with this probability, else 0."""
        u = next(self._columns)
        return np.where(u < probability, 1.0, 0.0)

    def near(self, centre: Array, spread: float, low: float, high: float) -> Array:
        """Draw within spread of a centre, cut off to [low, high]."""
        return np.clip(centre + self.peaked(-spread, spread), low, high)


def sample_factors(uniform: Array) -> Factors:
    """Turn uniform numbers (n, UNIFORMS_PER_FACE) in [0, 1) into one (n,) array per factor."""
    c = Columns(uniform)
    f: Factors = {}
    sample_scene(c, f)
    sample_build(c, f)
    sample_expression(c, f)
    sample_hair(c, f)
    return {name: np.rint(value / FACTOR_STEP) * FACTOR_STEP for name, value in f.items()}


def sample_scene(c: Columns, f: Factors) -> None:
    """Draw light, camera, pose, background and clothes: each by itself."""
    f["light_x"] = c.flat(-1.0, 1.0)
    f["light_y"] = c.peaked(-0.5, 1.0)
    f["light_hardness"] = c.flat()
    f["exposure"] = c.peaked()
    f["contrast"] = c.peaked()
    f["blur"] = c.flat()
    f["yaw"] = c.peaked(-0.5, 0.5)
    f["pitch"] = c.peaked(-0.25, 0.25)
    f["roll"] = c.peaked(-0.25, 0.25)
    f["scale"] = c.peaked(0.875, 1.125)
    f["shift_x"] = c.peaked()
    f["shift_y"] = c.peaked()
    f["background"] = c.flat()
    f["background_slope_x"] = c.peaked()
    f["background_slope_y"] = c.peaked()
    f["clutter"] = c.flat()
    f["clothes"] = c.flat()


def sample_build(c: Columns, f: Factors) -> None:
    """Draw skin, age and the shapes of a face, which lean on how masculine it is."""
    f["skin"] = c.flat()
    f["shine"] = c.flat()
    f["age"] = c.flat()
    # Two humps near 0.2 and 0.8 with a valley between them.
    f["masculine"] = c.near(0.2 + 0.6 * c.chance(0.5), 0.2, 0.0, 1.0)
    masculine, age = f["masculine"], f["age"]

    f["face_width"] = c.peaked()
    f["jaw"] = c.near(masculine - 0.5, 0.5, -1.0, 1.0)
    f["eye_spacing"] = c.peaked()
    f["eye_size"] = c.near(0.3 - 0.6 * masculine, 0.7, -1.0, 1.0)
    f["eye_depth"] = c.near(0.8 * masculine - 0.4, 0.6, -1.0, 1.0)
    f["gaze"] = c.peaked()
    f["brow_weight"] = c.near(0.25 + 0.5 * masculine, 0.3, 0.0, 1.0)
    f["brow_height"] = c.near(0.3 - 0.6 * masculine, 0.7, -1.0, 1.0)
    f["brow_tilt"] = c.peaked()
    f["nose_length"] = c.near(0.3 * masculine + 0.3 * age - 0.3, 0.7, -1.0, 1.0)
    f["nose_width"] = c.near(0.4 * masculine - 0.4 * f["skin"], 0.7, -1.0, 1.0)


def sample_expression(c: Columns, f: Factors) -> None:
    """Draw eyelids and mouth, which move together in a smile."""
    masculine, age = f["masculine"], f["age"]
    f["smile"] = np.where(c.chance(0.55) > 0.0, c.flat(0.3, 1.0), c.flat(-0.7, 0.3))
    happy = np.maximum(f["smile"], 0.0)
    f["eye_open"] = np.where(c.chance(0.05) > 0.0, 0.0, c.near(0.75 - 0.3 * happy, 0.25, 0.0, 1.0))
    f["mouth_width"] = c.peaked()
    f["lip_fullness"] = c.near(0.7 - 0.3 * masculine - 0.2 * age, 0.3, 0.0, 1.0)
    f["lip_dark"] = c.near(0.6 - 0.4 * masculine, 0.4, 0.0, 1.0)
    is_open = c.chance(0.3 + 0.5 * happy)
    f["mouth_open"] = np.where(is_open > 0.0, c.flat(0.15, 1.0), c.flat(0.0, 0.05))
    f["teeth"] = np.clip(0.25 + 0.6 * happy + c.flat(-0.25, 0.25), 0.0, 1.0)


def sample_hair(c: Columns, f: Factors) -> None:
    """Draw hair, beard and glasses, which lean on age and on how masculine the face is."""
    masculine, age = f["masculine"], f["age"]
    # Fair hair is rarer on dark skin; gray comes with age.
    own_tone = c.flat() ** 1.5 * (0.25 + 0.55 * f["skin"])
    gray = np.clip((age - 0.45) * 2.0 + c.flat(-0.4, 0.4), 0.0, 1.0)
    f["hair_tone"] = np.clip(own_tone + (c.flat(0.6, 1.0) - own_tone) * gray, 0.0, 1.0)
    long_hair = c.chance(0.85 - 0.8 * masculine)
    f["hair_length"] = np.where(long_hair > 0.0, c.flat(0.45, 1.0), c.flat(0.0, 0.35))
    f["hair_volume"] = c.near(0.35 + 0.3 * long_hair, 0.35, 0.0, 1.0)
    f["hairline"] = c.peaked()
    balding = c.chance(0.75 * masculine * np.clip(0.15 + age, 0.0, 1.0))
    f["recession"] = np.where(balding > 0.0, c.flat(0.3, 1.0), 0.25 * c.flat() * masculine)
    f["fringe"] = c.chance(0.35 - 0.15 * masculine) * c.flat(0.4, 1.0) * (1.0 - balding)
    f["parting"] = c.flat(-1.0, 1.0)

    bearded = c.chance(np.clip(0.9 * masculine - 0.2, 0.0, 1.0))
    f["beard"] = bearded * c.chance(0.7) * c.flat(0.2, 1.0)
    f["moustache"] = bearded * np.clip(f["beard"] + c.flat(-0.3, 0.5), 0.0, 1.0)
    f["glasses"] = c.chance(0.08 + 0.2 * age)
    f["glasses_weight"] = f["glasses"] * c.flat(0.1, 1.0)


def as_table(factors: Factors) -> Array:
    """Stack the (n,) factors as columns, in the order of FACTORS: (n, F)."""
    return np.stack([factors[factor.name] for factor in FACTORS], axis=1)


def as_planes(factors: Factors) -> Factors:
    """Give every (n,) factor the shape (n, 1, 1), to broadcast over a batch of pictures."""
    return {name: value[:, None, None] for name, value in factors.items()}
