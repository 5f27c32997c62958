"""The classic convolutional VAE.

    image (C, H, W) -> conv1 -> conv2 -> fc_mu, fc_logvar -> mean, logvar (D)
    latent (D) -> fc -> (F2, H/4, W/4) -> trans_conv1 -> trans_conv2 -> sigmoid -> image (C, H, W)

Layers have the names of the classic code, so that weights saved by it load as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vae_training.config import ModelConfig


def halving(inputs: int, outputs: int) -> nn.Conv2d:
    """Return the convolution that halves height and width."""
    return nn.Conv2d(inputs, outputs, kernel_size=4, stride=2, padding=1)


def doubling(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """Return the transposed convolution that doubles height and width."""
    return nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)


class ClassicEncoder(nn.Module):
    """Images to the mean and log-variance of q(z given x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        first, second = config.widths
        features = second * math.prod(config.grid)
        self.conv1 = halving(config.channels, first)
        self.conv2 = halving(first, second)
        self.fc_mu = nn.Linear(features, config.latent_size)
        self.fc_logvar = nn.Linear(features, config.latent_size)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) in [0, 1] to mean and logvar, each (N, D)."""
        hidden = torch.relu(self.conv1(image))  # (N, F1, H/2, W/2)
        hidden = torch.relu(self.conv2(hidden)).reshape(-1, self.fc_mu.in_features)  # (N, F2 * H/4 * W/4)
        return self.fc_mu(hidden), self.fc_logvar(hidden)


class ClassicDecoder(nn.Module):
    """Latents to the mean of p(x given z), as logits or as images."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        first, second = config.widths
        self.shape = (second, *config.grid)
        self.fc_relu = config.fc_relu
        self.fc = nn.Linear(config.latent_size, math.prod(self.shape))
        self.trans_conv1 = doubling(second, first)
        self.trans_conv2 = doubling(first, config.channels)

    def logits(self, latent: Tensor) -> Tensor:
        """(N, D) to the logits of pixels, (N, C, H, W): what a Bernoulli likelihood is computed from."""
        hidden = self.fc(latent).view(-1, *self.shape)  # (N, F2, H/4, W/4)
        if self.fc_relu:
            hidden = torch.relu(hidden)
        hidden = torch.relu(self.trans_conv1(hidden))  # (N, F1, H/2, W/2)
        return self.trans_conv2(hidden)  # type: ignore[no-any-return]  # torch modules return Any

    def forward(self, latent: Tensor) -> Tensor:
        """(N, D) to images (N, C, H, W) in [0, 1]."""
        return torch.sigmoid(self.logits(latent))
