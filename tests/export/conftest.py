"""What the tests of export share: a small trained run, graphs and a bundle of it, and the classic code."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from plain_vae import PlainVAE
from small_runs import make_run
from torch import Tensor, nn

from vae_export.bundle import Report, Settings, export_bundle
from vae_export.cli import vae_export
from vae_export.graphs import build_graphs
from vae_export.source import Source
from vae_export.sources import load_source
from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.data import ImageSet
from vae_training.model import VAE

Graphs = Mapping[str, onnx.ModelProto]

EXPORT = torch.onnx.export


@pytest.fixture(scope="session")
def plain_vae() -> Callable[..., PlainVAE]:
    """Return the function that makes a model of the classic code, with weights of a seed."""

    def make(
        seed: int = 0,
        *,
        height: int = 8,
        width: int = 8,
        channels: int = 1,
        filters: tuple[int, int] = (3, 5),
        latents: int = 2,
    ) -> PlainVAE:
        torch.manual_seed(seed)
        return PlainVAE(height, width, channels, filters, latents)

    return make


def random_vae(config: ModelConfig, seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    return VAE(config).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def make_vae() -> Callable[..., VAE]:
    """Return the function that makes a model as the exporter wants it, with weights of a seed."""
    return random_vae


def random_images(count: int = 40, height: int = 8, width: int = 8, channels: int = 1) -> ImageSet:
    pixels = np.random.default_rng(0).integers(0, 256, (count, height, width, channels), np.uint8)
    return ImageSet(pixels, None, "noise", "drawn for a test")


@pytest.fixture(scope="session")
def make_images() -> Callable[..., ImageSet]:
    """Return the function that draws images of noise."""
    return random_images


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run, beside the file `noise.npy` that it was trained on."""
    folder = tmp_path_factory.mktemp("trained")
    images = random_images()
    np.save(folder / "noise.npy", images.images[..., 0])
    config = Config(
        data=DataConfig(source=str(folder / "noise.npy"), validation=0.25),
        model=ModelConfig(8, 8, 1, (3, 5), 2),
        training=TrainingConfig(epochs=2, batch_size=8, seed=4, device="cpu", compile="off"),
    )
    return make_run(config, images, folder / "run")


@pytest.fixture(scope="session")
def source(run: Path) -> Source:
    """What `vae-export` reads from the run."""
    return load_source(run)


@pytest.fixture(scope="session")
def graphs(source: Source) -> Graphs:
    """The run's graphs at opset 17. Not to be changed: copy them."""
    return build_graphs(source.model, 17)


def _trace_once(export: Callable[..., Any]) -> Callable[..., Any]:
    traced: dict[object, Any] = {}

    def trace(module: nn.Module, arguments: tuple[Tensor, ...], **options: Any) -> Any:
        weights = tuple((name, tensor.numpy().tobytes()) for name, tensor in module.state_dict().items())
        settings = tuple(sorted((name, repr(value)) for name, value in options.items()))
        key = (type(module), str(module), vars(module).get("fc_relu"), arguments[0].shape, weights, settings)
        if key not in traced:
            traced[key] = export(module, arguments, **options)
        return traced[key]

    return trace


@pytest.fixture(autouse=True, scope="session")
def trace_once() -> Iterator[None]:
    """Let PyTorch trace each module once for each opset: it takes a second, and tests ask for the same ones."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.onnx, "export", _trace_once(torch.onnx.export))
        yield


@pytest.fixture(autouse=True, scope="session")
def read_torchlib_once() -> Iterator[None]:
    """Keep what onnxscript reads of the source of its five hundred functions, which every export asks for again.

    It is a third of an export's time. Where onnxscript has changed inside, the tests take longer and are the same.
    """
    inside = (
        "onnxscript._internal.values" if find_spec("onnxscript._internal.values") else "onnxscript.values"
    )
    functions = getattr(importlib.import_module(inside), "TracedOnnxFunction", None)
    read = getattr(functions, "function_ir", None)
    if functions is None or not isinstance(read, property) or read.fget is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(functions, "function_ir", property(functools.cache(read.fget)))
        yield


@pytest.fixture
def trace_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PyTorch trace again what it has traced before."""
    monkeypatch.setattr(torch.onnx, "export", _trace_once(EXPORT))


@pytest.fixture(scope="session")
def exported(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The run's bundle. Not to be changed: copy it."""
    settings = Settings(opset=17, name="noisy", license="MIT", data="drawn for a test")
    return export_bundle(source, random_images(), tmp_path_factory.mktemp("exported") / "noisy", settings)


@pytest.fixture
def vae_export_here(run_here: Callable[..., Any]) -> Callable[..., Any]:
    """Return `vae-export`, run in this process; gives code, out and err."""
    return partial(run_here, vae_export)
