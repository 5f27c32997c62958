"""Fixtures of the benchmarks, and the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from measuring.break_even import break_even_lines
from measuring.chart import draw_throughput
from measuring.implementations import Array
from measuring.machine import describe_machine, device_slug, load_average
from measuring.promises import PROMISES
from measuring.report import as_lines, noise_line, promise_lines, write_json, write_markdown
from measuring.rows import Row
from vae_export.bundle import Settings, export_bundle
from vae_export.sources import load_source
from vae_runtime.images import to_float
from vae_training.config import Config, ModelConfig, TrainingConfig
from vae_training.data import ImageSet, load_images
from vae_training.loop import Trainer
from vae_training.model import VAE
from vae_training.run_folder import RunFolder

_RESULTS = Path(__file__).resolve().parent / "results"
_ROWS = pytest.StashKey[list[Row]]()
_LOAD = pytest.StashKey[float | None]()
_SEED = 0
_OPSET = 17
_EPOCHS = 2
_IMAGES = 4096
"""As many as the largest batch."""

Record = Callable[[Row], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--save-results",
        action="store_true",
        help="write the table, the figures and a chart to benchmarks/results/<processor and GPU>.*",
    )
    parser.addoption(
        "--check-promises", action="store_true", help="fail where a ratio that is promised is not reached"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []
    config.stash[_LOAD] = load_average()
    config.option.benchmark_disable_gc = True
    config.option.benchmark_quiet = True  # its table knows rounds, ours knows whose turn they were


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    if not rows:
        return
    machine = {**describe_machine(), "load before": config.stash[_LOAD]}
    terminalreporter.section("measurements")
    terminalreporter.write_line(", ".join(f"{name} {value}" for name, value in machine.items() if value))
    for line in (noise_line(rows), *break_even_lines(rows), "", *as_lines(rows)):
        terminalreporter.write_line(line)
    terminalreporter.section("promises")
    for line in promise_lines(rows):
        terminalreporter.write_line(line)
    if config.getoption("--save-results"):
        terminalreporter.write_line(f"\nwritten: {_save(rows, machine)}.*")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail where a promise that was measured is broken, if that was asked for."""
    rows = session.config.stash[_ROWS]
    figures = [(promise, promise.measure(rows)) for promise in PROMISES]
    broken = any(figure is not None and not promise.is_kept_by(figure) for promise, figure in figures)
    if session.config.getoption("--check-promises") and broken and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _save(rows: list[Row], machine: dict[str, object]) -> Path:
    _RESULTS.mkdir(exist_ok=True)
    target = _RESULTS / device_slug()
    title = " + ".join(str(machine[key]) for key in ("processor", "gpu") if machine[key])
    chart = target.with_name(f"{target.name}.png")
    drawn = draw_throughput(
        chart, rows, f"{title}, {machine['processors']} processors: images a second by batch"
    )
    write_json(target.with_name(f"{target.name}.json"), rows, machine)
    write_markdown(target.with_name(f"{target.name}.md"), rows, machine, chart if drawn else None)
    return target


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Keep a row for the table at the end."""
    return request.config.stash[_ROWS].append


@dataclass(frozen=True)
class Classic:
    """The classic model, 24x24 gray and 20 latents, after two epochs on the embedded faces."""

    model: VAE
    bundle: Path
    int8_bundle: Path
    """The same in integers of 8 bits."""
    plain_bundle: Path
    """In float32, with layers as PyTorch has them."""
    weights: Path
    """The state dict, as torch.save writes it."""


@pytest.fixture(scope="session")
def faces() -> ImageSet:
    """The embedded faces."""
    return load_images("faces")


@pytest.fixture(scope="session")
def classic(tmp_path_factory: pytest.TempPathFactory, faces: ImageSet) -> Classic:
    """The model, trained and exported."""
    folder = tmp_path_factory.mktemp("classic")
    config = Config(training=TrainingConfig(epochs=_EPOCHS, device="cpu", compile="off"))
    Trainer(config, faces, RunFolder(folder / "run")).run()
    source = load_source(folder / "run")
    model = source.model
    some = ImageSet(faces.images[:256], None, faces.name, faces.source)
    kinds = {"fp32": Settings(_OPSET, "classic"), "int8": Settings(_OPSET, "classic", precision="int8")}
    kinds["plain"] = Settings(_OPSET, "classic", optimize=False)
    for name, settings in kinds.items():
        export_bundle(source, some, folder / name, settings)
    torch.save(model.state_dict(), folder / "weights.pth")
    return Classic(model, *(folder / name for name in kinds), folder / "weights.pth")


@pytest.fixture(scope="session")
def images(faces: ImageSet) -> Array:
    """(4096, 1, 24, 24) float32 in [0, 1]."""
    return to_float(faces.images[:_IMAGES])


@pytest.fixture(scope="session")
def latents() -> Array:
    """(4096, 20) float32, standard normal."""
    return np.random.default_rng(_SEED).standard_normal(
        (_IMAGES, ModelConfig().latent_size), dtype=np.float32
    )


@pytest.fixture
def full_precision() -> Iterator[None]:
    """Turn PyTorch's TF32 off on CUDA, where it is on for convolutions by default."""
    backends = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]  # older stubs lack it
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    yield
    for backend, precision in zip(backends, before, strict=True):
        backend.fp32_precision = precision
