"""Likelihoods, against torch.distributions, numpy, and what a probability must add up to."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor
from torch.distributions import Normal

from vae_training.config import TrainingConfig
from vae_training.errors import ConfigError
from vae_training.likelihood import Likelihood, bernoulli_nll, discretized_logistic_nll

Array = npt.NDArray[np.float64]


def arrays(low: float, high: float) -> st.SearchStrategy[Array]:
    return hnp.arrays(np.float64, (3, 4), elements=st.floats(low, high))


def likelihood(name: str, scale: str = "auto") -> Likelihood:
    return Likelihood(TrainingConfig(likelihood=name, noise_scale=scale))


def batch(count: int = 6) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(2)
    return torch.randn(count, 3, 4, 8, generator=draws), torch.rand(count, 3, 4, 8, generator=draws)


@given(logits=arrays(-15, 15), image=arrays(0, 1))
@settings(max_examples=50, deadline=None)
def test_bernoulli_is_the_summed_binary_cross_entropy(logits: Array, image: Array) -> None:
    p = 1.0 / (1.0 + np.exp(-logits))
    expected = -(image * np.log(p) + (1.0 - image) * np.log(1.0 - p)).sum(axis=1)
    found = bernoulli_nll(
        torch.from_numpy(logits).reshape(3, 1, 2, 2), torch.from_numpy(image).reshape(3, 1, 2, 2)
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_logits_that_saturate_the_sigmoid_give_finite_numbers() -> None:
    logits = torch.tensor([-1000.0, 1000.0]).reshape(1, 1, 1, 2)
    for name in ("bernoulli", "gaussian", "discretized-logistic"):
        measure = likelihood(name).eval()
        right = measure(logits, torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2))
        wrong = measure(logits, torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2))
        assert torch.isfinite(torch.cat([right, wrong])).all(), name
        assert right < wrong, name
    assert bernoulli_nll(logits, torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)).item() == 2000.0


@pytest.mark.parametrize("scale", ["0.001", "0.05", "1"])
def test_a_gaussian_of_a_given_scale_is_the_normal_distribution(scale: str) -> None:
    logits, image = batch()
    measure = likelihood("gaussian", scale)
    expected = (
        -Normal(torch.sigmoid(logits).double(), float(scale)).log_prob(image.double()).flatten(1).sum(1)
    )
    torch.testing.assert_close(measure(logits, image).double(), expected, rtol=1e-5, atol=1e-3)
    assert measure.noise_scale == pytest.approx(float(scale))
    assert not list(measure.parameters())


def test_while_it_trains_a_gaussian_takes_the_scale_that_makes_the_batch_most_probable() -> None:
    logits, image = batch()
    measure = likelihood("gaussian")
    found = measure(logits, image).sum().item()
    spread = (torch.sigmoid(logits) - image).square().mean().sqrt().item()
    totals = [
        likelihood("gaussian", str(spread * factor))(logits, image).sum().item() for factor in (0.97, 1, 1.03)
    ]
    assert found == pytest.approx(totals[1], rel=1e-5)
    assert found < min(totals[0], totals[2])


def test_the_scale_that_is_kept_follows_the_batches_and_is_used_when_it_does_not_train() -> None:
    logits, image = batch()
    measure = likelihood("gaussian")
    for _ in range(500):
        measure(logits, image)
    spread = (torch.sigmoid(logits) - image).square().mean().sqrt().item()
    assert measure.noise_scale == pytest.approx(spread, rel=1e-3)
    measure.eval()
    other = measure(logits, image * 0.5)
    expected = likelihood("gaussian", str(spread))(logits, image * 0.5)
    torch.testing.assert_close(other, expected, rtol=1e-3, atol=1e-3)
    assert measure.noise_scale == pytest.approx(spread, rel=1e-3)  # measuring changes nothing


@pytest.mark.parametrize("name", ["gaussian", "discretized-logistic"])
def test_a_learned_scale_arrives_at_the_best_one(name: str) -> None:
    draws = torch.Generator().manual_seed(0)
    logits = torch.zeros(64, 1, 8, 8)
    image = (0.5 + 0.06 * torch.randn(64, 1, 8, 8, generator=draws)).mul(255).round().div(255)
    measure = likelihood(name, "learned")
    adam = torch.optim.Adam(measure.parameters(), lr=0.02)
    for _ in range(400):
        adam.zero_grad()
        measure(logits, image).mean().backward()
        adam.step()
    spread = (image - 0.5).square().mean().sqrt().item()
    # A logistic distribution fitted to normal numbers is a little wider than they are.
    assert measure.noise_scale == pytest.approx(spread, rel=0.02 if name == "gaussian" else 0.15)


@given(mean=st.floats(0.001, 0.999), log_scale=st.floats(-6.5, 1))
@settings(max_examples=60, deadline=None)
def test_the_256_values_of_a_pixel_have_probabilities_that_add_up_to_one(
    mean: float, log_scale: float
) -> None:
    values = (torch.arange(256, dtype=torch.float64) / 255.0).view(256, 1, 1, 1)
    nll = discretized_logistic_nll(
        torch.full_like(values, mean), values, torch.tensor(log_scale, dtype=torch.float64)
    )
    assert torch.exp(-nll).sum().item() == pytest.approx(1.0, abs=1e-9)


def test_a_discretised_logistic_is_the_difference_of_its_distribution_function() -> None:
    value, mean, scale = 100 / 255, 0.41, 0.03

    def cumulative(x: float) -> float:
        return 1.0 / (1.0 + math.exp(-(x - mean) / scale))

    expected = -math.log(cumulative(value + 0.5 / 255) - cumulative(value - 0.5 / 255))
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    found = discretized_logistic_nll(one * mean, one * value, torch.tensor(math.log(scale)).double())
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_a_pixel_far_from_the_mean_still_has_a_gradient() -> None:
    logits = torch.full((1, 1, 1, 1), 6.0, requires_grad=True)
    measure = likelihood("discretized-logistic", "0.001")
    measure(logits, torch.full((1, 1, 1, 1), 0.2)).sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.item() > 0


def test_a_bernoulli_has_no_scale_and_nothing_to_learn() -> None:
    measure = likelihood("bernoulli")
    assert measure.noise_scale is None
    assert measure.state_dict() == {}


@pytest.mark.parametrize("scale", ["0", "-1", "2", "1e-9", "nan", "inf", "", "wide"])
def test_a_scale_that_is_none_is_refused(scale: str) -> None:
    with pytest.raises(ConfigError, match=r"training\.noise_scale is .*; expected auto, learned or a number"):
        TrainingConfig(likelihood="gaussian", noise_scale=scale)
