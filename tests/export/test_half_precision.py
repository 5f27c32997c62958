"""16-bit floating point: stored so, computed so up to the logits, and refused where numbers do not fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from vae_export.calibration import calibration_inputs
from vae_export.coders import Form
from vae_export.errors import PrecisionError
from vae_export.graphs import build_graphs
from vae_export.half_precision import in_half_precision
from vae_export.readback import check_graph
from vae_export.rewriting import rewrite
from vae_training.config import ModelConfig
from vae_training.model import VAE

Vae = Callable[..., VAE]

CONFIG = ModelConfig(8, 12, 1, (4, 6), 3)
PICTURES = np.random.default_rng(8).integers(0, 256, (40, 8, 12), np.uint8)
IMAGES = torch.from_numpy(np.random.default_rng(9).random((30, 1, 8, 12), np.float32))
LATENTS = torch.from_numpy(np.random.default_rng(9).standard_normal((30, 3), np.float32))


@pytest.fixture
def model(make_vae: Vae) -> VAE:
    return make_vae(CONFIG)


def halved(model: VAE) -> Form:
    return in_half_precision(rewrite(model, "fp16"), calibration_inputs(model, PICTURES))


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half().float()


@torch.no_grad()
def test_it_computes_what_rounded_weights_do_and_rounds_on_its_way(model: VAE) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    form = halved(model)
    expected = model.decoder(LATENTS), *model.encoder(IMAGES)
    for tensor in model.parameters():
        tensor.copy_(rounded(tensor))
    roughly = model.decoder(rounded(LATENTS)), *model.encoder(rounded(IMAGES))
    for found, exact, near in zip(
        (form.decoder(LATENTS), *form.encoder(IMAGES)), expected, roughly, strict=True
    ):
        assert found.dtype == torch.float32
        assert 0 < (found - exact).abs().max() < 2e-3
        torch.testing.assert_close(found, near, rtol=0, atol=1e-3)
    assert not all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_model_that_is_given_stays_in_float32(model: VAE) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    halved(model)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])


def test_its_graphs_store_half_and_take_and_give_float32(model: VAE) -> None:
    graphs = build_graphs(halved(model), 15)
    for role, graph in graphs.items():
        check_graph(graph.SerializeToString(), role, 15)  # float32 in and out, among others
        kinds = {
            tensor.data_type for tensor in graph.graph.initializer if tensor.data_type != TensorProto.INT64
        }
        assert kinds == {TensorProto.FLOAT16}
    *_, sigmoid = graphs["decoder"].graph.node
    assert (sigmoid.op_type, list(sigmoid.output)) == ("Sigmoid", ["image"])
    (before,) = (node for node in graphs["decoder"].graph.node if sigmoid.input[0] in node.output)
    assert (before.op_type, onnx.helper.get_attribute_value(before.attribute[0])) == (
        "Cast",
        TensorProto.FLOAT,
    )
    for role, values, expected in (
        ("decoder", LATENTS, [model.decoder(LATENTS)]), ("encoder", IMAGES, model.encoder(IMAGES)),
    ):  # fmt: skip
        session = onnxruntime.InferenceSession(
            graphs[role].SerializeToString(), providers=["CPUExecutionProvider"]
        )
        found = session.run(None, {session.get_inputs()[0].name: values.numpy()})
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("encoder.conv1.weight", 7e4, r"encoder\.conv1\.weight reaches 7e\+04, .*at most 65,504"),
        ("decoder.trans_conv2.bias", -7e4, r"decoder\.trans_conv2\.bias reaches 7e\+04, .*at most 65,504"),
        ("encoder.conv2.weight", 6e4, r"the output of encoder\.conv2 reaches .*at most 16,376"),
        (
            "encoder.fc_logvar.bias",
            -2e4,
            r"the output of encoder\.fc_logvar reaches 2e\+04, .*at most 16,376",
        ),
        ("decoder.fc.bias", 6e4, r"the output of decoder\.expand reaches .*at most 16,376"),
    ],
)
def test_numbers_that_would_become_infinite_are_refused(
    model: VAE, name: str, value: float, words: str
) -> None:
    inputs = calibration_inputs(model, PICTURES)
    model.get_parameter(name).fill_(value)
    with pytest.raises(PrecisionError, match=words + r"\); export with --precision fp32") as refused:
        in_half_precision(rewrite(model, "fp16"), inputs)
    assert refused.value.exit_code == 5


def test_what_is_large_but_fits_is_let_through(model: VAE) -> None:
    bias = torch.full_like(model.encoder.fc_mu.get_parameter("bias"), 16_000.0)
    inputs = calibration_inputs(model, PICTURES)
    model.encoder.fc_mu.get_parameter("bias").copy_(bias)
    mean, _ = in_half_precision(rewrite(model, "fp16"), inputs).encoder(IMAGES)
    assert torch.isfinite(mean).all()
    assert (mean > 15_990).all()
