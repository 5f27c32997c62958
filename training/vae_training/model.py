"""The model: the encoder and the decoder of an architecture, and the draw between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vae_training.architectures import build_decoder, build_encoder
from vae_training.config import ModelConfig


class VAE(nn.Module):
    """Encoder and decoder as one (Kingma and Welling, Auto-Encoding Variational Bayes, 2014)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config)
        self.decoder = build_decoder(config)

    def forward(self, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode, draw a latent, decode.

        Args:
            image: (N, C, H, W) in [0, 1].
            noise: (N, D) standard normal, given from outside so that the draw is the caller's.

        Returns:
            logits (N, C, H, W), mean (N, D), logvar (N, D).
        """
        mean, logvar = self.encoder(image)
        return self.decoder.logits(reparameterize(mean, logvar, noise)), mean, logvar


def reparameterize(mean: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """Z = mean + noise * exp(logvar / 2): a draw that gradients pass through; all (N, D)."""
    return mean + noise * torch.exp(0.5 * logvar)
