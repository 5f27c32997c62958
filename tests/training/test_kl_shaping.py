"""The KL divergence and what becomes of it, against torch.distributions and the papers' formulas."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.distributions import Normal, kl_divergence

from vae_training.kl_shaping import beta_at, kl_per_latent, shaped

Array = npt.NDArray[np.float64]


def arrays(low: float, high: float) -> st.SearchStrategy[Array]:
    return hnp.arrays(np.float64, (3, 4), elements=st.floats(low, high))


@given(mean=arrays(-6, 6), logvar=arrays(-6, 6))
@settings(max_examples=50, deadline=None)
def test_kl_is_that_of_the_two_distributions(mean: Array, logvar: Array) -> None:
    posterior = Normal(torch.from_numpy(mean), torch.from_numpy(np.exp(logvar / 2)))
    prior = Normal(torch.zeros(3, 4).double(), torch.ones(3, 4).double())
    found = kl_per_latent(torch.from_numpy(mean), torch.from_numpy(logvar))
    torch.testing.assert_close(found, kl_divergence(posterior, prior), rtol=1e-9, atol=1e-9)


def test_kl_is_zero_at_the_prior_and_only_there() -> None:
    zero = torch.zeros(1, 3)
    assert not kl_per_latent(zero, zero).any()
    assert (kl_per_latent(zero + 0.1, zero) > 0.0).all()
    assert (kl_per_latent(zero, zero - 0.1) > 0.0).all()


@given(st.floats(0, 10), st.integers(1, 1000), st.data())
def test_the_weight_is_constant_or_rises_to_beta_and_never_beyond(
    beta: float, total: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, total - 1))
    assert beta_at("constant", beta, step, total) == beta
    assert beta_at("warmup", beta, step, total) == pytest.approx(beta * min(1.0, 4 * step / total))
    in_cycle = (4 * step / total) % 1.0
    assert beta_at("cyclical", beta, step, total) == pytest.approx(
        beta * min(1.0, 2 * in_cycle), abs=1e-9 * beta
    )


def test_a_latent_below_its_free_bits_is_pulled_no_further() -> None:
    kl = torch.tensor([[0.2, 3.0], [0.4, 1.0]], requires_grad=True)
    counted = shaped(kl, free_bits=0.5, capacity=None)
    assert counted.item() == pytest.approx(0.5 + 2.0)
    counted.backward()
    assert torch.equal(kl.grad, torch.tensor([[0.0, 0.5], [0.0, 0.5]]))


@pytest.mark.parametrize(("capacity", "sign"), [(1.0, 1.0), (5.0, -1.0)])
def test_capacity_draws_from_both_sides(capacity: float, sign: float) -> None:
    kl = torch.tensor([[1.0, 2.0]], requires_grad=True)
    counted = shaped(kl, free_bits=0.0, capacity=capacity)
    assert counted.item() == abs(3.0 - capacity)
    counted.backward()
    assert torch.equal(kl.grad, torch.full((1, 2), sign))
