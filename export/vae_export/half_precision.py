"""16-bit floating point: half the file, and the native tongue of GPUs. Inputs and outputs stay float32.

The last sigmoid is computed in float32: a pixel near 1 has 11 bits of precision in float16, its logit is worth
more. On processors without arithmetic of 16 bits onnxruntime computes in float32 with the rounded weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vae_export.coders import Coders, Form
from vae_export.errors import PrecisionError

LARGEST = torch.finfo(torch.float16).max
"""65,504; what is larger becomes infinite."""

# Activations may get so many times larger than they were on calibration data.
_ROOM = 4


class HalfEncoder(nn.Module):
    """An encoder that computes in float16."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.half_encoder = copy.deepcopy(encoder).half()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) float32 to mean and logvar, each (N, D) float32."""
        mean, logvar = self.half_encoder(image.half())
        return mean.float(), logvar.float()


class HalfDecoder(nn.Module):
    """A decoder that has `logits`, and computes in float16 up to them."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.half_decoder: Any = copy.deepcopy(decoder).half()

    def forward(self, latent: Tensor) -> Tensor:
        """(N, D) float32 to images (N, C, H, W) float32 in [0, 1]."""
        logits: Tensor = self.half_decoder.logits(latent.half())
        return torch.sigmoid(logits.float())


def in_half_precision(model: Coders, inputs: Mapping[str, npt.NDArray[np.float32]]) -> Form:
    """Return the model in float16.

    Args:
        model: in float32, on the CPU.
        inputs: by role, what each half of it will be given.

    Raises:
        PrecisionError: a weight or an activation is too large for float16.
    """
    encoder, decoder = model.encoder, model.decoder
    if not hasattr(decoder, "logits"):
        raise TypeError(f"a decoder of type {type(decoder).__name__}; expected one that has logits")
    for role, module in (("encoder", encoder), ("decoder", decoder)):
        for name, weight in module.named_parameters():
            _require(f"{role}.{name}", float(weight.abs().max()), LARGEST)
        for name, largest in _largest_outputs(module, torch.from_numpy(inputs[role])).items():
            _require(f"the output of {role}.{name}", largest, LARGEST / _ROOM)
    return Form(model.config, HalfEncoder(encoder), HalfDecoder(decoder))


@torch.no_grad()
def _largest_outputs(module: nn.Module, inputs: Tensor) -> dict[str, float]:
    """Return the largest magnitude that each layer, or group of layers, puts out, by its name."""
    largest: dict[str, float] = {}

    def note(name: str, output: Tensor) -> None:
        largest[name] = float(output.abs().max())

    hooks = [
        layer.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, layer in module.named_modules()
        if name and not isinstance(layer, nn.ModuleList)
    ]
    try:
        module(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return largest


def _require(what: str, largest: float, limit: float) -> None:
    if not largest <= limit:  # NaN is not
        raise PrecisionError(
            f"{what} reaches {largest:.3g}, too large for fp16 (at most {limit:,.0f}); export with --precision fp32"
        )
