"""What the runtime's tests share: the tiny bundles opened, and `vae-run` to call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import vae_runtime

sys.path.insert(0, str(Path(__file__).parent / "support"))

import commands
from forking import Ended


@pytest.fixture(scope="session")
def gray(gray_bundle: Path) -> Iterator[vae_runtime.Model]:
    with vae_runtime.load(gray_bundle, provider="cpu") as model:
        yield model


@pytest.fixture(scope="session")
def colour(colour_bundle: Path) -> Iterator[vae_runtime.Model]:
    with vae_runtime.load(colour_bundle, provider="cpu") as model:
        yield model


@pytest.fixture(scope="session")
def faces() -> Iterator[vae_runtime.Model]:
    """The shipped model."""
    with vae_runtime.load("faces24") as model:
        yield model


@pytest.fixture(scope="session", params=["tiny-gray", "tiny-colour"])
def expected(request: pytest.FixtureRequest, assets: Path) -> dict[str, npt.NDArray[Any]]:
    """What PyTorch says: image, mean, logvar, latent, decoded; and the folder of the bundle."""
    with np.load(assets / f"{request.param}.expected.npz") as arrays:
        return {**arrays, "bundle": assets / request.param}


@pytest.fixture(scope="session")
def command_server() -> Iterator[Callable[..., Ended]]:
    with commands.command_server() as run:
        yield run


@pytest.fixture
def vae_run(
    command_server: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ended]:
    """Call `vae-run` with arguments in an empty folder; gives code, out (bytes) and err (text)."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return command_server


@pytest.fixture
def host(run_python: Any, gray_bundle: Path) -> Callable[..., str]:
    """Run a host whose first argument is a bundle; give back what it printed. It must end in order and in silence."""

    def run(code: str, *arguments: object, flags: tuple[str, ...] = (), **environment: str) -> str:
        finished = run_python(code, gray_bundle, *arguments, flags=("-W", "error", *flags), **environment)
        assert (finished.returncode, finished.stderr) == (0, "")
        printed: str = finished.stdout
        return printed

    return run
