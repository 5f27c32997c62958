"""Draw whole sets of faces: factors to geometry to light to the camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from face_drawing import colouring
from face_drawing.factors import (
    FACTORS,
    UNIFORMS_PER_FACE,
    Factors,
    as_planes,
    as_table,
    sample_factors,
)
from face_drawing.hair import place_hair
from face_drawing.head import PIXELS_PER_UNIT, place_landmarks, view_head
from face_drawing.lighting import light_egg, light_head
from face_drawing.shapes import Array, block_mean, blur, mix, ramp, smooth_field

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGE_SIZE = 24
DRAWING_SIZE = 72
"""Faces are drawn three times finer than they are kept; all edges are soft, so that suffices."""
BATCH = 32
"""Faces drawn at once: enough for numpy to be quick, few enough to need little memory."""
GRAY_STEP = 5
"""Gray values are multiples of this: 52 levels look the same and make a smaller file."""
NOISE = 2.0
"""Standard deviation of the noise of the camera, in gray values of 0 to 255."""
MOTTLE_GRID = 6
CLUTTER_GRID = 4
"""Sides of the coarse random grids behind uneven skin and blurred background shapes."""


@dataclass(frozen=True)
class FaceSet:
    """Faces and the numbers they were drawn from.

    images: (n, 24, 24) uint8, gray, 0 black to 255 white in steps of 5;
    factors: (n, F) float32, in the ranges of FACTORS;
    factor_names: the F names, in the order of the columns.
    """

    images: NDArray[np.uint8]
    factors: NDArray[np.float32]
    factor_names: tuple[str, ...]


@dataclass(frozen=True)
class Texture:
    """Random detail that no factor names, in [0, 1)."""

    mottle: Array
    """(n, 6, 6): lighter and darker patches of skin."""
    clutter: Array
    """(n, 4, 4): blurred shapes in the background."""
    noise: Array
    """(n, 24, 24): noise of the camera."""


def draw_faces(n: int, seed: int) -> FaceSet:
    """Draw n faces. The same seed gives the same faces, and face i is the same for every n > i."""
    if n < 1:
        message = f"n must be at least 1, got {n}"
        raise ValueError(message)
    rng = np.random.Generator(np.random.PCG64(seed))
    images, tables = [], []
    for start in range(0, n, BATCH):
        factors, texture = draw_numbers(rng, min(BATCH, n - start))
        images.append(photograph(as_planes(factors), texture))
        tables.append(as_table(factors))
    names = tuple(factor.name for factor in FACTORS)
    return FaceSet(np.concatenate(images), np.concatenate(tables).astype(np.float32), names)


def draw_numbers(rng: np.random.Generator, n: int) -> tuple[Factors, Texture]:
    """Draw all random numbers of n faces: one row each, so that no face depends on later ones."""
    shapes = ((MOTTLE_GRID, MOTTLE_GRID), (CLUTTER_GRID, CLUTTER_GRID), (IMAGE_SIZE, IMAGE_SIZE))
    ends = np.cumsum([UNIFORMS_PER_FACE] + [rows * columns for rows, columns in shapes])
    uniform = rng.random((n, int(ends[-1])))
    parts = np.split(uniform, ends[:-1], axis=1)
    grids = [part.reshape(n, *shape) for part, shape in zip(parts[1:], shapes, strict=True)]
    return sample_factors(parts[0]), Texture(*grids)


def photograph(f: Factors, texture: Texture) -> NDArray[np.uint8]:
    """Take the gray pictures (n, 24, 24) uint8 of the scenes."""
    light = render(f, texture)
    # A camera sets its exposure by what it sees, above all in the middle, but not perfectly.
    edge = DRAWING_SIZE // 4
    middle = light[:, edge:-edge, edge:-edge]
    mean = 0.5 * light.mean(axis=(1, 2), keepdims=True)
    mean = mean + 0.5 * middle.mean(axis=(1, 2), keepdims=True)
    light = light * (0.39 / mean) ** 0.7 * 2.0 ** (0.8 * f["exposure"])
    light = block_mean(blur(light, f["blur"]), IMAGE_SIZE)
    light = blur(light, 0.4 * f["blur"])
    # Display gamma 2, then a shoulder that keeps highlights from burning out.
    tone = np.sqrt(light)
    tone = tone / (1.0 + tone**6) ** (1.0 / 6.0)
    tone = 0.5 + (tone - 0.5) * (0.98 + 0.25 * f["contrast"])
    # Uniform numbers have the standard deviation 1 / sqrt(12).
    gray = 255.0 * tone + NOISE * np.sqrt(12.0) * (texture.noise - 0.5)
    stepped = GRAY_STEP * np.rint(gray / GRAY_STEP)
    pictures: NDArray[np.uint8] = np.clip(stepped, 0, 255).astype(np.uint8)
    return pictures


def render(f: Factors, texture: Texture) -> Array:
    """Return the light (n, 72, 72) that reaches the camera from head, hair and background."""
    marks = place_landmarks(f)
    view = view_head(f, marks, DRAWING_SIZE, IMAGE_SIZE)
    unit = PIXELS_PER_UNIT * f["scale"] * (DRAWING_SIZE / IMAGE_SIZE)
    head_light = light_head(f, view.depth, unit)
    egg_light = light_egg(f, view.x / 1.3, view.y / 1.9)
    hair = place_hair(f, view)
    hair_light = colouring.hair_reflectance(f) * hair.strands * egg_light
    skin_light = colouring.skin_reflectance(f) * egg_light

    # From the back to the front.
    picture = background(f, texture.clutter)
    shoulders = ramp(view.y - 1.25 - 0.12 * np.abs(view.x), 0.12)
    picture = mix(picture, (0.02 + 0.4 * f["clothes"] ** 2) * egg_light, shoulders)
    picture = mix(picture, 0.5 * hair_light, hair.behind)
    neck = ramp(0.62 + 0.12 * f["masculine"] - np.abs(view.x), 0.1) * ramp(view.y - 0.9, 0.1)
    picture = mix(picture, 0.45 * skin_light, neck)
    picture = mix(picture, 0.75 * skin_light, colouring.ear_cover(f, view))
    mottle = 1.0 + 0.18 * smooth_field(texture.mottle, DRAWING_SIZE)
    face = colouring.face_reflectance(f, marks, view) * head_light.diffuse * mottle
    picture = mix(picture, face + head_light.gloss, ramp(1.0 - view.radius, 0.05))
    picture = mix(picture, hair_light, hair.front)
    frame = colouring.glasses_reflectance(f) * (0.3 + 0.7 * egg_light)
    return mix(picture, frame, colouring.glasses_cover(f, view))


def background(f: Factors, clutter: Array) -> Array:
    """Return a soft background (n, 72, 72) whose tone slopes and varies across the picture."""
    across = (np.arange(DRAWING_SIZE) + 0.5) / DRAWING_SIZE - 0.5
    right, down = across[None, None, :], across[None, :, None]
    tone = f["background"] + 0.6 * f["background_slope_x"] * right
    tone = tone + 0.6 * f["background_slope_y"] * down
    tone = tone + 0.3 * f["clutter"] * smooth_field(clutter, DRAWING_SIZE)
    # Squared: tones spread evenly in the finished picture, whose gamma is 2.
    return 0.55 * np.clip(tone, 0.1, 1.0) ** 2
