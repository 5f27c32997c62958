"""The network that tells photographs from what the decoder draws; thrown away after training."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from vae_training.architectures.classic import halving
from vae_training.config import ModelConfig

_FILTERS = (32, 64, 96)  # of the first halvings; all later layers have as many as the last
_COARSEST = 8  # halving stops once no side has more positions than this, or one is odd
_SLOPE = 0.2  # of a leaky ReLU below 0
_GROUP = 8  # images whose standard deviation is taken together


class Discriminator(nn.Module):
    """Images to a logit each: above 0 for photographs.

    How much the images of a batch differ from each other is one more channel, so that a decoder that always draws
    the same image is found out (minibatch standard deviation; Karras et al., Progressive Growing of GANs, 2018).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        grid, inputs = (config.height, config.width), config.channels
        self.halvings = nn.ModuleList()
        while len(self.halvings) < 2 or (max(grid) > _COARSEST and not any(side % 2 for side in grid)):
            outputs = _FILTERS[min(len(self.halvings), len(_FILTERS) - 1)]
            self.halvings.append(halving(inputs, outputs))
            grid, inputs = (grid[0] // 2, grid[1] // 2), outputs
        self.conv = nn.Conv2d(inputs + 1, _FILTERS[-1], kernel_size=3, padding=1)
        self.fc = nn.Linear(_FILTERS[-1] * math.prod(grid), 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to (N,)."""
        hidden = 2.0 * image - 1.0
        for halve in self.halvings:
            hidden = F.leaky_relu(halve(hidden), _SLOPE)
        hidden = F.leaky_relu(self.conv(torch.cat([hidden, _spread(hidden)], dim=1)), _SLOPE)
        return self.fc(hidden.flatten(1))[:, 0]  # type: ignore[no-any-return]  # torch modules return Any


def _spread(hidden: Tensor) -> Tensor:
    """Return the mean standard deviation over each group of images, as a channel: (N, F, H, W) to (N, 1, H, W)."""
    count, _, height, width = hidden.shape
    size = _GROUP if count % _GROUP == 0 else count
    grouped = hidden.view(count // size, size, *hidden.shape[1:])
    spread = (grouped.var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    channel: Tensor = spread.repeat_interleave(size).view(-1, 1, 1, 1)
    return channel.expand(-1, 1, height, width)
