"""Weights rounded to 8 significant bits, as bfloat16 has them, before anything is made of them.

PyTorch then computes with the same numbers as the graph, so that both can be held against each other as nearly as ever.
Of the shipped models pictures stay within 63 dB of the unrounded, about a quarter of a gray level; files pack a sixth
smaller than with the 11 bits that float16 has room for. Vectors, which are few, are left as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from vae_export.coders import Coders
from vae_export.source import Source
from vae_training.checkpoint import prior_from_weights
from vae_training.priors import Prior, expected_shapes

LARGEST = 1024.0
"""The largest number of a matrix that is rounded: beyond it stand thresholds of formulas, not weights."""
MOST_NUMBERS = 2**18
"""Of a matrix that is rounded: 1 MB in float32. A larger one onnxruntime may not keep (see vae_runtime.session): it
would be turned back in every call."""


def round_weights(source: Source) -> Source:
    """Return the model and its prior with their matrices rounded."""
    return replace(round_prior(source), model=_rounded_coders(source.model))


def round_prior(source: Source) -> Source:
    """Return the model with the matrices of its prior rounded, where it has one."""
    prior = source.prior
    return source if prior is None else replace(source, prior=_rounded_prior(prior, source))


@torch.no_grad()
def _rounded_coders(model: Coders) -> Coders:
    copied = copy.deepcopy(model)
    for part in (copied.encoder, copied.decoder):
        for parameter in part.parameters():
            parameter.copy_(rounded(parameter))
    return copied


def _rounded_prior(prior: Prior, source: Source) -> Prior:
    held = prior.state_dict()
    known = expected_shapes(source.model.config.latent_size, held)
    weights: Mapping[str, Tensor] = {name: rounded(held[name]) for name in known}
    return prior_from_weights(source.model.config, weights, source.name)


def rounded(tensor: Tensor) -> Tensor:
    """Return a matrix rounded to 8 significant bits, within the range of float16; vectors as they are."""
    if tensor.dim() < 2 or tensor.numel() > MOST_NUMBERS or float(tensor.abs().max()) > LARGEST:
        return tensor
    return tensor.to(torch.bfloat16).to(torch.float16).to(torch.float32)
