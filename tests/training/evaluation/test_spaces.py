"""The spaces that sets of images are compared in: what they see, and that they put sets in the right order."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from vae_training.data.named import embedded_faces
from vae_training.evaluation.resemblance import frechet_distance, measure_resemblance
from vae_training.evaluation.spaces import look_at_gradients, spaces, to_gray


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    with np.load(embedded_faces()) as archive:
        return archive["images"]


def floats(pictures: np.ndarray) -> np.ndarray:
    return (pictures[:, None] / 255).astype(np.float32)


def blurred(pictures: np.ndarray, radius: float) -> np.ndarray:
    blur = ImageFilter.GaussianBlur(radius)
    return np.stack([np.asarray(Image.fromarray(picture).filter(blur)) for picture in pictures])


@pytest.mark.parametrize("space", spaces(), ids=lambda space: space.name)
def test_a_set_is_the_farther_from_real_ones_the_more_it_is_blurred(space, faces: np.ndarray) -> None:
    held_out, others = faces[:400], faces[400:800]
    real = space(floats(held_out))
    same, good, soft, softer = (
        frechet_distance(real, space(floats(pictures)))
        for pictures in (held_out, others, blurred(others, 0.6), blurred(others, 1.2))
    )
    assert same == pytest.approx(0.0, abs=1e-6)
    assert same < good < soft < softer
    assert softer > 3 * good


@pytest.mark.parametrize("space", spaces(), ids=lambda space: space.name)
def test_few_images_again_and_again_are_farther_than_many_and_cover_less(space, faces: np.ndarray) -> None:
    real = space(floats(faces[:400]))
    many = measure_resemblance(real, space(floats(faces[400:800])))
    few = measure_resemblance(real, space(floats(np.tile(faces[400:420], (20, 1, 1)))))
    assert few.frechet > 2 * many.frechet
    assert few.coverage < 0.6 * many.coverage
    assert few.recall < many.recall


def test_upside_down_faces_are_no_faces_to_those_who_know_faces(faces: np.ndarray) -> None:
    drawn = spaces()[0]
    real = drawn(floats(faces[:400]))
    upright, mirrored, upside_down = (
        frechet_distance(real, drawn(floats(pictures)))
        for pictures in (faces[400:800], faces[400:800, :, ::-1].copy(), faces[400:800, ::-1].copy())
    )
    assert upside_down > 5 * mirrored
    assert mirrored < 3 * upright


@pytest.mark.parametrize("space", spaces(), ids=lambda space: space.name)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 24, 24), (3, 64, 48), (3, 12, 8)])
def test_every_space_takes_images_of_any_model(space, shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).uniform(0, 1, (5, *shape)).astype(np.float32)
    features = space(images)
    assert features.shape == (5, space.features)
    assert features.dtype == torch.float64
    assert bool(torch.isfinite(features).all())
    assert torch.equal(features, space(images))
    assert torch.allclose(features[2:3], space(images[2:3]), atol=1e-6)


def test_a_step_of_brightness_is_an_edge_across_it_and_nothing_else() -> None:
    images = torch.zeros(1, 1, 26, 26)
    images[..., 13:] = 1.0  # columns 12 and 13 of the picture without its border see both sides
    strength = look_at_gradients(images).view(8, 4, 4)
    assert torch.equal(strength[1:], torch.zeros(7, 4, 4))
    assert torch.equal(strength[0, :, [0, 3]], torch.zeros(4, 2))
    assert strength[0, :, 1:3].sum() == pytest.approx(8 * 1 / 6)


@pytest.mark.parametrize("direction", range(8))
def test_a_slope_is_seen_in_its_direction_whichever_side_is_bright(direction: int) -> None:
    angle = direction * math.pi / 8
    down, across = torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij")
    slope = 0.5 + 0.02 * (across * math.cos(angle) + down * math.sin(angle))
    strength = look_at_gradients(torch.stack([slope, 1.0 - slope])[:, None]).view(2, 8, 16).mean(2)
    expected = torch.zeros(8)
    expected[direction] = 0.04
    assert torch.allclose(strength, expected.expand(2, -1), atol=1e-5)


@pytest.mark.parametrize("direction", range(8))
def test_a_slope_between_two_directions_is_shared_by_them_and_the_last_is_beside_the_first(
    direction: int,
) -> None:
    angle = (direction + 0.5) * math.pi / 8
    down, across = torch.meshgrid(torch.arange(10.0), torch.arange(10.0), indexing="ij")
    slope = 0.5 + 0.02 * (across * math.cos(angle) + down * math.sin(angle))
    strength = look_at_gradients(slope[None, None]).view(8, 16).mean(1)
    expected = torch.zeros(8)
    expected[[direction, (direction + 1) % 8]] = 0.02
    assert torch.allclose(strength, expected, atol=1e-5)


def test_colour_becomes_gray_as_in_pillow() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    gray = to_gray(torch.from_numpy(picture).permute(2, 0, 1)[None].float())
    assert np.abs(gray[0, 0].numpy() - np.asarray(Image.fromarray(picture).convert("L"))).max() <= 0.51


def test_colours_that_are_one_gray_are_told_apart_by_the_random_filters() -> None:
    random = next(space for space in spaces() if space.name == "random")
    red, green = np.zeros((2, 1, 3, 16, 16), np.float32)
    red[:, 0] = 0.587
    green[:, 1] = 0.299
    assert torch.allclose(to_gray(torch.from_numpy(red)), to_gray(torch.from_numpy(green)))
    assert not torch.allclose(random(red), random(green), atol=1e-2)
