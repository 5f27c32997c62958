"""The loss, against the classic summed formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it

from vae_training.kl_shaping import kl_per_latent
from vae_training.likelihood import bernoulli_nll
from vae_training.objective import beta_vae_loss, detached


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 4.0])
def test_the_total_is_the_classic_sum_divided_by_the_batch(beta: float) -> None:
    draws = torch.Generator().manual_seed(2)
    logits, image = torch.randn(6, 3, 4, 8, generator=draws), torch.rand(6, 3, 4, 8, generator=draws)
    mean, logvar = torch.randn(2, 6, 5, generator=draws)
    classic = F.binary_cross_entropy(torch.sigmoid(logits), image, reduction="sum") + beta * (
        -0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())
    )
    loss = beta_vae_loss(bernoulli_nll(logits, image), kl_per_latent(mean, logvar), beta)
    torch.testing.assert_close(loss.total * 6, classic, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(loss.total, loss.reconstruction + beta * loss.kl)


def test_with_beta_zero_the_kl_is_told_but_pulls_at_nothing() -> None:
    mean = torch.ones(2, 3, requires_grad=True)
    loss = beta_vae_loss(torch.ones(2), kl_per_latent(mean, torch.zeros(2, 3)), 0.0)
    loss.total.backward()
    assert loss.kl.item() == 1.5
    assert mean.grad is not None
    assert not mean.grad.any()


def test_the_three_numbers_come_detached_in_their_order() -> None:
    mean = torch.ones(2, 3, requires_grad=True)
    nll = bernoulli_nll(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4))
    loss = beta_vae_loss(nll, kl_per_latent(mean, torch.zeros(2, 3)), 0.5)
    numbers = detached(loss)
    assert not numbers.requires_grad
    expected = [16 * np.log(2) + 0.75, 16 * np.log(2), 1.5]
    np.testing.assert_allclose(numbers.numpy(), expected, rtol=1e-6)


def test_free_bits_and_capacity_change_what_is_minimised_and_not_what_is_told() -> None:
    mean = torch.tensor([[1.0, 0.1], [1.0, 0.1]])  # KL of the latents: 0.5 and 0.005
    kl = kl_per_latent(mean, torch.zeros(2, 2))
    plain = beta_vae_loss(torch.ones(2), kl, 2.0)
    assert plain.total.item() == pytest.approx(1 + 2 * 0.505)
    free = beta_vae_loss(torch.ones(2), kl, 2.0, free_bits=0.1)
    assert free.total.item() == pytest.approx(1 + 2 * 0.6)
    aimed = beta_vae_loss(torch.ones(2), kl, 2.0, capacity=3.0)
    assert aimed.total.item() == pytest.approx(1 + 2 * (3 - 0.505))
    assert plain.kl == free.kl == aimed.kl
