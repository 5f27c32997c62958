"""Weights stored in 16 bits and computed with in 32: half the file, at the cost of rounding them once.

Rounded are a model's own matrices, before anything is made of them (`round_matrices`): PyTorch then computes with the
same numbers as the graph, so that both can be held against each other as nearly as ever. They keep 8 significant bits,
as bfloat16 does: at 24x24 and 64x64 pictures stay within 65 dB of the unrounded, hardly a gray level at worst, and
files pack a sixth smaller than with the 11 bits that float16 has room for.

They are stored as float16 all the same, which every runtime knows (`store_in_half`). onnxruntime turns the numbers back
when it opens a graph, so that nothing is slower for it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from vae_export.coders import Coders
from vae_export.source import Source
from vae_training.checkpoint import prior_from_weights
from vae_training.priors import Prior, expected_shapes

_LARGEST = 1024.0  # what float16 holds beyond it is left to float32: thresholds of formulas, not weights
# 1 MB in float32. A larger matrix onnxruntime may not keep (see vae_runtime.session): it would be turned back in every
# call.
_MOST_NUMBERS = 2**18


def round_weights(source: Source) -> Source:
    """Return the model and its prior with their matrices rounded."""
    return replace(round_prior(source), model=_rounded_coders(source.model))


def round_prior(source: Source) -> Source:
    """Return the model with the matrices of its prior rounded, where it has one."""
    prior = source.prior
    return source if prior is None else replace(source, prior=_rounded_prior(prior, source))


@torch.no_grad()
def _rounded_coders(model: Coders) -> Coders:
    rounded = copy.deepcopy(model)
    for part in (rounded.encoder, rounded.decoder):
        for parameter in part.parameters():
            parameter.copy_(_rounded(parameter))
    return rounded


def _rounded_prior(prior: Prior, source: Source) -> Prior:
    held = prior.state_dict()
    known = expected_shapes(source.model.config.latent_size, held)
    weights: Mapping[str, Tensor] = {name: _rounded(held[name]) for name in known}
    return prior_from_weights(source.model.config, weights, source.name)


def _rounded(tensor: Tensor) -> Tensor:
    """Return a matrix rounded to 8 significant bits, within the range of float16; vectors as they are."""
    if tensor.dim() < 2 or tensor.numel() > _MOST_NUMBERS or float(tensor.abs().max()) > _LARGEST:
        return tensor
    return tensor.to(torch.bfloat16).to(torch.float16).to(torch.float32)


def round_initializers(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with its matrices rounded: for one that nothing else is computed from, as a density."""
    rounded = onnx.ModelProto()
    rounded.CopyFrom(graph)
    for tensor in rounded.graph.initializer:
        numbers = numpy_helper.to_array(tensor)
        if numbers.dtype == np.float32:
            nearest = _rounded(torch.tensor(numbers)).numpy()
            tensor.CopyFrom(numpy_helper.from_array(nearest, tensor.name))
    return rounded


def store_in_half(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same graph with those matrices in float16 that it holds exactly, each behind a Cast to float32."""
    stored = onnx.ModelProto()
    stored.CopyFrom(graph)
    casts = []
    for tensor in stored.graph.initializer:
        numbers = numpy_helper.to_array(tensor)
        if not _fits_in_half(numbers):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numbers.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *stored.graph.node]
    del stored.graph.node[:]
    stored.graph.node.extend(nodes)
    return stored


def _fits_in_half(numbers: npt.NDArray[np.generic]) -> bool:
    if numbers.dtype != np.float32 or numbers.ndim < 2 or numbers.size > _MOST_NUMBERS:
        return False
    within = float(np.abs(numbers).max()) <= _LARGEST
    return within and np.array_equal(numbers.astype(np.float16).astype(np.float32), numbers)


def stored_weights(graph: onnx.ModelProto) -> dict[str, npt.NDArray[np.float32]]:
    """Return a graph's float32 constants by name, those among them that are stored in 16 bits."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type == "Cast" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]].astype(np.float32)
    return {name: array for name, array in arrays.items() if array.dtype == np.float32}
