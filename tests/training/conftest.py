"""What the tests of training share: small images, small settings, and the command in two ways."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from vae_runtime.cli.exits import run_command
from vae_training.cli import vae_train
from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.data import ImageSet

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = os.pathsep.join(str(ROOT / name) for name in ("training", "export", "runtime"))


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def draw_images(
    count: int = 48, height: int = 8, width: int = 8, channels: int = 1, seed: int = 0
) -> ImageSet:
    """Bright bars of random place and colour on a dark ground: something that a model can learn."""
    draws = np.random.default_rng(seed)
    images = np.full((count, height, width, channels), 20, np.uint8)
    for image in images:
        left = int(draws.integers(0, width - 2))
        image[:, left : left + 2] = draws.integers(150, 256, channels)
    return ImageSet(images, None, "bars", "bars drawn for a test")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Compute with one thread: models as small as these gain nothing by more, and wait on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def bars() -> Callable[..., ImageSet]:
    """Return the function that draws images of bars."""
    return draw_images


def small_config(
    *, validation: float = 0.25, filters: tuple[int, int] = (3, 4), **training: object
) -> Config:
    """Settings of a model for 8x8 images that trains in no time, on the CPU, uncompiled."""
    settings = {"batch_size": 8, "epochs": 2, "device": "cpu", "compile": "off", **training}
    return Config(
        data=DataConfig(validation=validation),
        model=ModelConfig(8, 8, 1, filters, latent_size=2),
        training=TrainingConfig(**settings),  # type: ignore[arg-type]
    )


@pytest.fixture(scope="session")
def small() -> Callable[..., Config]:
    """Return the function that makes small settings."""
    return small_config


@pytest.fixture
def vae_train_here(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ended]]:
    """Return `vae-train` as its process runs it, but in this process: no start to wait for."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Ended:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            run_command(vae_train, "vae-train", [str(argument) for argument in arguments])
        written = capfd.readouterr()
        return Ended(int(left.value.code or 0), written.out, written.err)

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def start_python() -> Callable[..., subprocess.Popen[str]]:
    """Return the function that starts a Python process which finds the three packages."""

    def start(code: str, *arguments: object, cwd: Path, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error::RuntimeWarning", "-c", code, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": PACKAGES, "OMP_NUM_THREADS": "1"},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},  # type: ignore[call-overload]
        )

    return start
