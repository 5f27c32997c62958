"""p(x given z) in numpy: against each distribution's own definition, computed another way and in float64."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_runtime import BundleError, Likelihood
from vae_runtime.likelihoods import nll_of

Array = npt.NDArray[Any]

STEP = 1 / 255


def nats(likelihood: Likelihood, means: Array, pixels: Array) -> Array:
    """What the library says; zeros are told of by numpy's warnings, which a model turns off."""
    made = np.asarray(means, np.float32).copy()
    with np.errstate(all="ignore"):
        return nll_of(likelihood, "here")(made, np.asarray(pixels, np.float32))


def stored(seed: int, shape: tuple[int, int]) -> Array:
    """Pixels as files hold them; some black, some white."""
    pixels = np.random.default_rng(seed).integers(-40, 296, shape).clip(0, 255)
    return pixels.astype(np.float32) / np.float32(255)


def drawn(seed: int, shape: tuple[int, int]) -> Array:
    return np.random.default_rng([seed, 1]).random(shape, dtype=np.float32)


def logistic_log_probability(value: float, mean: float, deviation: float) -> float:
    """That a logistic variable rounds to one of the 256 values: a difference of its distribution function."""
    scale = deviation * math.sqrt(3) / math.pi

    def below(edge: float) -> np.longdouble:
        return 1 / (1 + np.exp(-np.longdouble(edge - mean) / scale))

    lower = np.longdouble(0) if value == 0 else below(value - STEP / 2)
    upper = np.longdouble(1) if value == 1 else below(value + STEP / 2)
    return float(np.log(upper - lower))


@given(seed=st.integers(0, 99), pixels=st.integers(1, 40), images=st.integers(1, 5))
def test_bernoulli_is_the_cross_entropy(seed: int, pixels: int, images: int) -> None:
    x, p = stored(seed, (images, pixels)), drawn(seed, (images, pixels)).clip(1e-4, 1 - 1e-4)
    exact = p.astype(np.float64)
    expected = -np.sum(x * np.log(exact) + (1 - x) * np.log1p(-exact), axis=1)
    np.testing.assert_allclose(nats(Likelihood("bernoulli"), p, x), expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("mean", "pixel", "expected"),
    [
        (0, 0, 0),
        (1, 1, 0),
        (0, 1, 100),
        (1, 0, 100),
        (1, 0.75, 25),
        (0, 0.75, 75),
        (1.0000001, 1, 0),
        (-1e-7, 0, 0),
    ],
)
def test_a_probability_of_zero_costs_100_nats_and_no_more(mean: float, pixel: float, expected: float) -> None:
    found = nats(Likelihood("bernoulli"), np.full((2, 3), mean), np.full((2, 3), pixel))
    np.testing.assert_allclose(found, 3 * expected, atol=1e-4)


@given(seed=st.integers(0, 99), scale=st.sampled_from([0.004, 0.0566, 0.25, 3.0]))
def test_gaussian_is_the_density_of_a_normal_distribution(seed: int, scale: float) -> None:
    x, means = stored(seed, (3, 7)), drawn(seed, (3, 7))
    close = (x + (means - 0.5) * 4 * scale).clip(0, 1)  # where the density is above 0 in floating point
    expected = [
        -sum(math.log(NormalDist(float(m), scale).pdf(float(p))) for m, p in zip(*pair, strict=True))
        for pair in zip(close.astype(np.float32), x, strict=True)
    ]
    np.testing.assert_allclose(nats(Likelihood("gaussian", scale), close, x), expected, rtol=1e-4, atol=1e-3)


@given(seed=st.integers(0, 99), scale=st.sampled_from([0.004, 0.0566, 0.25, 3.0]))
def test_discretized_logistic_is_the_probability_of_the_step_about_a_value(seed: int, scale: float) -> None:
    x, means = stored(seed, (3, 7)), drawn(seed, (3, 7))
    close = (x + (means - 0.5) * 12 * scale).clip(0, 1).astype(np.float32)
    expected = [
        -sum(
            logistic_log_probability(round(255 * float(p)) / 255, float(m), scale)
            for m, p in zip(*pair, strict=True)
        )
        for pair in zip(close, x, strict=True)
    ]
    found = nats(Likelihood("discretized-logistic", scale), close, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-3, 0.05, 0.5, 10])
@pytest.mark.parametrize("mean", [0, 0.001, 0.4, 1])
def test_the_256_probabilities_of_a_pixel_are_all_there_is(scale: float, mean: float) -> None:
    values = (np.arange(256) / 255).astype(np.float32)[:, None]
    found = nats(Likelihood("discretized-logistic", scale), np.full_like(values, mean), values)
    assert np.exp(-found).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["gaussian", "discretized-logistic"])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_finest_and_the_coarsest_scales_give_numbers(name: str, scale: float) -> None:
    found = nats(Likelihood(name, scale), drawn(0, (4, 500)), stored(0, (4, 500)))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "discretized-logistic"])
def test_an_image_that_is_no_number_spoils_its_own_nats_alone(name: str) -> None:
    likelihood = Likelihood(name, None if name == "bernoulli" else 0.1)
    x, means = stored(0, (3, 40)), drawn(0, (3, 40))
    expected = nats(likelihood, means, x)
    for spoilt in (x, means):
        bad = spoilt.copy()
        bad[1, 5] = np.nan
        found = nats(likelihood, *((means, bad) if spoilt is x else (bad, x)))
        assert np.isnan(found[1])
        np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize(
    ("likelihood", "said"),
    [
        (Likelihood("laplace", 0.1), "'laplace'; expected one of bernoulli, gaussian, discretized-logistic"),
        (Likelihood("\x1b[2J"), r"'\\\\x1b\[2J'; expected"),
        (Likelihood("gaussian"), "gaussian likelihood the noise scale None; expected the standard deviation"),
        (Likelihood("gaussian", 0.0), "noise scale 0.0"),
        (Likelihood("gaussian", 1e-300), "noise scale 1e-300; .* from 1e-06 to 1e[+]06"),
        (Likelihood("discretized-logistic", -0.1), "noise scale -0.1"),
        (Likelihood("discretized-logistic", 1e300), "noise scale 1e[+]300"),
    ],
)
def test_a_card_that_tells_of_no_known_distribution_is_refused(likelihood: Likelihood, said: str) -> None:
    with pytest.raises(BundleError, match=f"^here: its card .*{said}"):
        nll_of(likelihood, "here")
