"""What needs an NVIDIA GPU: `make gpu` runs it. Without one every test says what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vae_export.bundle import Settings, export_bundle
from vae_export.parity import Tolerances
from vae_export.sources import load_source
from vae_runtime import load
from vae_runtime.errors import ProviderError
from vae_training.checkpoint import newest_checkpoint
from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.data import ImageSet
from vae_training.loop import Trainer
from vae_training.run_folder import RunFolder

pytestmark = pytest.mark.cuda

CONFIG = Config(
    DataConfig(source="made up", validation=0.1),
    ModelConfig(latent_size=8),
    TrainingConfig(epochs=2, batch_size=32, device="cuda", compile="off"),
)

# Sums are taken in another order on the GPU; TF32 would differ by 1e-3.
TOLERANCES = Tolerances(image=1e-5, latent=1e-4)


def without_gpu() -> str | None:
    """Say what is missing to train on CUDA."""
    return None if torch.cuda.is_available() else f"PyTorch {torch.__version__} sees no GPU"


def without_provider() -> str | None:
    """Say what is missing to run on CUDA."""
    try:
        load("faces24", provider="cuda").close()
    except ProviderError as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def needs_gpu() -> None:
    if reason := without_gpu():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def needs_provider() -> None:
    if reason := without_provider():
        pytest.skip(reason)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """Blurred noise: something with structure that needs no file."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (300, 6, 6, 1))
    pictures = np.kron(coarse, np.ones((1, 4, 4, 1))).astype(np.uint8)
    return ImageSet(images=pictures, groups=None, name="made up", source="made up")


def train(config: Config, images: ImageSet, path: Path) -> tuple[RunFolder, list[dict[str, float]]]:
    folder = RunFolder(path)
    return folder, Trainer(config, images, folder).run()


@pytest.mark.usefixtures("needs_gpu")
def test_training_on_the_gpu_gives_the_losses_of_the_cpu(images: ImageSet, tmp_path: Path) -> None:
    _, on_gpu = train(CONFIG, images, tmp_path / "gpu")
    on_cpu_config = replace(CONFIG, training=replace(CONFIG.training, device="cpu"))
    _, on_cpu = train(on_cpu_config, images, tmp_path / "cpu")
    # The noise differs between devices, the images and the first weights do not.
    assert on_gpu[-1]["loss"] == pytest.approx(on_cpu[-1]["loss"], rel=0.01)


@pytest.mark.usefixtures("needs_gpu")
def test_compiled_training_on_the_gpu_gives_the_same_losses(images: ImageSet, tmp_path: Path) -> None:
    _, plain = train(CONFIG, images, tmp_path / "plain")
    compiled_config = replace(CONFIG, training=replace(CONFIG.training, compile="on"))
    _, compiled = train(compiled_config, images, tmp_path / "compiled")
    assert compiled[-1]["loss"] == pytest.approx(plain[-1]["loss"], rel=1e-3)


@pytest.mark.usefixtures("needs_gpu")
def test_a_run_resumed_on_the_gpu_goes_on(images: ImageSet, tmp_path: Path) -> None:
    folder, first = train(CONFIG, images, tmp_path / "run")
    longer = replace(CONFIG, training=replace(CONFIG.training, epochs=3))
    trainer = Trainer(longer, images, folder)
    trainer.resume(newest_checkpoint(folder.checkpoints))
    assert trainer.run()[-1]["loss"] < first[0]["loss"]


@pytest.mark.usefixtures("needs_gpu", "needs_provider")
def test_a_bundle_matches_pytorch_on_the_cuda_provider(images: ImageSet, tmp_path: Path) -> None:
    folder, _ = train(CONFIG, images, tmp_path / "run")
    settings = Settings(opset=17, name="cuda", tolerances=TOLERANCES, provider="cuda")
    report = export_bundle(load_source(folder.path), images, tmp_path / "bundle", settings)
    assert all(row.passed for row in report.differences)


@pytest.mark.usefixtures("needs_provider")
def test_cuda_and_cpu_draw_the_same_faces() -> None:
    with load("faces24", provider="cuda") as cuda, load("faces24", provider="cpu") as cpu:
        assert cuda.providers == ("cuda",)
        latents = cpu.sample_latents(5000, seed=1)
        # Of the same noise, through the flow on either.
        np.testing.assert_allclose(cuda.sample_latents(5000, seed=1), latents, atol=1e-4)
        np.testing.assert_allclose(cuda.decode(latents), cpu.decode(latents), atol=1e-5)
        images = cpu.sample(100, seed=2)
        for found, expected in zip(cuda.encode(images), cpu.encode(images), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)
        # Rounding errors of pixels, squared and divided by the likelihood's variance; scores spread by 160 nats.
        np.testing.assert_allclose(cuda.score(images).total, cpu.score(images).total, atol=1)


@pytest.mark.usefixtures("needs_provider")
def test_auto_takes_the_gpu() -> None:
    with load("faces24") as model:
        assert model.providers == ("cuda",)
