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

# Weights of the product: 4 MB in float32, 2 MB in float16. They must stay in a processor's cache to be worth it, and
# onnxruntime must be allowed to keep them (see vae_runtime.session). Beyond, one image at a time takes longer than in
# two layers (64x64 in colour with 128 latents in fp16: 1.3 times as long), though many at once take less (0.5 times).
# In int8 there is less to gain.
_MOST_WEIGHTS = {"fp32": 2**20, "fp16": 2**20, "int8": 2**19}
_LEAST_GAIN = 2  # times fewer multiply-adds
_KERNEL, _STRIDE, _PADDING = 4, 2, 1


@dataclass(frozen=True)
class _Layers:
    """What is folded: a Gemm, the Reshape of its output to images, a transposed convolution of these, its ReLU."""

    linear: onnx.NodeProto
    reshape: onnx.NodeProto
    convolution: onnx.NodeProto
    relu: onnx.NodeProto


def folding_pays(latent_size: int, image: tuple[int, int, int], filters: int, precision: str) -> bool:
    """Tell whether one layer takes half of the multiply-adds of two or less, and not too many weights.

    Args:
        latent_size: D, what the linear layer takes.
        image: channels, height and width of what it gives.
        filters: channels of what the transposed convolution gives, whose kernel is 4, stride 2 and padding 1.
        precision: of the weights, `fp32`, `fp16` or `int8`.
    """
    apart = math.prod(image) * (latent_size + _KERNEL**2 * filters)
    together = latent_size * math.prod(_doubled(image, filters))
    return apart >= _LEAST_GAIN * together and together <= _MOST_WEIGHTS[precision]


def fold_linear_layers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its linear layer and the transposed convolution behind it folded, where that pays.

    The result computes the same numbers up to rounding. A model without such layers, or for which it does not pay,
    is returned as it is.
    """
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    layers = _find(model.graph, weights)
    if layers is None:
        return model
    latent_size, filters = weights[layers.linear.input[1]].shape[1], _filters(layers, weights)
    if not folding_pays(latent_size, _image(layers, weights), filters, "fp32"):
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
            if constant and _is_plain(layers) and _doubles(layers.convolution, weights):
                return layers
    return None


def _is_plain(layers: _Layers) -> bool:
    """Tell whether the Gemm is x @ weight.T + bias, and both layers have their bias."""
    defaults = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    settings = {**defaults, **_attributes(layers.linear)}
    as_expected: bool = settings == {**defaults, "transB": 1}
    return as_expected and all(len(node.input) == 3 for node in (layers.linear, layers.convolution))


def _doubles(convolution: onnx.NodeProto, weights: Mapping[str, npt.NDArray[np.generic]]) -> bool:
    """Tell whether a transposed convolution is of the kind that doubles height and width."""
    expected = {"strides": 2 * [_STRIDE], "pads": 4 * [_PADDING]}
    plain = expected.items() <= _attributes(convolution).items()
    return plain and weights[convolution.input[1]].shape[2:] == (_KERNEL, _KERNEL)


def _replace(graph: onnx.GraphProto, layers: _Layers, weights: Mapping[str, npt.NDArray[np.generic]]) -> None:
    weight, bias = layers.linear.input[1:]
    kernel, kernel_bias = layers.convolution.input[1:]
    image = _image(layers, weights)
    output = _doubled(image, _filters(layers, weights))
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


def _image(layers: _Layers, weights: Mapping[str, npt.NDArray[np.generic]]) -> tuple[int, int, int]:
    """Return channels, height and width of what the convolution takes."""
    channels, height, width = map(int, weights[layers.reshape.input[1]][1:])
    return channels, height, width


def _filters(layers: _Layers, weights: Mapping[str, npt.NDArray[np.generic]]) -> int:
    """Return how many channels the convolution gives."""
    return int(weights[layers.convolution.input[1]].shape[1])


def _doubled(image: tuple[int, int, int], filters: int) -> tuple[int, int, int]:
    """Return channels, height and width of what the convolution makes of an image."""
    _, height, width = image
    return filters, _STRIDE * height, _STRIDE * width


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
