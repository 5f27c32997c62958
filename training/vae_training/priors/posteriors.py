"""Where the encoder puts images: their posteriors, whose mixture is the aggregated posterior."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_training.batches import to_float
from vae_training.model import VAE

_ENCODED_AT_ONCE = 1024
_LEAST_VARIANCE = 1e-6  # of a latent that is always the same


class Posteriors:
    """The posteriors of images: mean and variance of each latent, (N, D) each."""

    @torch.no_grad()
    def __init__(self, model: VAE, images: Tensor) -> None:
        """Encode (N, C, H, W) uint8 images on the model's device."""
        encoded = [model.encoder(to_float(piece)) for piece in torch.split(images, _ENCODED_AT_ONCE)]
        self.mean = torch.cat([mean for mean, _ in encoded])
        self.variance = torch.cat([logvar.exp() for _, logvar in encoded])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.mean)

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Return a latent of each of these images."""
        mean, variance = self.mean[indices], self.variance[indices]
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return mean + noise * variance.sqrt()

    def draw_of_each(self, seed: int) -> Tensor:
        """Return a latent of each image; always the same by the same seed."""
        device = self.mean.device
        return self.draw(torch.arange(len(self), device=device), torch.Generator(device).manual_seed(seed))

    def covariance(self) -> Tensor:
        """Return the covariance (D, D) of latents drawn from all of them."""
        spread = torch.diag(self.variance.mean(0) + _LEAST_VARIANCE)
        return self.mean.t().cov(correction=0).reshape(spread.shape) + spread

    def is_finite(self) -> bool:
        """Whether all of them are numbers that something can be fitted to."""
        return bool(torch.isfinite(self.mean).all() and torch.isfinite(self.covariance()).all())
