"""What the tests of all three packages share. Imports neither torch nor onnx."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "tests" / "assets"

Finished = subprocess.CompletedProcess[str]
RunPython = Callable[..., Finished]

# Busy machines are slow at times, and a test that failed should fail again.
hypothesis.settings.register_profile("tests", deadline=None, database=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of the tiny bundles; `make_assets.py` in it wrote them."""
    return ASSETS


@pytest.fixture(scope="session")
def gray_bundle() -> Path:
    """A bundle of 1x8x12 images and 3 latents."""
    return ASSETS / "tiny-gray"


@pytest.fixture(scope="session")
def colour_bundle() -> Path:
    """A bundle of 3x8x8 images and 4 latents."""
    return ASSETS / "tiny-colour"


@pytest.fixture(scope="session")
def run_python() -> RunPython:
    """Run Python code in a process of its own that finds the three packages."""

    def run(
        code: str, *arguments: object, flags: tuple[str, ...] = (), timeout: float = 60, **environment: str
    ) -> Finished:
        paths = [*filter(None, [environment.pop("FIRST_ON_PATH", "")])]
        paths += [str(ROOT / package) for package in ("training", "export", "runtime")]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        variables |= {"PYTHONPATH": os.pathsep.join(paths), **environment}
        return subprocess.run(
            [sys.executable, *flags, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
            env=variables,
            check=False,
        )

    return run
