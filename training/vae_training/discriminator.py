"""The network that tells photographs from what the decoder draws; thrown away after training."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from vae_training.config import ModelConfig
from vae_training.model import halving

_FILTERS = (32, 64, 96)
_SLOPE = 0.2  # of a leaky ReLU below 0
_GROUP = 8  # images whose spread is looked at together


class Discriminator(nn.Module):
    """Images to a logit each: above 0 for photographs.

    How much images of a batch differ from each other is one more channel, so that a decoder that draws always the
    same is found out (minibatch standard deviation; Karras et al., Progressive Growing of GANs, 2018).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        first, second, third = _FILTERS
        self.conv1 = halving(config.channels, first)
        self.conv2 = halving(first, second)
        self.conv3 = nn.Conv2d(second + 1, third, kernel_size=3, padding=1)
        self.fc = nn.Linear(third * (config.height // 4) * (config.width // 4), 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) in [0, 1] to (N,)."""
        hidden = F.leaky_relu(self.conv1(2.0 * image - 1.0), _SLOPE)
        hidden = F.leaky_relu(self.conv2(hidden), _SLOPE)
        hidden = F.leaky_relu(self.conv3(torch.cat([hidden, _spread(hidden)], dim=1)), _SLOPE)
        return self.fc(hidden.flatten(1))[:, 0]  # type: ignore[no-any-return]  # torch modules return Any


def _spread(hidden: Tensor) -> Tensor:
    """Return the mean standard deviation over each group of images, as a channel: (N, F, H, W) to (N, 1, H, W)."""
    count, _, height, width = hidden.shape
    size = _GROUP if count % _GROUP == 0 else count
    grouped = hidden.view(count // size, size, *hidden.shape[1:])
    spread = (grouped.var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    channel: Tensor = spread.repeat_interleave(size).view(-1, 1, 1, 1)
    return channel.expand(-1, 1, height, width)
