"""Numbers on the command line: each has its ends, and what lies beyond them is refused before anything begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import numpy as np
import pytest

from vae_export.cli import vae_export
from vae_runtime.cli.main import vae_run
from vae_training.cli import vae_train

Refuses = Callable[..., str]

HUGE = 10**30

# Through the commands as processes: the least and the most.
OPTIONS = {
    "vae-run sample -n": (1, 100_000_000),
    "vae-run sample --rows": (1, 10**9),
    "vae-run sample --columns": (1, 10**9),
    "vae-run sample --threads": (1, 1024),
    "vae-run sample --scale": (1, 64),
    "vae-run interpolate 1 2 --steps": (2, 100_000_000),
    "vae-run interpolate 1 2 --rows": (1, 10**9),
    "vae-run reconstruct out.npy -n": (1, 100_000_000),
    "vae-run encode out.npy -n": (1, 100_000_000),
    "vae-run encode out.npy --threads": (1, 1024),
    "vae-run decode out.npy --columns": (1, 10**9),
    "vae-run check --max-model-bytes": (1, 10**12),
    "vae-run info --threads": (1, 1024),
    "vae-train --epochs": (1, 10**9),
    "vae-train --batch-size": (1, 10**9),
    "vae-train --latent-size": (1, 65_536),
    "vae-train --save-every": (1, 10**9),
}


@pytest.mark.parametrize(("line", "ends"), OPTIONS.items(), ids=OPTIONS)
def test_a_number_beyond_the_ends_is_wrong_usage_and_the_ends_are_told(
    refuses: Refuses, line: str, ends: tuple[int, int]
) -> None:
    least, most = ends
    for number in {HUGE, -1, 0, least - 1, most + 1}:
        refuses(f"{line} {number}", None, 2, f"{number} is not in the range {least}<=x<={most}. (see vae-")
    for text in ("text", "1.5"):
        refuses(f"{line} {text}", None, 2, f"'{text}' is not a valid integer", "(see vae-")


COMMANDS = {f"vae-run {name}": command for name, command in vae_run.commands.items()}
COMMANDS |= {"vae-train": vae_train, "vae-export": vae_export}


def options(kind: Any) -> Any:
    """Every option of any command that takes such a number."""
    found = [
        pytest.param(name, option, id=f"{name} {option.opts[-1]}")
        for name, command in COMMANDS.items()
        for option in command.params
        if isinstance(option.type, kind)
    ]
    return pytest.mark.parametrize(("name", "option"), found)


# A seed may be any number: numpy takes all its digits. The opsets that there are depend on what is installed.
WITHOUT_ENDS = {"vae-run sample --seed": 0, "vae-run inpaint --seed": 0, "vae-export --opset": None}


@options(click.types.IntParamType)
def test_every_whole_number_has_two_ends(name: str, option: click.Parameter) -> None:
    least, most = getattr(option.type, "min", None), getattr(option.type, "max", None)
    line = f"{name} {option.opts[-1]}"
    if line in WITHOUT_ENDS:
        assert (least, most) == (WITHOUT_ENDS[line], None)
    else:
        assert 0 <= least < most < 2**63


def test_an_opset_that_there_is_not_is_refused_with_those_that_there_are(refuses: Refuses) -> None:
    for number in (HUGE, -1, 0):
        refuses(f"vae-export weights.safetensors --image-size 8x12 --opset {number} -o bundle", None, 2,
                f"opset {number} cannot be written here; expected one of 15, 16, 17,")  # fmt: skip


@options(click.types.FloatParamType)
def test_a_number_that_is_none_is_refused(refuses: Refuses, name: str, option: click.Parameter) -> None:
    np.save("images.npy", np.zeros((4, 8, 12), np.uint8))
    rest = {
        "vae-run sample": "-n 2 --model BUNDLE -o new.npy",
        "vae-run score": "images.npy --model BUNDLE -o new.csv",
        "vae-run denoise": "images.npy --model BUNDLE -o new.npy",
        "vae-train": "--data images.npy -o run",
        "vae-export": "weights.safetensors --image-size 8x12 -o bundle",
    }[name]
    for number in ("nan", "-0.5"):
        refuses(f"{name} {option.opts[-1]} {number} {rest}", None, 2, f"{number} is not in the range")
    refuses(f"{name} {option.opts[-1]} text {rest}", None, 2, "'text' is not a valid float")


def test_the_most_that_is_let_through_is_refused_for_its_size_alone(refuses: Refuses) -> None:
    for line in (
        "-n 2 --rows 1000000000",
        "-n 2 --columns 1000000000",
        "-n 2 --rows 1000000000 --columns 1000000000",
    ):
        said = refuses(f"vae-run sample {line} --model BUNDLE -o new.png", None, 3)
        assert "expected at most" in said
