"""A residual VAE without normalisation, for images of many sizes.

    image (C, H, W) -> [halving -> blocks] x S -> fc_mu, fc_logvar -> mean, logvar (D)
    latent (D) -> fc -> (FS, H/2^S, W/2^S) -> [blocks -> doubling] x S -> sigmoid -> image (C, H, W)

There are as many stages as `filters`, the first at half the image's size, each with `blocks` residual blocks. From the
image to the latent and back there is a way that is linear throughout: all that bends lies in the blocks' branches
(He et al., Identity Mappings in Deep Residual Networks, 2016), which begin at zero (Zhang, Dauphin and Ma, Fixup
Initialization, 2019). So training begins as a linear autoencoder, and needs no normalisation, whose statistics would
cost time in every image that is drawn later.

Heights and widths are doubled by sub-pixel convolution (Shi et al., Real-Time Single Image and Video Super-Resolution
Using an Efficient Sub-Pixel Convolutional Neural Network, 2016): a convolution with four times as many channels,
which are laid out as 2x2 pixels.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from vae_training.architectures.classic import halving
from vae_training.config import ModelConfig


class Block(nn.Module):
    """(N, F, H, W) to the same: the input, and what two convolutions add to it."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(filters, filters, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(filters, filters, kernel_size=3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        """Add the branch."""
        branch = torch.relu(self.conv1(torch.relu(hidden)))
        return hidden + self.conv2(branch)  # type: ignore[no-any-return]  # torch modules return Any


class ResidualEncoder(nn.Module):
    """Images to the mean and log-variance of q(z given x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = config.widths
        inputs = (config.channels, *widths)
        self.halvings = nn.ModuleList(map(halving, inputs, widths))
        self.blocks = nn.ModuleList(_blocks(width, config.blocks) for width in widths)
        features = widths[-1] * math.prod(config.grid)
        self.fc_mu = nn.Linear(features, config.latent_size)
        self.fc_logvar = nn.Linear(features, config.latent_size)
        _initialize(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) in [0, 1] to mean and logvar, each (N, D)."""
        hidden = image
        for halve, blocks in zip(self.halvings, self.blocks, strict=True):
            hidden = blocks(halve(hidden))
        hidden = hidden.reshape(-1, self.fc_mu.in_features)
        return self.fc_mu(hidden), self.fc_logvar(hidden)


class ResidualDecoder(nn.Module):
    """Latents to the mean of p(x given z), as logits or as images."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = config.widths[::-1]
        self.shape = (widths[0], *config.grid)
        self.fc = nn.Linear(config.latent_size, math.prod(self.shape))
        self.blocks = nn.ModuleList(_blocks(width, config.blocks) for width in widths)
        self.doublings = nn.ModuleList(
            nn.Conv2d(width, 4 * following, kernel_size=1) for width, following in pairwise(widths)
        )
        self.to_pixels = nn.Conv2d(widths[-1], 4 * config.channels, kernel_size=3, padding=1)
        _initialize(self)

    def logits(self, latent: Tensor) -> Tensor:
        """(N, D) to the logits of pixels, (N, C, H, W)."""
        return F.pixel_shuffle(self._sub_pixels(latent), 2)

    def forward(self, latent: Tensor) -> Tensor:
        """(N, D) to images (N, C, H, W) in [0, 1]."""
        return F.pixel_shuffle(torch.sigmoid(self._sub_pixels(latent)), 2)

    def _sub_pixels(self, latent: Tensor) -> Tensor:
        """(N, D) to the logits of pixels, (N, 4 C, H/2, W/2): each 2x2 of them in the channels of one position."""
        hidden = self.fc(latent).view(-1, *self.shape)
        *earlier, last = self.blocks
        for blocks, double in zip(earlier, self.doublings, strict=True):
            hidden = F.pixel_shuffle(double(blocks(hidden)), 2)
        return self.to_pixels(last(hidden))  # type: ignore[no-any-return]  # torch modules return Any


def _blocks(filters: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Block(filters) for _ in range(count)))


@torch.no_grad()
def _initialize(module: nn.Module) -> None:
    """Let every layer keep the variance of what goes in, and every branch begin at zero."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
            nn.init.zeros_(layer.get_parameter("bias"))
    for block in module.modules():
        if isinstance(block, Block):
            block.conv1.weight.mul_(math.sqrt(2.0))  # behind a ReLU, which halves it
            nn.init.zeros_(block.conv2.weight)
