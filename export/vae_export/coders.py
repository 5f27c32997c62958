"""What is exported: an encoder and a decoder, in whichever form they are written down."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import nn

from vae_training.config import ModelConfig


class Coders(Protocol):
    """An encoder from images to mean and logvar, and a decoder from latents to images. `VAE` is one."""

    @property
    def config(self) -> ModelConfig:
        """Sizes."""

    @property
    def encoder(self) -> nn.Module:
        """(N, C, H, W) in [0, 1] to mean and logvar, each (N, D)."""

    @property
    def decoder(self) -> nn.Module:
        """(N, D) to (N, C, H, W) in [0, 1]."""


class Form(NamedTuple):
    """Another form of a model: the same function, or one near to it, from other layers."""

    config: ModelConfig
    encoder: nn.Module
    decoder: nn.Module
