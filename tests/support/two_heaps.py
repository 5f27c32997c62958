"""A model whose latents are known without training: of images that are dark or bright."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vae_training.config import ModelConfig
from vae_training.model import VAE


class TwoHeaps(torch.nn.Module):
    """An encoder that puts dark images to one place and bright ones to another."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        side = (image.mean((1, 2, 3)) > 0.5).float() * 2 - 1
        mean = torch.stack([2 * side, side, 0 * side], dim=1)
        return mean, torch.full_like(mean, math.log(0.09))


def two_heaps(*, bright_every: int) -> tuple[Any, Tensor]:
    """Return a model of that encoder, and 400 images of which every so many is bright; (400, 1, 8, 8) uint8."""
    model = VAE(ModelConfig(8, 8, 1, (2, 2), 3))
    model.encoder = TwoHeaps()  # type: ignore[assignment]
    images = torch.zeros(400, 1, 8, 8, dtype=torch.uint8)
    images[::bright_every] = 255
    return model, images
