"""What a model costs, counted from the shapes of its layers: nothing is computed."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vae_training.config import ModelConfig
from vae_training.model import VAE


def encoder_multiply_adds(model: ModelConfig) -> int:
    """Return the multiply-adds of encoding one image."""
    encoder = on_paper(model).encoder
    return _multiply_adds(encoder, torch.empty(1, *model.image_shape, device="meta"))


def decoder_multiply_adds(model: ModelConfig) -> int:
    """Return the multiply-adds of decoding one latent."""
    decoder = on_paper(model).decoder
    return _multiply_adds(decoder, torch.empty(1, model.latent_size, device="meta"))


def parameter_count(module: nn.Module) -> int:
    """Return the number of a module's weights."""
    return sum(parameter.numel() for parameter in module.parameters())


def layers(module: nn.Module) -> list[nn.Module]:
    """Return a module's convolutions and linear layers: all that has weights."""
    return [
        layer for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
    ]


def on_paper(model: ModelConfig) -> VAE:
    """Return a model that has shapes and no numbers, and takes no memory, whatever its size.

    Raises:
        ConfigError: images of this size cannot be halved as often as the architecture does.
        RuntimeError: a tensor would be larger than any can be.
    """
    with torch.device("meta"):
        return VAE(model)


@torch.no_grad()
def _multiply_adds(module: nn.Module, example: Tensor) -> int:
    """Return the multiply-adds of a module's convolutions and linear layers for a batch of one."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = layer.get_parameter("weight")
        # Every weight of a convolution is used at every position that it puts out; of a transposed one, takes in.
        positions = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        total += weight.numel() * math.prod(positions.shape[2:])

    hooks = [layer.register_forward_hook(count) for layer in layers(module)]
    try:
        module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return total
