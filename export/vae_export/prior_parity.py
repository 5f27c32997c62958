"""The proof of what a bundle knows of its prior besides: the way back from latents to noise, and the density.

Neither is compared with a second copy of itself. The way back must lead to the noise that PyTorch's prior made latents
of, and from latents of real images to noise of which PyTorch's prior makes them again; the density is held against
that of PyTorch's prior.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from vae_export.parity import Array, Difference, difference, image_batches, noise_batches
from vae_runtime.model import Model
from vae_training.priors import Prior

_LATENT = 1e-4
_LOG_DENSITY, _ROUNDED_LOG_DENSITY = 1e-3, 0.1  # nats, of some tens


def compare_prior(
    prior: Prior, model: Model, pictures: npt.NDArray[np.uint8], *, rounded_density: bool
) -> list[Difference]:
    """Compare PyTorch's prior with an opened bundle of it.

    Args:
        prior: on the CPU.
        model: the bundle, opened through the runtime.
        pictures: (N, H, W) or (N, H, W, C) uint8, real images, N at least 1.
        rounded_density: the density's own weights are rounded, as the prior's are not.

    Returns:
        One row per output and kind of latents; those of the way back only where the prior has one.
    """
    noises = noise_batches(model.card.latent_size)
    drawn = [_in_torch(prior, batch) for batch in noises]
    encoded = [np.array(model.encode(batch).mean) for batch in image_batches(pictures)]

    def density(inputs: str, latents: list[Array]) -> Difference:
        return difference(
            "log density",
            inputs,
            latents,
            lambda z: _in_torch(prior.log_prob, z),
            model.log_density,
            _ROUNDED_LOG_DENSITY if rounded_density else _LOG_DENSITY,
        )

    rows = [density("latents of the prior", drawn), density("latents of images", encoded)]
    if "prior_inverse" not in model.graphs:
        return rows
    return [
        *rows,
        difference(
            "noise",
            "the prior and back",
            noises,
            lambda e: e,
            lambda e: model.to_noise(_in_torch(prior, e)),
            _LATENT,
        ),
        difference(
            "latent",
            "images, to noise and back",
            encoded,
            lambda z: z,
            lambda z: _in_torch(prior, model.to_noise(z)),
            _LATENT,
        ),
    ]


@torch.no_grad()
def _in_torch(function: Callable[[torch.Tensor], torch.Tensor], batch: Array) -> Array:
    result: Array = function(torch.from_numpy(batch)).numpy()
    return result
