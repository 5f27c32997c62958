"""What the tests of all three packages share. Imports neither torch nor onnx."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent / "support"))

from processes import ROOT, environment, run_to_its_end

ASSETS = ROOT / "tests" / "assets"

Finished = subprocess.CompletedProcess[str]
RunPython = Callable[..., Finished]


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


# A shell starts what runs in the background with SIGINT ignored, and so would be what tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Busy machines are slow at times, and a test that failed should fail again.
hypothesis.settings.register_profile("tests", deadline=None, database=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin what is marked as long before the others; each keeps its order among its like."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


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
        code: str, *arguments: object, flags: tuple[str, ...] = (), timeout: float = 60, **variables: str
    ) -> Finished:
        first_on_path = [*filter(None, [variables.pop("FIRST_ON_PATH", "")])]
        env = environment(*first_on_path, **variables)
        return run_to_its_end(*flags, "-c", code, *arguments, timeout=timeout, env=env)

    return run


@pytest.fixture
def run_here(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ended]]:
    """Run a command as its process runs it, but in this process: no start to wait for."""
    from vae_runtime.cli.exits import run_command

    before = signal.getsignal(signal.SIGTERM)

    def run(command: Any, *arguments: object) -> Ended:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            run_command(command, command.name, [str(argument) for argument in arguments])
        written = capfd.readouterr()
        return Ended(int(left.value.code or 0), written.out, written.err)

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Let PyTorch compute with one thread, where it was imported.

    Models as small as those of the tests gain nothing by more, and wait on a busy machine.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
