"""The architectures, by the name that `--architecture` takes: what encodes images and decodes latents.

| name | layers | for |
| --- | --- | --- |
| `classic` | two convolutions down, a linear layer; the same back | the reference; the smallest images |
| `residual` | as many halvings as the image's size asks for, residual blocks between them | larger images |

All of them encode (N, C, H, W) in [0, 1] to mean and logvar, each (N, D), and decode (N, D) to logits or images.
"""

from __future__ import annotations

from vae_training.architectures.classic import ClassicDecoder, ClassicEncoder
from vae_training.architectures.residual import ResidualDecoder, ResidualEncoder
from vae_training.config import ModelConfig

Encoder = ClassicEncoder | ResidualEncoder
Decoder = ClassicDecoder | ResidualDecoder

_CODERS: dict[str, tuple[type[Encoder], type[Decoder]]] = {
    "classic": (ClassicEncoder, ClassicDecoder),
    "residual": (ResidualEncoder, ResidualDecoder),
}


def build_encoder(config: ModelConfig) -> Encoder:
    """Return an encoder of the architecture and the sizes, with random weights.

    Raises:
        ConfigError: images of this size cannot be halved as often as the architecture does.
    """
    return _CODERS[config.architecture][0](config)


def build_decoder(config: ModelConfig) -> Decoder:
    """Return a decoder; otherwise as `build_encoder`."""
    return _CODERS[config.architecture][1](config)
