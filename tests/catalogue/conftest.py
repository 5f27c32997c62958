"""The catalogue: every way in which what a user gives can be wrong, through the real commands.

Each table in this folder has a line a case: how the bad thing is made, and words that the one line on stderr
must hold. What every refusal has in common is checked in `Refuses`, for every case.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

sys.path.insert(0, str(Path(__file__).parent / "support"))

from folders import everything
from programs import MIB, Ended, Programs

MEMORY = 512 * MIB  # that a command may take beyond what it has when it starts

# A word of a command line that stands for what is bad, and one for a bundle of 1x8x12 images and 3 latents.
BAD, BUNDLE = "BAD", "BUNDLE"

Refuses = Callable[..., str]


@pytest.fixture(scope="session")
def programs() -> Iterator[Programs]:
    with Programs() as servers:
        yield servers


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with outputs of earlier work in it, and with weights to export."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("out.npy", "out.png"):
        Path(name).write_bytes(b"the work of a week")
    safetensors.numpy.save_file(classic_weights(), "weights.safetensors")
    return folder


@pytest.fixture
def run(place: Path, programs: Programs, gray_bundle: Path) -> Callable[..., Ended]:
    """Run a line such as `vae-run encode BAD --model BUNDLE`, with what stands for BAD, in bounded memory."""

    def run_line(line: str, bad: object = BAD, **options: object) -> Ended:
        stands_for = {BAD: bad, BUNDLE: gray_bundle}
        words = [stands_for.get(word, word) for word in line.split()]
        return programs.run(*words, **{"limits": {"RLIMIT_AS": MEMORY}, **options})

    return run_line


@pytest.fixture
def refuses(run: Callable[..., Ended]) -> Refuses:
    """Run a line, and check all that a refusal promises; gives what was said."""

    def check(line: str, bad: object, code: int, *words: str, **options: object) -> str:
        before = everything(Path())
        ended = run(line, bad, **options)
        assert (ended.code, ended.out) == (code, b""), ended.err
        assert ended.err.startswith(f"{line.split()[0]}: error: ")
        assert ended.err.endswith("\n")
        assert len(ended.err.splitlines()) == 1
        assert ended.err[:-1].isprintable()
        for word in words:
            assert word in ended.err
        assert everything(Path()) == before
        return ended.err

    return check


def classic_weights() -> dict[str, np.ndarray]:
    """Weights of the classic architecture for 1x8x12 images, with 2 and 3 filters and 2 latents."""
    shapes = {
        "encoder.conv1.weight": (2, 1, 4, 4), "encoder.conv1.bias": (2,),
        "encoder.conv2.weight": (3, 2, 4, 4), "encoder.conv2.bias": (3,),
        "encoder.fc_mu.weight": (2, 18), "encoder.fc_mu.bias": (2,),
        "encoder.fc_logvar.weight": (2, 18), "encoder.fc_logvar.bias": (2,),
        "decoder.fc.weight": (18, 2), "decoder.fc.bias": (18,),
        "decoder.trans_conv1.weight": (3, 2, 4, 4), "decoder.trans_conv1.bias": (2,),
        "decoder.trans_conv2.weight": (2, 1, 4, 4), "decoder.trans_conv2.bias": (1,),
    }  # fmt: skip
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
