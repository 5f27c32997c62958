"""The loss, against torch.distributions, numpy and the classic summed formula."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.distributions import Independent, Normal, kl_divergence

from vae_training.objective import bernoulli_nll, beta_vae_loss, detached, kl_to_standard_normal

Array = npt.NDArray[np.float64]


def arrays(low: float, high: float) -> st.SearchStrategy[Array]:
    return hnp.arrays(np.float64, (3, 4), elements=st.floats(low, high))


@given(mean=arrays(-6, 6), logvar=arrays(-6, 6))
@settings(max_examples=50, deadline=None)
def test_kl_is_that_of_the_two_distributions(mean: Array, logvar: Array) -> None:
    posterior = Independent(Normal(torch.from_numpy(mean), torch.from_numpy(np.exp(logvar / 2))), 1)
    prior = Independent(Normal(torch.zeros(3, 4).double(), torch.ones(3, 4).double()), 1)
    found = kl_to_standard_normal(torch.from_numpy(mean), torch.from_numpy(logvar))
    torch.testing.assert_close(found, kl_divergence(posterior, prior), rtol=1e-9, atol=1e-9)


def test_kl_is_zero_at_the_prior_and_only_there() -> None:
    zero = torch.zeros(1, 3)
    assert kl_to_standard_normal(zero, zero).item() == 0.0
    assert kl_to_standard_normal(zero + 0.1, zero).item() > 0.0
    assert kl_to_standard_normal(zero, zero - 0.1).item() > 0.0


@given(logits=arrays(-15, 15), image=arrays(0, 1))
@settings(max_examples=50, deadline=None)
def test_reconstruction_is_the_summed_binary_cross_entropy(logits: Array, image: Array) -> None:
    p = 1.0 / (1.0 + np.exp(-logits))
    expected = -(image * np.log(p) + (1.0 - image) * np.log(1.0 - p)).sum(axis=1)
    found = bernoulli_nll(
        torch.from_numpy(logits).reshape(3, 1, 2, 2), torch.from_numpy(image).reshape(3, 1, 2, 2)
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6)


def test_logits_that_saturate_the_sigmoid_give_finite_numbers() -> None:
    logits = torch.tensor([-1000.0, 1000.0]).reshape(1, 1, 1, 2)
    assert bernoulli_nll(logits, torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)).item() == 0.0
    assert bernoulli_nll(logits, torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)).item() == 2000.0


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 4.0])
def test_the_total_is_the_classic_sum_divided_by_the_batch(beta: float) -> None:
    draws = torch.Generator().manual_seed(2)
    logits, image = torch.randn(6, 3, 4, 8, generator=draws), torch.rand(6, 3, 4, 8, generator=draws)
    mean, logvar = torch.randn(2, 6, 5, generator=draws)
    classic = F.binary_cross_entropy(torch.sigmoid(logits), image, reduction="sum") + beta * (
        -0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())
    )
    loss = beta_vae_loss(logits, image, mean, logvar, beta)
    torch.testing.assert_close(loss.total * 6, classic, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(loss.total, loss.reconstruction + beta * loss.kl)


def test_with_beta_zero_the_kl_is_told_but_pulls_at_nothing() -> None:
    mean = torch.ones(2, 3, requires_grad=True)
    loss = beta_vae_loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), mean, torch.zeros(2, 3), 0.0)
    loss.total.backward()
    assert loss.kl.item() == 1.5
    assert mean.grad is not None
    assert not mean.grad.any()


def test_the_three_numbers_come_detached_in_their_order() -> None:
    mean = torch.ones(2, 3, requires_grad=True)
    loss = beta_vae_loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), mean, torch.zeros(2, 3), 0.5)
    numbers = detached(loss)
    assert not numbers.requires_grad
    expected = [16 * np.log(2) + 0.75, 16 * np.log(2), 1.5]
    np.testing.assert_allclose(numbers.numpy(), expected, rtol=1e-6)
