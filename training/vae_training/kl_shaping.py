"""What becomes of the KL divergence in the loss: its weight over the run, and how much of it is free."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_WARM_UP = 0.25  # share of the steps in which the weight rises
_CYCLES = 4
_RISING = 0.5  # share of a cycle in which it rises


def beta_at(schedule: str, beta: float, step: int, total: int) -> float:
    """Return the weight of the KL divergence at a step.

    `constant` is beta throughout. `warmup` rises from 0 to beta over the first quarter of the run (Sonderby et al.,
    Ladder Variational Autoencoders, 2016). `cyclical` does so four times: in each quarter of the run it rises over the
    first half and stays at beta for the second (Fu et al., Cyclical Annealing Schedule, 2019).
    """
    done = step / max(total, 1)
    if schedule == "warmup":
        return beta * min(1.0, done / _WARM_UP)
    if schedule == "cyclical":
        return beta * min(1.0, math.fmod(done * _CYCLES, 1.0) / _RISING)
    return beta


def kl_per_latent(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) of each latent of each image; (N, D) to (N, D), in nats.

    Kingma and Welling (2014), appendix B: -1/2 (1 + logvar - mean^2 - exp(logvar)).
    """
    return -0.5 * (1.0 + logvar - mean.square() - logvar.exp())


def shaped(kl: Tensor, free_bits: float, capacity: float | None) -> Tensor:
    """Return what of the KL divergence (N, D) counts in the loss; a scalar, in nats per image.

    Args:
        kl: of each latent of each image.
        free_bits: nats that each latent has for free: where its mean over the batch is less, it counts as so much,
            and nothing draws it down further (Kingma et al., Inverse Autoregressive Flow, 2016, section C.8).
        capacity: nats per image towards which the whole is drawn, from both sides; None for towards zero (Burgess
            et al., Understanding disentangling in beta-VAE, 2018).
    """
    by_latent = kl.mean(0)
    whole = by_latent.clamp_min(free_bits).sum() if free_bits else by_latent.sum()
    return whole if capacity is None else torch.abs(whole - capacity)
