"""Weights stored in 16 bits and computed with in 32: half the file.

Stored so are matrices that were rounded before (see `rounding`): nothing is lost here. They are stored as float16,
which every runtime knows. onnxruntime turns the numbers back when it opens a graph, so that nothing is slower for it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper

from vae_export.rounding import LARGEST, MOST_NUMBERS, rounded


def round_initializers(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with its matrices rounded: for one that nothing else is computed from, as a density."""
    copied = onnx.ModelProto()
    copied.CopyFrom(graph)
    for tensor in copied.graph.initializer:
        numbers = numpy_helper.to_array(tensor)
        if numbers.dtype == np.float32:
            nearest = rounded(torch.tensor(numbers)).numpy()
            tensor.CopyFrom(numpy_helper.from_array(nearest, tensor.name))
    return copied


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
    if numbers.dtype != np.float32 or numbers.ndim < 2 or numbers.size > MOST_NUMBERS:
        return False
    within = float(np.abs(numbers).max()) <= LARGEST
    return within and np.array_equal(numbers.astype(np.float16).astype(np.float32), numbers)


def stored_weights(graph: onnx.ModelProto) -> dict[str, npt.NDArray[np.float32]]:
    """Return a graph's float32 constants by name, those among them that are stored in 16 bits."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type == "Cast" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]].astype(np.float32)
    return {name: array for name, array in arrays.items() if array.dtype == np.float32}
