"""What the tests of export share: a small trained run, graphs and a bundle of it, and the classic code."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from vae_export.bundle import Report, Settings, export_bundle
from vae_export.cli import vae_export
from vae_export.graphs import build_graphs
from vae_export.sources import Source, load_source
from vae_runtime.cli.exits import run_command
from vae_training import loop
from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.data import ImageSet
from vae_training.model import VAE
from vae_training.run_folder import RunFolder

Graphs = Mapping[str, onnx.ModelProto]

EXPORT = torch.onnx.export


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class PlainVAE(nn.Module):
    """The classic code, for images of any one size: nothing of it is ours."""

    def __init__(
        self,
        height: int = 8,
        width: int = 8,
        channels: int = 1,
        filters: tuple[int, int] = (3, 5),
        latents: int = 2,
    ) -> None:
        super().__init__()
        f1, f2 = filters
        self.shape = (f2, height // 4, width // 4)
        features = f2 * self.shape[1] * self.shape[2]
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.conv1 = nn.Conv2d(channels, f1, 4, 2, 1)
        self.encoder.conv2 = nn.Conv2d(f1, f2, 4, 2, 1)
        self.encoder.fc_mu = nn.Linear(features, latents)
        self.encoder.fc_logvar = nn.Linear(features, latents)
        self.decoder.fc = nn.Linear(latents, features)
        self.decoder.trans_conv1 = nn.ConvTranspose2d(f2, f1, 4, 2, 1)
        self.decoder.trans_conv2 = nn.ConvTranspose2d(f1, channels, 4, 2, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.encoder.conv2(F.relu(self.encoder.conv1(x)))).reshape(len(x), -1)
        return self.encoder.fc_mu(h), self.encoder.fc_logvar(h)

    def decode(self, z: Tensor) -> Tensor:
        h = F.relu(self.decoder.trans_conv1(self.decoder.fc(z).reshape(-1, *self.shape)))
        return torch.sigmoid(self.decoder.trans_conv2(h))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Compute with one thread: models as small as these gain nothing by more, and wait on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def plain_vae() -> Callable[..., PlainVAE]:
    """Return the function that makes a model of the classic code, with weights of a seed."""

    def make(seed: int = 0, **sizes: object) -> PlainVAE:
        torch.manual_seed(seed)
        return PlainVAE(**sizes)  # type: ignore[arg-type]

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
    path = RunFolder(folder / "run")
    path.write_config(config)
    with pytest.MonkeyPatch.context() as patched:
        for name in ("plot_losses", "write_sample_sheet", "write_reconstruction_sheet"):
            patched.setattr(loop, name, lambda *_: None)
        loop.Trainer(config, images, path).run()
    return path.path


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
def vae_export_here(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ended]]:
    """Return `vae-export` as its process runs it, but in this process: no start to wait for."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Ended:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            run_command(vae_export, "vae-export", [str(argument) for argument in arguments])
        written = capfd.readouterr()
        return Ended(int(left.value.code or 0), written.out, written.err)

    yield run
    signal.signal(signal.SIGTERM, before)
