"""Integers of 8 bits: the right ones, in graphs that any runtime computes the same, without a trace on the machine."""

from __future__ import annotations

import logging
import resource
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator

from vae_export import quantization
from vae_export.calibration import calibration_inputs
from vae_export.errors import PrecisionError
from vae_export.graphs import build_graphs, tidy
from vae_export.quality import psnr
from vae_export.quantization import quantize
from vae_export.readback import check_graph
from vae_export.rewriting import rewrite
from vae_training.config import ModelConfig
from vae_training.model import VAE

Array = npt.NDArray[np.float32]
Graphs = Mapping[str, onnx.ModelProto]
RunPython = Callable[..., subprocess.CompletedProcess[str]]

PICTURES = np.random.default_rng(8).integers(0, 256, (80, 8, 12), np.uint8)
SEVEN_BITS = 64


@pytest.fixture(scope="module")
def model(make_vae: Callable[..., VAE]) -> VAE:
    """A model whose pictures have contrast."""
    model = make_vae(ModelConfig(8, 12, 1, (4, 6), 3))
    for parameter in model.parameters():
        parameter.mul_(3)
    return model


@pytest.fixture(scope="module")
def inputs(model: VAE) -> dict[str, Array]:
    """What its graphs are calibrated with."""
    return calibration_inputs(model, PICTURES)


@pytest.fixture(scope="module")
def exact(model: VAE) -> Graphs:
    """Its graphs in float32, in the form that is quantized. Not to be changed."""
    return build_graphs(rewrite(model, "int8"), 17)


@pytest.fixture(scope="module")
def quantized(exact: Graphs, inputs: dict[str, Array]) -> Graphs:
    """Its graphs in int8. Not to be changed."""
    return {role: tidy(quantize(graph, role, inputs[role]), role, 17) for role, graph in exact.items()}


def tensors(graph: onnx.ModelProto) -> dict[str, npt.NDArray[np.generic]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


def run(graph: onnx.ModelProto, values: Array) -> list[Array]:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[Array] = session.run(None, {session.get_inputs()[0].name: values})
    return outputs


def test_onnxs_own_evaluator_computes_the_same_from_the_same_graph(
    quantized: Graphs, inputs: dict[str, Array]
) -> None:
    """It works through the pairs of QuantizeLinear and DequantizeLinear in float32, without integer kernels."""
    for role, graph in quantized.items():
        some = inputs[role][-20:]
        newer = version_converter.convert_version(graph, 21)  # the evaluator knows these operators from 19 on
        expected = ReferenceEvaluator(newer).run(None, {graph.graph.input[0].name: some})
        for found, output in zip(run(graph, some), expected, strict=True):
            gap = np.abs(found - output)
            assert gap.mean() < 1e-3, role
            assert gap.max() < 0.03, role  # a number that is rounded up here and down there


@torch.no_grad()
def test_pictures_and_posteriors_stay_near_to_pytorchs(quantized: Graphs, model: VAE) -> None:
    draws = torch.Generator().manual_seed(5)
    latent, image = torch.randn(200, 3, generator=draws), torch.rand(200, 1, 8, 12, generator=draws)
    (decoded,) = run(quantized["decoder"], latent.numpy())
    assert psnr(model.decoder(latent).numpy(), decoded).mean() > 44
    for found, expected in zip(run(quantized["encoder"], image.numpy()), model.encoder(image), strict=True):
        assert np.abs(found - expected.numpy()).max() < 0.05


def test_weights_are_rounded_to_seven_bits_by_a_scale_for_each_output(
    quantized: Graphs, exact: Graphs
) -> None:
    found = []
    for role, graph in quantized.items():
        held, before = tensors(graph), tensors(exact[role])
        for name, weight in before.items():
            if f"{name}_quantized" in held and weight.ndim > 1:
                found.append(name)
                rows = weight.reshape(len(weight), -1)
                scale = held[f"{name}_scale"]
                np.testing.assert_allclose(scale, np.abs(rows).max(axis=1) / SEVEN_BITS, rtol=1e-5)
                whole = held[f"{name}_quantized"].reshape(rows.shape)
                assert whole.dtype == np.int8
                np.testing.assert_array_equal(whole, np.rint(rows / scale[:, None]))
    assert found == [
        "conv2.weight",
        "fc_mu.weight",
        "fc_logvar.weight",
        "expand.weight",
        "convolutions.0.weight",
    ]


def test_of_the_classic_model_two_fifths_of_the_bytes_are_left(make_vae: Callable[..., VAE]) -> None:
    model = make_vae(ModelConfig())
    inputs = calibration_inputs(model, np.zeros((1, 24, 24), np.uint8))
    graphs = build_graphs(rewrite(model, "int8"), 17)
    size = sum(quantize(graph, role, inputs[role]).ByteSize() for role, graph in graphs.items())
    assert size < 0.4 * 4 * sum(parameter.numel() for parameter in model.parameters())


def test_two_products_never_overflow_sixteen_bits(quantized: Graphs) -> None:
    """Processors without VNNI add pairs of products of an unsigned and a signed byte in 16 bits."""
    weights = [
        whole
        for graph in quantized.values()
        for name, whole in tensors(graph).items()
        if name.endswith("_quantized") and whole.dtype == np.int8
    ]
    assert len(weights) == 5
    for whole in weights:
        assert 2 * 255 * np.abs(whole.astype(int)).max() <= 2**15 - 1


def test_activations_have_the_range_that_was_seen(quantized: Graphs, inputs: dict[str, Array]) -> None:
    held, latents = tensors(quantized["decoder"]), inputs["decoder"]
    assert held["latent_scale"] == pytest.approx((latents.max() - latents.min()) / 255, rel=1e-5)
    assert held["latent_zero_point"] == np.rint(-latents.min() / held["latent_scale"])
    assert held["latent_zero_point"].dtype == np.uint8


@pytest.mark.parametrize(("contrast", "low", "high"), [(0.1, None, None), (10.0, -7.0, 7.0)])
def test_no_bits_are_spent_on_logits_beyond_black_and_white(
    exact: Graphs, inputs: dict[str, Array], contrast: float, low: float | None, high: float | None
) -> None:
    graph = onnx.ModelProto()
    graph.CopyFrom(exact["decoder"])
    for tensor in graph.graph.initializer:
        if tensor.name.startswith("convolutions.0."):
            tensor.CopyFrom(
                numpy_helper.from_array(np.float32(contrast) * numpy_helper.to_array(tensor), tensor.name)
            )
    (images,) = run(graph, inputs["decoder"])
    if low is None:
        assert 0.01 < images.min() < images.max() < 0.99
        low, high = np.log(images.min() / (1 - images.min())), np.log(images.max() / (1 - images.max()))
    held = quantize(graph, "decoder", inputs["decoder"])
    (pair,) = (n for n in held.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "conv2d")
    scale, zero = (float(tensors(held)[name]) for name in pair.input[1:])
    assert -zero * scale == pytest.approx(low, abs=scale)
    assert (255 - zero) * scale == pytest.approx(high, abs=scale)


def test_the_first_convolution_the_outputs_and_the_sigmoid_stay_in_float32(quantized: Graphs) -> None:
    encoder, decoder = (quantized[role].graph for role in ("encoder", "decoder"))
    assert tensors(quantized["encoder"])["conv1.weight"].dtype == np.float32
    makers = {
        name: node.op_type for graph in (encoder, decoder) for node in graph.node for name in node.output
    }
    assert {name: makers[name] for name in ("mean", "logvar", "image")} == {
        "mean": "Gemm", "logvar": "Gemm", "image": "DepthToSpace",
    }  # fmt: skip
    (first,) = (node for node in encoder.node if "image" in node.input)
    assert (first.op_type, list(first.input)) == ("Conv", ["image", "conv1.weight", "conv1.bias"])
    (sigmoid,) = (number for number, node in enumerate(decoder.node) if node.op_type == "Sigmoid")
    assert [node.op_type for node in decoder.node][sigmoid:] == ["Sigmoid", "DepthToSpace"]


def test_each_number_is_of_a_kind_that_is_needed(quantized: Graphs) -> None:
    kinds = {tensor.data_type for graph in quantized.values() for tensor in graph.graph.initializer}
    assert kinds == {
        TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64,
    }  # fmt: skip


def test_what_is_quantized_and_what_it_is_calibrated_with_stay_as_they_were(
    exact: Graphs, inputs: dict[str, Array]
) -> None:
    before, values = exact["encoder"].SerializeToString(), inputs["encoder"].copy()
    quantize(exact["encoder"], "encoder", inputs["encoder"])
    assert exact["encoder"].SerializeToString() == before
    np.testing.assert_array_equal(inputs["encoder"], values)


def test_no_file_word_or_setting_of_the_log_is_left_behind(
    exact: Graphs, inputs: dict[str, Array], tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    root = logging.getLogger()
    before = (list(root.handlers), root.level, root.manager.disable)
    with caplog.at_level(logging.DEBUG):
        quantize(exact["decoder"], "decoder", inputs["decoder"])
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert (list(root.handlers), root.level, root.manager.disable) == before


IN_A_PROCESS_OF_ITS_OWN = """
import logging, sys, numpy, onnx
from vae_export.quantization import quantize
graph, inputs, output = sys.argv[1:]
onnx.save(quantize(onnx.load(graph), "decoder", numpy.load(inputs)), output)
print(logging.getLogger().handlers)
"""


def test_the_same_bytes_come_whatever_the_order_of_sets_and_logs_stay_as_they_were(
    exact: Graphs, inputs: dict[str, Array], tmp_path: Path, run_python: RunPython
) -> None:
    onnx.save(exact["decoder"], tmp_path / "graph.onnx")
    np.save(tmp_path / "inputs.npy", inputs["decoder"])
    paths = [tmp_path / name for name in ("graph.onnx", "inputs.npy", "other.onnx")]
    finished = run_python(IN_A_PROCESS_OF_ITS_OWN, *paths, PYTHONHASHSEED="5")
    assert (finished.stdout, finished.stderr) == ("[]\n", "")
    here = quantize(exact["decoder"], "decoder", inputs["decoder"])
    assert paths[2].read_bytes() == here.SerializeToString()


@pytest.mark.parametrize("opset", [15, 25])
def test_at_older_and_newer_opsets_the_graphs_keep_their_promises(
    model: VAE, inputs: dict[str, Array], opset: int
) -> None:
    for role, graph in build_graphs(rewrite(model, "int8"), opset).items():
        held = tidy(quantize(graph, role, inputs[role]), role, opset)
        check_graph(held.SerializeToString(), role, opset)


def test_what_the_quantizer_cannot_do_is_told_in_one_line(
    exact: Graphs, inputs: dict[str, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization, "_logit_range", lambda *_: {"no tensor": [{"rmin": 0.0}]})
    with pytest.raises(PrecisionError, match="the decoder cannot be brought to 8-bit integers: ") as refused:
        quantize(exact["decoder"], "decoder", inputs["decoder"])
    assert refused.value.exit_code == 5
    assert "\n" not in str(refused.value)


def test_a_full_disk_is_not_taken_for_a_fault_of_the_model(
    exact: Graphs, inputs: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            quantize(exact["decoder"], "decoder", inputs["decoder"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
