"""The loss: reconstruction + beta * KL, in nats per image.

With beta 1 and a likelihood that is a density it is the negative ELBO of Kingma and Welling (2014); other values
are the beta-VAE of Higgins et al. (2017).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vae_training.kl_shaping import shaped


class Loss(NamedTuple):
    """Scalars, each the mean over the batch of a sum over one image's pixels or latents."""

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def beta_vae_loss(
    nll: Tensor, kl: Tensor, beta: float | Tensor, *, free_bits: float = 0.0, capacity: float | None = None
) -> Loss:
    """Return the loss of a batch and its two parts.

    Adam's steps do not depend on the gradients' scale, so the mean over the batch trains as the classic
    sum does, and the learning rate need not follow the batch size.

    Args:
        nll: (N,) -log p(x given z), in nats.
        kl: (N, D) KL divergence of each latent, in nats.
        beta: the weight of the KL divergence.
        free_bits: how the KL divergence counts, as in `kl_shaping.shaped`; the part that is returned is the plain one.
        capacity: the same.
    """
    reconstruction, divergence = nll.mean(), kl.sum(1).mean()
    counted = shaped(kl, free_bits, capacity) if free_bits or capacity is not None else divergence
    return Loss(reconstruction + beta * counted, reconstruction, divergence)


def detached(loss: Loss) -> Tensor:
    """Return the three numbers as one (3,) tensor on the loss's device, without waiting for it."""
    return torch.stack(loss).detach()
