"""Bundles of fp16 and int8: opened as any other, float32 in and out, and near to what PyTorch gave in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import vae_runtime
from vae_runtime.scan import scan

Array = npt.NDArray[np.float32]

LARGEST = {"fp16": 3e-3, "int8": 0.06}
"""Difference of a pixel, a mean or a log-variance. onnxruntime 1.29 adds up in 16 bits, the others in 32."""
LEAST_PSNR = {"fp16": 70.0, "int8": 42.0}


@pytest.fixture(params=["fp16", "int8"])
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(assets: Path, precision: str) -> Iterator[vae_runtime.Model]:
    with vae_runtime.load(assets / f"tiny-{precision}", provider="cpu") as model:
        yield model


@pytest.fixture
def expected(assets: Path, precision: str) -> dict[str, Array]:
    """Inputs, and what PyTorch gives for them in float32."""
    with np.load(assets / f"tiny-{precision}.expected.npz") as arrays:
        return dict(arrays)


def mean_psnr(images: Array, others: Array) -> float:
    squares = np.square(images.astype(np.float64) - others).reshape(len(images), -1).mean(axis=1)
    return float(np.mean(-10 * np.log10(squares)))


def test_pictures_and_posteriors_are_near_to_those_of_pytorch(
    model: vae_runtime.Model, expected: dict[str, Array], precision: str
) -> None:
    decoded, posterior = model.decode(expected["latent"]), model.encode(expected["image"])
    for found, name in ((decoded, "decoded"), (posterior.mean, "mean"), (posterior.logvar, "logvar")):
        assert found.dtype == np.float32
        assert 0 < np.abs(found - expected[name]).max() < LARGEST[precision]
    assert mean_psnr(decoded, expected["decoded"]) > LEAST_PSNR[precision]


def test_the_precision_is_told(model: vae_runtime.Model, precision: str) -> None:
    assert model.card.precision == precision
    assert precision in repr(model)
    assert model.card.fidelity["psnr_db"] > LEAST_PSNR[precision]


def test_the_commands_take_it(
    vae_run: Callable[..., Any], assets: Path, precision: str, tmp_path: Path
) -> None:
    bundle = assets / f"tiny-{precision}"
    told = vae_run("info", "--model", bundle)
    assert told.code == 0, told.err
    assert precision in told.out.decode()
    checked = vae_run("check", "--model", bundle)
    assert checked.code == 0, checked.err
    sampled = vae_run("sample", "-n", 4, "--model", bundle, "-o", tmp_path / "four.npy", "--provider", "cpu")
    assert sampled.code == 0, sampled.err
    assert np.load(tmp_path / "four.npy").shape[0] == 4


def test_a_picture_is_the_same_in_every_batch(model: vae_runtime.Model) -> None:
    """Integers are added exactly, in whatever order; sums in floating point differ by rounding."""
    latents = model.sample_latents(130, seed=3)
    together = model.decode(latents)
    for count in (1, 3, 64):
        np.testing.assert_allclose(model.decode(latents[:count]), together[:count], rtol=0, atol=1e-6)


def test_the_gate_lets_it_through_for_what_it_is(assets: Path, precision: str) -> None:
    operators: set[str] = set()
    for role in ("encoder", "decoder"):
        operators |= set(scan((assets / f"tiny-{precision}" / f"{role}.onnx").read_bytes(), role).operators)
    own = {
        "fp16": {"Cast", "ConvTranspose"},
        "int8": {"QuantizeLinear", "DequantizeLinear", "DepthToSpace", "Transpose"},
    }
    assert operators == {"Conv", "Gemm", "Relu", "Reshape", "Sigmoid"} | own[precision]
