"""Two linear layers as one: the same pictures, the same weights in the file, and one product when it is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from vae_export.folding import fold_linear_layers
from vae_export.graphs import build_graphs
from vae_export.readback import check_graph
from vae_training.config import ModelConfig
from vae_training.model import VAE

Vae = Callable[..., VAE]

FEW = st.integers(1, 6)


def decoder_graph(config: ModelConfig, seed: int, *, relu: bool = True) -> onnx.ModelProto:
    """Write down the decoder by hand, with drawn weights: what is folded, and nothing of the exporter."""
    draws = np.random.default_rng(seed)
    first, second = config.filters
    height, width = config.height // 4, config.width // 4
    shapes = {
        "fc.weight": (second * height * width, config.latent_size), "fc.bias": (second * height * width,),
        "w1": (second, first, 4, 4), "b1": (first,), "w2": (first, config.channels, 4, 4), "b2": (config.channels,),
    }  # fmt: skip
    tensors = [
        numpy_helper.from_array(draws.normal(0, 0.3, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    tensors.append(numpy_helper.from_array(np.array([-1, second, height, width]), "shape"))
    double = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Gemm", ["latent", "fc.weight", "fc.bias"], ["g"], transB=1),
        helper.make_node("Reshape", ["g", "shape"], ["r"]),
        helper.make_node("ConvTranspose", ["r", "w1", "b1"], ["c"], **double),
        helper.make_node("Relu" if relu else "Tanh", ["c"], ["h"]),
        helper.make_node("ConvTranspose", ["h", "w2", "b2"], ["l"], **double),
        helper.make_node("Sigmoid", ["l"], ["image"]),
    ]
    values = [
        helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["batch", config.latent_size]),
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *config.image_shape]),
    ]
    graph = helper.make_graph(nodes, "decoder", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@given(
    st.builds(
        ModelConfig,
        height=st.sampled_from([8, 12]),
        width=st.sampled_from([8, 16]),
        channels=st.sampled_from([1, 3]),
        filters=st.tuples(FEW, FEW),
        latent_size=FEW,
    ),
    st.integers(0, 99),
)
@settings(max_examples=20)
def test_the_pictures_are_those_of_the_layers_one_after_the_other(config: ModelConfig, seed: int) -> None:
    graph = decoder_graph(config, seed)
    latents = np.random.default_rng(seed).standard_normal((3, config.latent_size), np.float32)
    weights = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()).double()
        for tensor in graph.graph.initializer
        if tensor.name != "shape"
    }
    second, height, width = config.filters[1], config.height // 4, config.width // 4
    hidden = F.linear(torch.from_numpy(latents).double(), weights["fc.weight"], weights["fc.bias"])
    hidden = hidden.view(-1, second, height, width)
    hidden = F.conv_transpose2d(hidden, weights["w1"], weights["b1"], stride=2, padding=1).relu()
    expected = F.conv_transpose2d(hidden, weights["w2"], weights["b2"], stride=2, padding=1).sigmoid()
    folded = fold_linear_layers(graph)
    check_graph(folded.SerializeToString(), "decoder", 17)
    session = onnxruntime.InferenceSession(folded.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"latent": latents})
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=2e-6)


def is_folded(graph: onnx.ModelProto) -> bool:
    return any(node.op_type == "Gemm" and node.input[1] == "folded.weight" for node in graph.graph.node)


@pytest.mark.parametrize(
    ("config", "folded"),
    [
        (ModelConfig(), True),
        (ModelConfig(24, 24, 1, (32, 64), 32), True),
        (ModelConfig(64, 64, 3, (32, 64), 32), True),
        (ModelConfig(64, 64, 3, (32, 64), 33), False),  # more than 4 MB
        (ModelConfig(24, 24, 1, (4, 4), 64), False),  # one layer would be more work than two
    ],
)
def test_it_is_done_where_it_pays_and_the_file_grows_by_shapes_alone(
    config: ModelConfig, folded: bool
) -> None:
    graph = decoder_graph(config, 0)
    result = fold_linear_layers(graph)
    assert is_folded(result) == folded
    assert result.ByteSize() - graph.ByteSize() < 1000
    if not folded:
        assert result == graph


def test_what_is_given_stays_as_it_was() -> None:
    graph = decoder_graph(ModelConfig(8, 8), 0)
    before = graph.SerializeToString()
    fold_linear_layers(graph)
    assert graph.SerializeToString() == before


def test_what_the_exporter_writes_is_folded_and_opened_with_one_product(
    make_vae: Vae, tmp_path: Path
) -> None:
    """Runtimes compute constants once; here onnxruntime writes down what it made of the graph."""
    model = make_vae(ModelConfig(8, 20, 3, (4, 6), 2))
    latents = torch.randn(5, 2, generator=torch.Generator().manual_seed(3))
    graph = fold_linear_layers(build_graphs(model, 15)["decoder"])
    assert is_folded(graph)
    check_graph(graph.SerializeToString(), "decoder", 15)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "opened.onnx")
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    opened = [node.op_type for node in onnx.load(tmp_path / "opened.onnx").graph.node]
    assert opened == ["FusedGemm", "Reshape", "ConvTranspose", "Sigmoid"]
    (images,) = session.run(None, {"latent": latents.numpy()})
    np.testing.assert_allclose(images, model.decoder(latents).numpy(), rtol=0, atol=1e-6)


def with_relu_between(graph: onnx.ModelProto) -> None:
    graph.graph.node.insert(1, helper.make_node("Relu", ["g"], ["positive"]))
    graph.graph.node[2].input[0] = "positive"


def with_another_taker(graph: onnx.ModelProto) -> None:
    graph.graph.node.append(helper.make_node("Neg", ["r"], ["negative"]))


def with_a_factor(graph: onnx.ModelProto) -> None:
    graph.graph.node[0].attribute.append(helper.make_attribute("alpha", 2.0))


def without_a_bias(graph: onnx.ModelProto) -> None:
    del graph.graph.node[0].input[2]


def with_another_stride(graph: onnx.ModelProto) -> None:
    (strides,) = (each for each in graph.graph.node[2].attribute if each.name == "strides")
    strides.ints[:] = [1, 1]


def with_a_smaller_kernel(graph: onnx.ModelProto) -> None:
    (kernel,) = (tensor for tensor in graph.graph.initializer if tensor.name == "w1")
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel)[..., :3, :3], "w1"))


def with_a_weight_that_is_computed(graph: onnx.ModelProto) -> None:
    graph.graph.node.insert(0, helper.make_node("Neg", ["fc.weight"], ["computed"]))
    graph.graph.node[1].input[1] = "computed"


@pytest.mark.parametrize(
    "change",
    [
        with_relu_between,
        with_another_taker,
        with_a_factor,
        without_a_bias,
        with_another_stride,
        with_a_smaller_kernel,
        with_a_weight_that_is_computed,
    ],
)
def test_other_graphs_are_left_alone(change: Callable[[onnx.ModelProto], None]) -> None:
    graph = decoder_graph(ModelConfig(8, 8), 0)
    change(graph)
    before = graph.SerializeToString()
    assert fold_linear_layers(graph).SerializeToString() == before


def test_a_decoder_with_another_activation_is_left_alone() -> None:
    graph = decoder_graph(ModelConfig(8, 8), 0, relu=False)
    assert fold_linear_layers(graph) == graph
