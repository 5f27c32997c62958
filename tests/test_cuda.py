"""What must hold on an NVIDIA GPU as on the CPU. `make gpu` runs it; without a GPU those tests say what is missing.

What is cheap runs on the CPU, too: there it is compared with the same model one image at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from processes import ROOT

from vae_export.bundle import Settings, export_bundle
from vae_export.parity import Tolerances
from vae_export.sources import load_source
from vae_runtime import ClosedError, Model, load, to_uint8
from vae_runtime.bundle import shipped_models
from vae_runtime.errors import ProviderError
from vae_training import compile_trial
from vae_training.checkpoint import newest_checkpoint
from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.data import ImageSet
from vae_training.loop import Trainer
from vae_training.progress import Observer
from vae_training.run_folder import RunFolder

CUDA = pytest.param("cuda", marks=pytest.mark.cuda)
on_both = pytest.mark.parametrize("device", ["cpu", CUDA], indirect=True)
on_cuda = pytest.mark.parametrize("device", [CUDA], indirect=True)

INT8 = [name for name in shipped_models() if name.endswith("-int8")]
FLOAT = [name for name in shipped_models() if name not in INT8]

# Sums are taken in another order on a GPU, and for other batches; TF32 would differ by 1e-3.
IMAGE, LATENT = 1e-4, 2e-4


@cache
def without_gpu() -> str | None:
    """Say what is missing to train on CUDA."""
    return None if torch.cuda.is_available() else f"PyTorch {torch.__version__} sees no GPU"


@cache
def without_provider() -> str | None:
    """Say what is missing to run on CUDA."""
    try:
        load("faces24", provider="cuda").close()
    except ProviderError as error:
        return str(error)
    return None


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """A device for PyTorch and a provider for onnxruntime, where the tests that ask for them have both."""
    name = str(request.param)
    if name == "cuda" and (
        reason := without_provider() if "model" in request.fixturenames else without_gpu()
    ):
        pytest.skip(reason)
    return name


# A model at work.


@pytest.fixture
def model(device: str) -> Iterator[Model]:
    """The model of faces on the device."""
    with load("faces24", provider=device) as opened:
        assert opened.providers == (device,)
        yield opened


def of_fixed_inputs(
    model: Model, latents: npt.NDArray[Any], pictures: npt.NDArray[Any]
) -> dict[str, npt.NDArray[Any]]:
    """Run all graphs that a model has but the prior."""
    mean, logvar = model.encode(pictures)
    values = {"decode": model.decode(latents), "mean": mean, "logvar": logvar}
    values["density"] = model.log_density(latents)
    if (ROOT / "models" / model.card.name / "prior_inverse.onnx").exists():
        values["noise"] = model.to_noise(latents)
    return values


@pytest.mark.parametrize("name", FLOAT)
@on_both
def test_every_graph_of_a_shipped_model_computes_what_the_cpu_does_one_image_at_a_time(
    device: str, name: str
) -> None:
    count = 5
    with load(name, provider="cpu", threads=1) as cpu:
        latents, pictures = cpu.sample_latents(count, seed=1), cpu.sample(count, seed=2, dtype="uint8")
        rows = [of_fixed_inputs(cpu, latents[[row]], pictures[[row]]) for row in range(count)]
        scores = cpu.score(pictures).total
    with load(name, provider=device) as tested:
        assert tested.providers == (device,)
        np.testing.assert_allclose(tested.sample_latents(count, seed=1), latents, rtol=0, atol=LATENT)
        found = of_fixed_inputs(tested, latents, pictures)
        for what, values in found.items():
            expected = np.concatenate([row[what] for row in rows])
            if what == "density":  # in nats: sums over all latents, of squares
                np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-2)
            else:
                atol = IMAGE if what == "decode" else LATENT
                np.testing.assert_allclose(values, expected, rtol=0, atol=atol, err_msg=what)
        # Rounding errors of pixels, squared and divided by the likelihood's variance; scores spread by 160 nats.
        np.testing.assert_allclose(tested.score(pictures).total, scores, rtol=0, atol=1)


@on_cuda
@pytest.mark.parametrize("name", FLOAT)
def test_pictures_are_rounded_on_the_gpu_and_are_the_images(device: str, name: str) -> None:
    with load(name, provider=device) as tested:
        assert tested._engine._graphs["decoder"].is_on_device
        latents = tested.sample_latents(500, seed=1)
        pictures = tested.decode(latents, dtype="uint8")
        np.testing.assert_array_equal(pictures, to_uint8(tested.decode(latents)))


@on_cuda
@pytest.mark.parametrize("name", FLOAT)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_what_is_written_to_its_place_is_what_onnxruntime_brings_otherwise(
    device: str, name: str, dtype: str
) -> None:
    count = 5000  # more than one chunk
    with load(name, provider=device) as tested:
        graphs = tested._engine._graphs
        assert all(graphs[role].is_on_device for role in ("decoder", "prior") if role in graphs)
        written = tested.sample(count, seed=5, dtype=dtype)
        for graph in graphs.values():
            graph.is_on_device = False
        brought = tested.sample(count, seed=5, dtype=dtype)
    atol = 1 if dtype == "uint8" else 1e-5
    np.testing.assert_allclose(written.astype(np.float32), brought.astype(np.float32), rtol=0, atol=atol)


@pytest.mark.cuda
@pytest.mark.parametrize("name", INT8)
def test_auto_draws_what_the_cpu_does_where_graphs_of_8_bits_stay_on_the_cpu_or_not(name: str) -> None:
    if reason := without_provider():
        pytest.skip(reason)
    with load(name, provider="auto") as auto, load(name, provider="cpu") as cpu:
        latents = cpu.sample_latents(64, seed=1)
        difference = auto.decode(latents) - cpu.decode(latents)
    # By integers and by floats some sums are rounded to neighbouring steps of a scale; measured: 0.051, 0.0017.
    assert np.abs(difference).max() < 0.1
    assert np.sqrt(np.square(difference).mean()) < 0.005


@on_both
def test_streams_give_the_pictures_of_one_call_whatever_their_batches(device: str, model: Model) -> None:
    count = 2500 if device == "cuda" else 250  # more than one chunk of either
    at_once = model.sample(count, seed=3, dtype="uint8").astype(np.int16)
    for batch in (37, count // 2):
        streamed = np.concatenate([*model.sample_stream(count, seed=3, dtype="uint8", batch=batch)])
        # A batch of another size may be summed in another order: half a step of 255, rounded the other way.
        assert np.abs(streamed - at_once).max() <= 1


@on_both
def test_threads_that_share_a_model_get_what_one_gets_and_close_ends_them_cleanly(
    device: str, model: Model
) -> None:
    latents = model.sample_latents(64, seed=4)
    expected = model.decode(latents)
    done = [0] * 4

    def work(worker: int) -> None:
        try:
            while True:
                np.testing.assert_allclose(model.decode(latents), expected, rtol=0, atol=1e-5)
                done[worker] += 1
        except ClosedError:
            return  # all else fails the test

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(len(done))]
    for thread in threads:
        thread.start()
    while min(done) < 5 and all(thread.is_alive() for thread in threads):
        threads[0].join(0.01)
    model.close()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert min(done) >= 5


@pytest.mark.cuda
def test_auto_takes_the_gpu() -> None:
    if reason := without_provider():
        pytest.skip(reason)
    with load("faces24") as model:
        assert model.providers == ("cuda",)


# Training, and the way to a bundle.

CONFIG = Config(
    DataConfig(source="made up", validation=0.1),
    ModelConfig(latent_size=8),
    TrainingConfig(epochs=2, batch_size=32, device="cuda", compile="off"),
)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """Coarse noise: something with structure that needs no file."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (300, 6, 6, 1))
    pictures = np.kron(coarse, np.ones((1, 4, 4, 1))).astype(np.uint8)
    return ImageSet(images=pictures, groups=None, name="made up", source="made up")


class Hearing(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def told(self, line: str) -> None:
        self.heard.append(line)


Train = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def train(device: str, images: ImageSet, tmp_path: Path) -> Train:
    """Return the function that trains into a folder of this name, or goes on with what is there."""

    def run(name: str, observer: Observer | None = None, **settings: Any) -> list[dict[str, Any]]:
        config = replace(CONFIG, training=replace(CONFIG.training, **{"device": device, **settings}))
        folder = RunFolder(tmp_path / name)
        trainer = Trainer(config, images, folder, observer)
        if folder.checkpoints.exists():
            trainer.resume(newest_checkpoint(folder.checkpoints))
        return trainer.run()

    return run


@on_cuda
def test_training_on_the_gpu_gives_the_losses_of_the_cpu(device: str, train: Train) -> None:
    on_gpu, on_cpu = train("gpu", epochs=3), train("cpu", epochs=3, device="cpu")
    for name in ("loss", "validation_loss"):
        # The noise differs between devices, the images and the first weights do not.
        assert on_gpu[-1][name] == pytest.approx(on_cpu[-1][name], rel=0.01)


@on_cuda
def test_training_in_16_bits_gives_the_losses_of_32(device: str, train: Train) -> None:
    plain, rounded = train("plain", epochs=3), train("rounded", epochs=3, bf16=True)
    for before, after in zip(plain, rounded, strict=True):
        assert after["loss"] == pytest.approx(before["loss"], rel=5e-3)
        assert after["validation_loss"] == pytest.approx(before["validation_loss"], rel=5e-3)


@on_cuda
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "discretized-logistic"])
def test_steps_repeated_from_a_cuda_graph_give_the_losses_of_steps_launched_one_by_one(
    device: str, train: Train, likelihood: str, bf16: bool
) -> None:
    settings: dict[str, Any] = {
        "likelihood": likelihood, "beta_schedule": "cyclical", "schedule": "onecycle", "ema": 0.9, "flip": True,
        "clip_gradient": 1.0, "bf16": bf16, "epochs": 3,
    }  # fmt: skip
    hearing = Hearing()
    plain = train("plain", compile="off", **settings)
    recorded = train("recorded", hearing, compile="auto", **settings)
    assert hearing.heard == []  # that it failed, or ended elsewhere
    for before, after in zip(plain, recorded, strict=True):
        for name in ("loss", "kl", "validation_loss"):
            assert after[name] == pytest.approx(before[name], rel=5e-3 if bf16 else 1e-3)


@on_cuda
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what torch.compile finds in PyTorch itself
@pytest.mark.parametrize("choice", ["on", "auto"])
def test_compiled_training_gives_the_losses_of_what_is_not(
    device: str, train: Train, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    # Steps enough for `auto` to decide, if it takes compiling to be free.
    monkeypatch.setattr(compile_trial, "SECONDS_TO_COMPILE", 0.0)
    monkeypatch.setattr(compile_trial, "WARM_UP", 3)
    monkeypatch.setattr(compile_trial, "MEASURED", 3)
    hearing = Hearing()
    plain = train("plain")
    compiled = train("compiled", hearing, compile=choice)
    for before, after in zip(plain, compiled, strict=True):
        assert after["loss"] == pytest.approx(before["loss"], rel=1e-3)
        assert after["validation_loss"] == pytest.approx(before["validation_loss"], rel=1e-3)
    if choice == "on":
        assert hearing.heard == []  # not that a CUDA graph failed either
    else:
        first, verdict = hearing.heard
        assert first.startswith("compiling: 12 steps of ")
        assert verdict.startswith(("compiled in ", "compiled to no avail, and given up: "))


@on_cuda
def test_all_stages_of_a_run_go_on_where_they_were_interrupted(device: str, train: Train) -> None:
    """Augmented, averaged, with a prior, sharpened: all that is moved to the device and back into checkpoints."""
    stages: dict[str, Any] = {
        "likelihood": "gaussian", "noise_scale": "learned", "beta_schedule": "cyclical", "flip": True, "shift": 1,
        "ema": 0.9, "clip_gradient": 1.0, "prior": "mixture", "batch_size": 128,
    }  # fmt: skip
    first = train("run", epochs=1, **{**stages, "prior": "standard"})
    second = train("run", epochs=2, **stages)
    third = train("run", epochs=2, sharpen_epochs=1, **stages)
    assert [len(first), len(second), len(third)] == [1, 2, 3]
    assert third[:2] == second
    assert second[1]["loss"] < first[0]["loss"]
    assert all(np.isfinite(value) for row in third for value in row.values())


@on_cuda
def test_a_bundle_matches_pytorch_on_the_cuda_provider(
    device: str, train: Train, images: ImageSet, tmp_path: Path
) -> None:
    if reason := without_provider():
        pytest.skip(reason)
    train("run")
    settings = Settings(
        opset=17, name="cuda", tolerances=Tolerances(image=1e-5, latent=1e-4), provider="cuda"
    )
    report = export_bundle(load_source(tmp_path / "run"), images, tmp_path / "bundle", settings)
    assert all(row.passed for row in report.differences)
