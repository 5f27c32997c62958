"""Two linear layers in a row are one: the decoder's linear layer and the transposed convolution behind it.

Where nothing lies between them, as in the classic decoder,

    conv(reshape(latent @ weight + bias)) = latent @ conv(reshape(weight)) + conv(reshape(bias))

because a transposed convolution is linear, too. What stands on the right is one matrix product, of 92 thousand
multiply-adds instead of 1.2 million in the classic decoder. The graph says exactly this: the convolution is
applied to weights instead of to images. Runtimes compute nodes whose inputs are constant once, when the graph is
opened, so the file is no larger than before, and every weight is in it as it was trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

# Bytes of the product's weight. It must stay in a processor's cache to be worth it, and onnxruntime must be allowed
# to keep it (see vae_runtime.session).
_LARGEST = 4 << 20
_LEAST_GAIN = 2.0  # times fewer multiply-adds


@dataclass(frozen=True)
class _Layers:
    """What is folded: a Gemm, the Reshape of its output to images, a transposed convolution of these, its ReLU."""

    linear: onnx.NodeProto
    reshape: onnx.NodeProto
    convolution: onnx.NodeProto
    relu: onnx.NodeProto


def fold_linear_layers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its linear layer and the transposed convolution behind it folded, where that pays.

    The result computes the same numbers up to rounding. A model without such layers, or whose folded weight would
    be larger than 4 MiB or save less than half of the multiply-adds, is returned as it is.
    """
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layers = _find(model.graph, weights)
    if layers is None or not _pays(layers, weights):
        return model
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    _replace(folded.graph, layers, weights)
    return folded


def _find(graph: onnx.GraphProto, weights: Mapping[str, npt.NDArray[np.generic]]) -> _Layers | None:
    """Return the layers, whose weights are constant and whose outputs nobody else takes."""
    takers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    for linear in graph.node:
        chain = [linear]
        for kind in ("Reshape", "ConvTranspose", "Relu"):
            following = takers.get(chain[-1].output[0], [])
            if len(following) == 1 and following[0].op_type == kind:
                chain += following
        if [node.op_type for node in chain] == ["Gemm", "Reshape", "ConvTranspose", "Relu"]:
            layers = _Layers(*chain)
            constant = all(name in weights for node in chain for name in node.input[1:])
            if constant and _is_plain(layers):
                return layers
    return None


def _is_plain(layers: _Layers) -> bool:
    """Tell whether the Gemm is x @ weight.T + bias, and both layers have their bias."""
    defaults = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    settings = {**defaults, **_attributes(layers.linear)}
    as_expected: bool = settings == {**defaults, "transB": 1}
    return as_expected and all(len(node.input) == 3 for node in (layers.linear, layers.convolution))


def _pays(layers: _Layers, weights: Mapping[str, npt.NDArray[np.generic]]) -> bool:
    latent_size = weights[layers.linear.input[1]].shape[1]
    image, kernel = _image(layers, weights), weights[layers.convolution.input[1]]
    before: int = latent_size * math.prod(image) + math.prod(image[1:]) * kernel.size
    after: int = latent_size * math.prod(_output(layers, weights))
    return before >= _LEAST_GAIN * after and 4 * after <= _LARGEST


def _replace(graph: onnx.GraphProto, layers: _Layers, weights: Mapping[str, npt.NDArray[np.generic]]) -> None:
    weight, bias = layers.linear.input[1:]
    kernel, kernel_bias = layers.convolution.input[1:]
    image, output = _image(layers, weights), _output(layers, weights)
    settings, shape_settings = _attributes(layers.convolution), _attributes(layers.reshape)
    rows = weights[weight].T  # (D, features): what each latent adds to the images
    shapes = {"folded.shape": (len(rows), math.prod(output)), "folded.bias_shape": (math.prod(output),)}
    constants = {
        weight: np.ascontiguousarray(rows).reshape(-1, *image),
        bias: weights[bias].reshape(1, *image),
        layers.reshape.input[1]: np.array((-1, *output), np.int64),
        **{name: np.array(shape, np.int64) for name, shape in shapes.items()},
    }
    new = [
        helper.make_node("ConvTranspose", [weight, kernel], ["folded.rows"], **settings),
        helper.make_node("Reshape", ["folded.rows", "folded.shape"], ["folded.weight"]),
        helper.make_node("ConvTranspose", [bias, kernel, kernel_bias], ["folded.row"], **settings),
        helper.make_node("Reshape", ["folded.row", "folded.bias_shape"], ["folded.bias"]),
        helper.make_node("Gemm", [layers.linear.input[0], "folded.weight", "folded.bias"], ["folded"]),
        # Before the Reshape: onnxruntime takes the maximum while it computes the product.
        helper.make_node("Relu", ["folded"], ["folded.relu"]),
        helper.make_node(
            "Reshape", ["folded.relu", layers.reshape.input[1]], list(layers.relu.output), **shape_settings
        ),
    ]
    old = (layers.linear, layers.reshape, layers.convolution, layers.relu)
    kept = [node for node in graph.node if node not in old]
    place = list(graph.node).index(layers.linear)
    del graph.node[:]
    graph.node.extend([*kept[:place], *new, *kept[place:]])
    tensors = [tensor for tensor in graph.initializer if tensor.name not in constants]
    tensors += [numpy_helper.from_array(array, name) for name, array in constants.items()]
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def _image(layers: _Layers, weights: Mapping[str, npt.NDArray[np.generic]]) -> tuple[int, ...]:
    """Return channels, height and width of what the convolution takes."""
    return tuple(int(size) for size in weights[layers.reshape.input[1]][1:])


def _output(layers: _Layers, weights: Mapping[str, npt.NDArray[np.generic]]) -> tuple[int, ...]:
    """Return channels, height and width of what the convolution gives: kernel 4, stride 2 and padding 1 double."""
    _, height, width = _image(layers, weights)
    return weights[layers.convolution.input[1]].shape[1], 2 * height, 2 * width


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
