"""Noise of observation: draws from p(x given z), compared with the distributions that the likelihoods are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx_bytes import with_cards

import vae_runtime
from vae_runtime import BundleError, Likelihood, Model, to_uint8
from vae_runtime.observation import ObservationNoise

Array = npt.NDArray[Any]

LIKELIHOODS = {"bernoulli": None, "gaussian": 0.05, "discretized-logistic": 0.05}
MANY = 20_000


def draws(card: vae_runtime.Card, likelihood: str, mean: float, seed: int = 3) -> Array:
    """One pixel of this mean, many times."""
    from dataclasses import replace

    noise = ObservationNoise(
        replace(card, likelihood=Likelihood(likelihood, LIKELIHOODS[likelihood])), seed, "here"
    )
    return noise.draw(np.full((MANY // 100, 1, 10, 10), mean, np.float32), 0).ravel().astype(np.float64)


def logistic_cdf(x: Array, mean: float, scale: float) -> Array:
    distribution: Array = 1.0 / (1.0 + np.exp(-(x - mean) / scale))
    return distribution


# Against the distributions


@pytest.mark.parametrize("mean", [0.5, 0.3, 0.02])
def test_a_gaussian_is_normal_and_clipped(gray: Model, mean: float) -> None:
    found = draws(gray.card, "gaussian", mean)
    expected = np.clip(np.random.default_rng(1).normal(mean, 0.05, 100 * MANY), 0, 1)
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        assert np.quantile(found, quantile) == pytest.approx(np.quantile(expected, quantile), abs=0.003)
    assert np.mean(found == 0.0) == pytest.approx(np.mean(expected == 0.0), abs=0.01)


@pytest.mark.parametrize("mean", [0.0, 0.03, 0.5, 0.97, 1.0])
def test_a_bernoulli_is_black_or_white_as_often_as_its_mean_says(gray: Model, mean: float) -> None:
    found = draws(gray.card, "bernoulli", mean)
    assert set(np.unique(found)) <= {0.0, 1.0}
    assert found.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean * (1 - mean) / MANY))


@pytest.mark.parametrize("mean", [0.5, 0.01, 0.98])
def test_a_discretised_logistic_takes_each_of_256_values_as_often_as_its_interval_is_probable(
    gray: Model, mean: float
) -> None:
    found = draws(gray.card, "discretized-logistic", mean)
    values = np.rint(found * 255)
    np.testing.assert_allclose(found, values / 255, atol=1e-7)
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    probable = np.diff(logistic_cdf(edges, mean, 0.05 * np.sqrt(3) / np.pi))
    often = np.bincount(values.astype(int), minlength=256) / MANY
    assert np.abs(often - probable).max() < 5 * np.sqrt(0.25 / MANY)
    # The whole of it, value by value, as a chi-squared statistic over those that are expected often enough.
    enough = probable * MANY > 10
    squares = (often - probable)[enough] ** 2 / probable[enough] * MANY
    assert squares.sum() < enough.sum() + 5 * np.sqrt(2 * enough.sum())


def test_noise_is_that_of_every_pixel_for_itself(gray: Model) -> None:
    pixels = draws(gray.card, "gaussian", 0.5).reshape(-1, 100)
    assert np.abs(np.corrcoef(pixels.T) - np.eye(100)).max() < 0.35  # 200 draws each
    assert np.abs(np.corrcoef(pixels) - np.eye(len(pixels))).max() < 0.5  # no image repeats another's


# What a model draws


@pytest.fixture(scope="module", params=LIKELIHOODS)
def bundle(
    request: pytest.FixtureRequest, gray_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The gray bundle under each likelihood."""
    likelihood = {"name": request.param, "noise_scale": LIKELIHOODS[request.param]}
    return with_cards(gray_bundle, tmp_path_factory.mktemp("likelihood") / "b", likelihood=likelihood)


def test_without_it_nothing_changes_and_with_it_the_latents_are_the_same(bundle: Path, gray: Model) -> None:
    with vae_runtime.load(bundle, provider="cpu") as model:
        means = gray.sample(5000, 7)
        np.testing.assert_array_equal(model.sample(5000, 7), means)
        drawn = model.sample(5000, 7, observation_noise=True)
        scale = LIKELIHOODS[model.card.likelihood.name] or 0.5
        assert 0.5 * scale < (drawn - means).std() < 1.1 * scale
        # In every pixel noise has mean 0 where nothing is clipped: it was added to these very images.
        middle = np.abs(means - 0.5) < 0.25
        means_of_noise = ((drawn - means) * middle).sum(axis=0) / np.sqrt(middle.sum(axis=0))
        assert np.abs(means_of_noise).max() < 5 * scale


@pytest.mark.parametrize("count", [1, 64, 65, 2100])
def test_a_draw_depends_on_the_seed_and_the_images_place_alone(bundle: Path, count: int) -> None:
    """Neither on threads, nor on batches, nor on how many there are."""
    with vae_runtime.load(bundle, threads=1) as one, vae_runtime.load(bundle, threads=3) as three:
        drawn = one.sample(count, 7, observation_noise=True)
        np.testing.assert_array_equal(three.sample(count, 7, observation_noise=True), drawn)
        np.testing.assert_array_equal(three.sample(2176, 7, observation_noise=True)[:count], drawn)
        for batch in (64, 1024):
            stream = three.sample_stream(count, 7, batch=batch, observation_noise=True)
            np.testing.assert_array_equal(np.concatenate(list(stream)), drawn)
        if count < 2000:
            # In odd batches the decoder's own rounding differs; a pixel in a thousand may fall to the other side.
            odd = np.concatenate(list(three.sample_stream(count, 7, batch=7, observation_noise=True)))
            assert np.mean(np.abs(odd - drawn) > 1e-5) < 1e-3
        assert not np.array_equal(one.sample(count, 8, observation_noise=True), drawn)


def test_without_a_seed_every_draw_is_another(bundle: Path) -> None:
    with vae_runtime.load(bundle) as model:
        first, second = (model.sample(3, temperature=0, observation_noise=True) for _ in range(2))
        assert not np.array_equal(first, second)


def test_pictures_are_the_images_in_256_values(bundle: Path) -> None:
    with vae_runtime.load(bundle) as model:
        drawn = model.sample(200, 7, observation_noise=True)
        pictures = model.sample(200, 7, observation_noise=True, dtype="uint8")
        np.testing.assert_array_equal(pictures, to_uint8(drawn))
        assert drawn.min() >= 0
        assert drawn.max() <= 1


def test_colours_have_noise_of_their_own(tmp_path: Path, colour_bundle: Path, colour: Model) -> None:
    likelihood = {"name": "gaussian", "noise_scale": 0.05}
    with vae_runtime.load(with_cards(colour_bundle, tmp_path / "b", likelihood=likelihood)) as model:
        noise = model.sample(300, 7, observation_noise=True) - colour.sample(300, 7)
    channels = noise.transpose(1, 0, 2, 3).reshape(3, -1)
    assert np.abs(np.corrcoef(channels) - np.eye(3)).max() < 0.05


@pytest.mark.parametrize(
    ("likelihood", "words"),
    [
        ({"name": "laplace", "noise_scale": 0.1}, "its card names the likelihood 'laplace'; expected one of"),
        ({"name": "gaussian", "noise_scale": None}, "the noise scale None; expected the standard deviation"),
        ({"name": "gaussian", "noise_scale": -1.0}, "the noise scale -1.0; expected"),
    ],
)
def test_what_cannot_be_drawn_from_is_refused_at_once(
    tmp_path: Path, gray_bundle: Path, likelihood: dict[str, Any], words: str
) -> None:
    with vae_runtime.load(with_cards(gray_bundle, tmp_path / "b", likelihood=likelihood)) as model:
        calls: tuple[Callable[..., Any], ...] = (model.sample, model.sample_stream)
        for call in calls:
            with pytest.raises(BundleError, match=words):
                call(3, observation_noise=True)
        assert len(model.sample(3)) == 3


def test_the_command_draws_what_the_library_draws(vae_run: Any, bundle: Path) -> None:
    options = ("-n", 70, "--seed", 7, "--observation-noise", "--model", bundle)
    assert vae_run("sample", *options, "-o", "a.npy").code == 0
    with vae_runtime.load(bundle) as model:
        np.testing.assert_array_equal(
            np.load("a.npy"), model.sample(70, 7, observation_noise=True, dtype="uint8")
        )
