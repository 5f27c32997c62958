"""Directions of attributes: the arithmetic, and what they do to faces whose every factor is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vae_runtime
from vae_runtime import ClosedError, InputError, Model, attribute_direction, noise

Array = npt.NDArray[Any]

FACES = Path(__file__).resolve().parents[2] / "data" / "faces24.npz"


# The arithmetic


@given(st.integers(0, 999), st.integers(1, 40), st.integers(1, 40), st.integers(1, 9))
def test_it_is_the_difference_of_the_means(seed: int, have: int, lack: int, size: int) -> None:
    numbers = np.random.default_rng(seed)
    a, b = numbers.normal(3, 2, (have, size)), numbers.normal(-1, 1, (lack, size))
    direction = attribute_direction(a.astype(np.float32), b)
    assert direction.dtype == np.float32
    exact = [sum(column) / have - sum(other) / lack for column, other in zip(a.T, b.T, strict=True)]
    np.testing.assert_allclose(direction, exact, atol=1e-5)


def test_a_step_of_it_leads_from_one_mean_to_the_other() -> None:
    a, b = noise(50, 4, 1) + 2, noise(30, 4, 2)
    np.testing.assert_allclose(b.mean(axis=0) + attribute_direction(a, b), a.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("have", "lack", "words"),
    [
        (np.zeros((0, 3)), np.zeros((2, 3)), r"latents_with of type float64 and shape \(0, 3\); expected"),
        (np.zeros((2, 3)), np.zeros(3), r"latents_without of type float64 and shape \(3,\)"),
        (np.zeros((2, 3)), np.zeros((2, 4)), r"latents of sizes 3 \(with\) and 4 \(without\)"),
        (np.zeros((2, 3), bool), np.zeros((2, 3)), "latents_with of type bool"),
        ([[0.0, np.nan]], [[0.0, 1.0]], r"latents_with hold nan at index \(0, 1\)"),
        ([[1e300]], [[0.0]], r"directions hold inf at index \(0,\)"),
        ([[3.0, 1.0], [1.0, 3.0]], [[2.0, 2.0]], "latents with the same mean on both sides"),
        ([[1.0], [1.0, 2.0]], [[0.0]], "latents_with: cannot be made an array"),
    ],
)
def test_what_are_no_latents_is_refused(have: Any, lack: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        attribute_direction(have, lack)


@pytest.mark.parametrize("name", ["gray", "colour"])
def test_an_edited_image_is_decoded_from_its_mean_and_so_much_of_the_direction(
    request: pytest.FixtureRequest, name: str
) -> None:
    model: Model = request.getfixturevalue(name)
    images = model.sample(70, 1)
    direction = noise(1, model.card.latent_size, 2)[0]
    mean = model.encode(images).mean
    for strength in (-1.5, 0, 1.0, np.float64(2)):
        np.testing.assert_array_equal(
            model.edit(images, direction, strength), model.decode(mean + np.float32(strength) * direction)
        )
    np.testing.assert_array_equal(model.edit(images, direction, 0), model.reconstruct(images))
    pictures = model.edit(images, direction.astype(np.float64), dtype="uint8")
    np.testing.assert_array_equal(pictures, model.decode(mean + direction, dtype="uint8"))
    assert len(model.edit(images[:0], direction)) == 0


@pytest.mark.parametrize(
    ("direction", "strength", "words"),
    [
        (np.zeros(4), 1, r"a direction of type float64 and shape \(4,\); expected floating point \(3,\)"),
        (np.zeros((1, 3)), 1, r"shape \(1, 3\)"),
        ([0.0, np.inf, 0.0], 1, r"directions hold inf at index \(1,\)"),
        ("smile", 1, "a direction of type <U5"),
        (np.zeros(3), np.nan, "strength is nan; expected a number"),
        (np.zeros(3), "much", "strength is 'much'"),
        (np.zeros(3), [1, 2], r"strength is \[1, 2\]"),
        (np.zeros(3), None, "strength is None"),
        (np.zeros(3), 1e300, r"strength is 1e\+300"),
        (np.full(3, 3e38), 3e38, "latents hold inf"),
    ],
)
def test_what_leads_nowhere_is_refused(gray: Model, direction: Any, strength: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        gray.edit(gray.sample(2, 1), direction, strength)


def test_a_closed_model_edits_nothing(gray_bundle: Path) -> None:
    model = vae_runtime.load(gray_bundle)
    images = model.sample(2, 1)
    model.close()
    with pytest.raises(ClosedError):
        model.edit(images, np.zeros(3))


# What it does to faces


class Drawn(NamedTuple):
    """The embedded faces with the numbers they were drawn from."""

    pictures: Array
    factors: dict[str, Array]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    with np.load(FACES) as arrays:
        columns = zip(arrays["factor_names"].tolist(), arrays["factors"].T.astype(np.float64), strict=True)
        return Drawn(arrays["images"], dict(columns))


LEARNED, JUDGED, SHOWN = slice(0, 2500), slice(2500, 5500), slice(5500, 6000)


def extremes(factor: Array) -> tuple[Array, Array]:
    """Which have most of it, and which least: three tenths each."""
    return factor >= np.quantile(factor, 0.7), factor <= np.quantile(factor, 0.3)


class Judge:
    """Tells factors from pixels: ridge regression on the model's own renderings of faces that edits never see."""

    def __init__(self, model: Model, drawn: Drawn) -> None:
        pixels = self._pixels(model.reconstruct(drawn.pictures[JUDGED]))
        factors = np.stack([factor[JUDGED] for factor in drawn.factors.values()], axis=1)
        self._names = list(drawn.factors)
        self._mean = pixels.mean(axis=0)
        centred = pixels - self._mean
        ridge = 5 * np.eye(pixels.shape[1])
        products = centred.T @ (factors - factors.mean(axis=0))
        self._weights = np.linalg.solve(centred.T @ centred + ridge, products)

    def __call__(self, name: str, images: Array) -> Array:
        found: Array = (self._pixels(images) - self._mean) @ self._weights[:, self._names.index(name)]
        return found

    @staticmethod
    def _pixels(images: Array) -> Array:
        return images.reshape(len(images), -1).astype(np.float64)


@pytest.fixture(scope="module")
def judge(faces: Model, drawn: Drawn) -> Judge:
    return Judge(faces, drawn)


@pytest.mark.parametrize("name", ["glasses", "yaw", "hair_tone", "mouth_open", "skin", "age"])
def test_a_direction_of_some_faces_moves_its_factor_in_others(
    faces: Model, drawn: Drawn, judge: Judge, name: str
) -> None:
    factor = drawn.factors[name]
    have, lack = extremes(factor[LEARNED])
    latents = faces.encode(drawn.pictures[LEARNED]).mean
    direction = attribute_direction(latents[have], latents[lack])
    shown = drawn.pictures[SHOWN]
    found = {strength: judge(name, faces.edit(shown, direction, strength)) for strength in (-1, 0, 1)}
    assert np.corrcoef(found[0], factor[SHOWN])[0, 1] > 0.45  # the judge can tell
    # The difference that a judge sees between most and least is what a step of the direction makes.
    gap = found[0][extremes(factor[SHOWN])[0]].mean() - found[0][extremes(factor[SHOWN])[1]].mean()
    for strength in (-1, 1):
        moved = (found[strength] - found[0]) * strength
        assert 0.5 < moved.mean() / gap < 2.0
        assert np.mean(moved > 0) > 0.9


@pytest.mark.parametrize("name", ["glasses", "beard", "mouth_open", "background"])
def test_what_a_direction_changes_is_where_other_faces_with_and_without_it_differ(
    faces: Model, drawn: Drawn, name: str
) -> None:
    """Pixel by pixel, the originals being the judge: the model has drawn neither side of the comparison."""
    factor, pictures = drawn.factors[name], drawn.pictures / 255.0
    have, lack = (factor > 0.5, factor < 0.05) if name != "background" else extremes(factor)
    latents = faces.encode(drawn.pictures[LEARNED]).mean
    direction = attribute_direction(latents[have[LEARNED]], latents[lack[LEARNED]])
    differ = pictures[2500:][have[2500:]].mean(axis=0) - pictures[2500:][lack[2500:]].mean(axis=0)
    shown = drawn.pictures[SHOWN][lack[SHOWN]]
    change = (faces.edit(shown, direction) - faces.reconstruct(shown)).mean(axis=(0, 1))
    assert np.corrcoef(change.ravel(), differ.ravel())[0, 1] > 0.8
