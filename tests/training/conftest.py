"""What the tests of training share: small images, small settings, and the command in two ways."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import environment
from small_runs import leave_out_drawings

from vae_training.cli import vae_train
from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.data import ImageSet


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


@pytest.fixture
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawings of runs, but for tests that ask for `with_pictures`."""
    if "with_pictures" not in request.fixturenames:
        leave_out_drawings(monkeypatch)


@pytest.fixture
def with_pictures() -> None:
    """Draw curve and sheets after all."""


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
        training=TrainingConfig(**settings),
    )


@pytest.fixture(scope="session")
def small() -> Callable[..., Config]:
    """Return the function that makes small settings."""
    return small_config


@pytest.fixture
def vae_train_here(run_here: Callable[..., Any]) -> Callable[..., Any]:
    """Return `vae-train`, run in this process; gives code, out and err."""
    return partial(run_here, vae_train)


@pytest.fixture(scope="session")
def start_python() -> Callable[..., subprocess.Popen[str]]:
    """Return the function that starts a Python process which finds the three packages."""

    def start(code: str, *arguments: object, cwd: Path, **options: object) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, "-W", "error::RuntimeWarning", "-c", code, *map(str, arguments)],
            cwd=cwd,
            env=environment(OMP_NUM_THREADS="1"),
            **{**pipes, "text": True, **options},
        )

    return start
