"""What the latents say: the KL divergence of each, how many are in use, and whether the posterior collapsed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vae_runtime.latent import Latents
from vae_training.kl_shaping import kl_per_latent

ACTIVE = 0.01
"""Variance of a latent's posterior mean over images above which it counts as active (Burda et al., 2016)."""
_FEW = 0.5  # share of active latents below which many are wasted


@dataclass(frozen=True)
class LatentUse:
    """How images use the latents."""

    size: int
    active: int
    kl: float
    """Nats per image, the sum over latents."""
    kl_per_latent: list[float]
    """Nats, mean over images."""


def measure_latents(mean: Latents, logvar: Latents) -> LatentUse:
    """Return the use of latents by posteriors of images, mean and logvar each (N, D)."""
    kl = kl_per_latent(torch.from_numpy(mean).double(), torch.from_numpy(logvar).double()).mean(0)
    active = int(np.count_nonzero(mean.astype(np.float64).var(axis=0) > ACTIVE))
    return LatentUse(mean.shape[1], active, float(kl.sum()), kl.tolist())


def warn_of_collapse(name: str, use: LatentUse) -> str | None:
    """Return a plain warning where latents say nothing or little, None else."""
    idle = use.size - use.active
    if not use.active:
        return (
            f"posterior collapse: no latent of {name} says anything of an image, so that all images are "
            "reconstructed as one; train with a lower --beta, or --beta-schedule warmup"
        )
    if use.active < _FEW * use.size:
        return (
            f"posterior collapse in part: {idle} of {use.size} latents of {name} say nothing of an image; "
            "a lower --beta, or --free-bits, would use them; a smaller --latent-size would do as well"
        )
    return None
