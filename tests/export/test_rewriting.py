"""Rewritten decoders compute what PyTorch's do: the same pictures, from other layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_export.coders import Form
from vae_export.graphs import build_graphs
from vae_export.readback import check_graph
from vae_export.rewriting import (
    CoarseDecoder,
    FoldedDecoder,
    before_shuffle,
    fold,
    on_coarse_grid,
    rewrite,
    sub_pixel,
)
from vae_training.architectures.classic import ClassicDecoder
from vae_training.config import ModelConfig
from vae_training.model import VAE

Vae = Callable[..., VAE]

FEW = st.integers(1, 4)
MODELS = st.builds(
    ModelConfig,
    height=st.integers(2, 5).map(lambda side: 4 * side),
    width=st.integers(2, 5).map(lambda side: 4 * side),
    channels=st.sampled_from([1, 3]),
    filters=st.tuples(FEW, FEW),
    latent_size=st.integers(1, 5),
    fc_relu=st.booleans(),
)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(FEW, FEW, FEW, st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_a_transposed_convolution_is_a_convolution_and_a_shuffle(
    batch: int, inputs: int, outputs: int, height: int, width: int, seed: int
) -> None:
    image, weight = draw(seed, batch, inputs, height, width), draw(seed + 1, inputs, outputs, 4, 4)
    expected = F.conv_transpose2d(image, weight, stride=2, padding=1)
    found = F.pixel_shuffle(F.conv2d(image, sub_pixel(weight), padding=1), 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@given(FEW, FEW, st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_a_convolution_behind_a_shuffle_is_one_before_it(
    inputs: int, outputs: int, height: int, width: int, seed: int
) -> None:
    image, weight = draw(seed, 2, 4 * inputs, height, width), draw(seed + 1, outputs, inputs, 3, 3)
    expected = F.conv2d(F.pixel_shuffle(image, 2), weight, padding=1)
    found = F.pixel_shuffle(F.conv2d(image, before_shuffle(weight), padding=1), 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@given(MODELS, st.integers(0, 99))
@settings(max_examples=30)
@torch.no_grad()
def test_every_form_of_every_decoder_makes_the_same_pictures(config: ModelConfig, seed: int) -> None:
    torch.manual_seed(seed)
    decoder = VAE(config).eval().decoder
    for parameter in decoder.parameters():
        parameter.mul_(3)
    latent = draw(seed, 3, config.latent_size).float()
    expected = decoder(latent)
    forms = [on_coarse_grid(decoder)]
    if not config.fc_relu:
        forms += [fold(decoder), on_coarse_grid(fold(decoder))]
    for form in forms:
        torch.testing.assert_close(form(latent), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("precision", "config", "kind", "convolutions"),
    [
        ("fp32", ModelConfig(), ClassicDecoder, 0),  # folded in its graph
        ("fp16", ModelConfig(), FoldedDecoder, 0),
        ("int8", ModelConfig(), CoarseDecoder, 1),
        ("fp16", ModelConfig(fc_relu=True), ClassicDecoder, 0),
        ("int8", ModelConfig(fc_relu=True), CoarseDecoder, 2),
        # Many latents and few filters: one layer would be more work than two.
        ("fp16", ModelConfig(filters=(4, 4), latent_size=64), ClassicDecoder, 0),
        ("int8", ModelConfig(filters=(4, 4), latent_size=64), CoarseDecoder, 2),
        # Its weights would not fit into a cache.
        ("fp16", ModelConfig(64, 64, 3, (32, 64), 128), ClassicDecoder, 0),
        ("fp16", ModelConfig(64, 64, 3, (32, 64), 32), FoldedDecoder, 0),
        ("int8", ModelConfig(64, 64, 3, (32, 64), 32), CoarseDecoder, 2),
    ],
)
def test_the_form_is_the_one_that_was_measured_to_be_the_fastest(
    make_vae: Vae, precision: str, config: ModelConfig, kind: type, convolutions: int
) -> None:
    model = make_vae(config)
    form = rewrite(model, precision)
    assert type(form.decoder) is kind
    assert len(getattr(form.decoder, "convolutions", ())) == convolutions
    assert form.encoder is model.encoder
    assert form.config == config


def test_a_decoder_that_was_rewritten_before_is_taken_as_it_is(make_vae: Vae) -> None:
    form = rewrite(make_vae(ModelConfig(8, 8)), "fp16")
    assert rewrite(form, "fp16").decoder is form.decoder
    assert isinstance(rewrite(form, "int8").decoder, CoarseDecoder)


@pytest.mark.parametrize(
    ("precision", "operators"),
    [
        ("fp16", ["Gemm", "Relu", "Reshape", "ConvTranspose", "Sigmoid"]),
        ("int8", ["Gemm", "Relu", "Reshape", "Transpose", "Conv", "Sigmoid", "DepthToSpace"]),
    ],
)
def test_their_graphs_hold_the_layers_and_no_more_and_any_batch_runs(
    make_vae: Vae, precision: str, operators: list[str]
) -> None:
    model = make_vae(ModelConfig(8, 20, 3, (2, 3), 2))
    form = rewrite(model, precision)
    graph = build_graphs(Form(model.config, model.encoder, form.decoder), 17)["decoder"]
    check_graph(graph.SerializeToString(), "decoder", 17)
    assert [node.op_type for node in graph.graph.node] == operators
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (0, 1, 5):
        latent = draw(batch, batch, 2).float()
        (images,) = session.run(None, {"latent": latent.numpy()})
        np.testing.assert_allclose(images, model.decoder(latent).numpy(), rtol=0, atol=1e-6)
