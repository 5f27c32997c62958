"""The loss: reconstruction + beta * KL, in nats per image.

With beta 1 it is the negative ELBO of Kingma and Welling (2014); other values are the beta-VAE of
Higgins et al. (2017).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor


class Loss(NamedTuple):
    """Scalars, each the mean over the batch of a sum over one image's pixels or latents."""

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def bernoulli_nll(logits: Tensor, image: Tensor) -> Tensor:
    """Binary cross-entropy summed over the pixels; (N, C, H, W) logits and images in [0, 1] to (N,)."""
    return F.binary_cross_entropy_with_logits(logits, image, reduction="none").flatten(1).sum(1)


def kl_to_standard_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, exp(logvar)) || N(0, 1)) summed over the latents; (N, D) to (N,).

    Kingma and Welling (2014), appendix B: -1/2 sum(1 + logvar - mean^2 - exp(logvar)).
    """
    return -0.5 * (1.0 + logvar - mean.square() - logvar.exp()).sum(1)


def beta_vae_loss(logits: Tensor, image: Tensor, mean: Tensor, logvar: Tensor, beta: float) -> Loss:
    """Return the loss of a batch and its two parts.

    Adam's steps do not depend on the gradients' scale, so the mean over the batch trains as the classic
    sum does, and the learning rate need not follow the batch size.
    """
    reconstruction = bernoulli_nll(logits, image).mean()
    kl = kl_to_standard_normal(mean, logvar).mean()
    return Loss(reconstruction + beta * kl, reconstruction, kl)


def detached(loss: Loss) -> Tensor:
    """Return the three numbers as one (3,) tensor on the loss's device, without waiting for it."""
    return torch.stack(loss).detach()
