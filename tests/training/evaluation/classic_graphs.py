"""The classic architecture as ONNX graphs, written down node by node from a model's weights."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper
from torch import Tensor

from vae_runtime.card import METADATA_KEY

OPSET = 17
_HALVING = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}


def classic_graphs(
    weights: Mapping[str, Tensor], image: tuple[int, int, int], latent_size: int
) -> dict[str, onnx.ModelProto]:
    """Return encoder and decoder of 'encoder.conv1.weight', ...; images are (C, H, W)."""
    channels, height, width = image
    small = [weights["encoder.conv2.weight"].shape[0], height // 4, width // 4]

    def node(kind: str, given: str, made: str, layer: str = "", **attributes: object) -> onnx.NodeProto:
        parameters = [f"{layer}.weight", f"{layer}.bias"] if layer else []
        return helper.make_node(kind, [given, *parameters], [made], **attributes)

    encoder = [
        node("Conv", "image", "a", "encoder.conv1", **_HALVING),
        node("Relu", "a", "b"),
        node("Conv", "b", "c", "encoder.conv2", **_HALVING),
        node("Relu", "c", "d"),
        helper.make_node("Reshape", ["d", "flat"], ["e"]),
        node("Gemm", "e", "mean", "encoder.fc_mu", transB=1),
        node("Gemm", "e", "logvar", "encoder.fc_logvar", transB=1),
    ]
    decoder = [
        node("Gemm", "latent", "a", "decoder.fc", transB=1),
        helper.make_node("Reshape", ["a", "small"], ["b"]),
        node("ConvTranspose", "b", "c", "decoder.trans_conv1", **_HALVING),
        node("Relu", "c", "d"),
        node("ConvTranspose", "d", "e", "decoder.trans_conv2", **_HALVING),
        node("Sigmoid", "e", "image"),
    ]
    images, latents = ["batch", channels, height, width], ["batch", latent_size]
    shapes = {"flat": [-1, small[0] * small[1] * small[2]], "small": [-1, *small]}
    return {
        "encoder": graph(
            "encoder", encoder, {"image": images}, {"mean": latents, "logvar": latents}, weights, shapes
        ),
        "decoder": graph("decoder", decoder, {"latent": latents}, {"image": images}, weights, shapes),
    }


def graph(
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, list[object]],
    outputs: Mapping[str, list[object]],
    weights: Mapping[str, Tensor],
    shapes: Mapping[str, list[int]],
) -> onnx.ModelProto:
    """Return nodes as a model that holds the constants that they name."""
    named = {given for node in nodes for given in node.input}
    values = [
        [helper.make_tensor_value_info(key, onnx.TensorProto.FLOAT, shape) for key, shape in some.items()]
        for some in (inputs, outputs)
    ]
    constants = [
        onnx.numpy_helper.from_array(tensor.contiguous().numpy(), key)
        for key, tensor in weights.items()
        if key in named
    ]
    constants += [
        helper.make_tensor(key, onnx.TensorProto.INT64, [len(shape)], shape)
        for key, shape in shapes.items()
        if key in named
    ]
    body = helper.make_graph(nodes, name, *values, constants)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def with_card(model: onnx.ModelProto, card: str) -> bytes:
    """Return the file of a model with a card in it."""
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    marked.metadata_props.add(key=METADATA_KEY, value=card)
    return marked.SerializeToString(deterministic=True)
