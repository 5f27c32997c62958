"""Weights stored in 16 bits and computed with in 32: half the file, at the cost of rounding them once.

For priors, which are computed with in 32 bits whatever the others are in: what they round off is a hundred times less
than what 8 bits take from a decoder's pictures. onnxruntime turns the numbers back when it opens a graph, so that
nothing is slower for it.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

_LARGEST = 1024.0  # beyond it steps between neighbours are those of whole numbers


def store_in_half(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with its matrices in float16, each behind a Cast to float32; vectors stay as they are."""
    stored = onnx.ModelProto()
    stored.CopyFrom(graph)
    casts = []
    for tensor in stored.graph.initializer:
        numbers = numpy_helper.to_array(tensor)
        if numbers.dtype != np.float32 or numbers.ndim < 2 or float(np.abs(numbers).max()) > _LARGEST:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(numbers.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *stored.graph.node]
    del stored.graph.node[:]
    stored.graph.node.extend(nodes)
    return stored
