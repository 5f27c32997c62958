"""The loss curve: a picture of the right size, with a line for what was measured."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vae_training.config import TrainingConfig
from vae_training.plots import formula, plot_losses

BLUE, ORANGE = (31, 95, 168), (217, 130, 43)  # training and validation


def rows(epochs: int, *, validation: bool = True) -> list[dict[str, Any]]:
    parts = ("loss", "reconstruction", "kl")
    names = [prefix + part for prefix in ("", "validation_")[: 1 + validation] for part in parts]
    return [{"epoch": n + 1, **dict.fromkeys(names, 100.0 / (n + 1))} for n in range(epochs)]


def colours(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        return {tuple(pixel) for pixel in np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()}


@pytest.mark.parametrize("epochs", [1, 3])
def test_the_curve_is_a_png_of_its_size(tmp_path: Path, epochs: int) -> None:
    path = tmp_path / "loss.png"
    plot_losses(path, rows(epochs), TrainingConfig())
    with Image.open(path) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (1155, 374))
    assert {BLUE, ORANGE} <= colours(path)
    assert list(tmp_path.iterdir()) == [path]


def test_without_held_out_images_there_is_no_second_line(tmp_path: Path) -> None:
    path = tmp_path / "loss.png"
    plot_losses(path, rows(3, validation=False), TrainingConfig())
    assert BLUE in colours(path)
    assert ORANGE not in colours(path)


def test_a_new_curve_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "loss.png"
    plot_losses(path, rows(1), TrainingConfig())
    before = path.read_bytes()
    plot_losses(path, rows(2), TrainingConfig())
    assert path.read_bytes() != before


def test_the_curve_is_the_same_whatever_a_user_has_set_for_pictures(tmp_path: Path) -> None:
    plot_losses(tmp_path / "plain.png", rows(2), TrainingConfig())
    with mpl.rc_context({"text.usetex": True, "font.size": 40, "axes.facecolor": "black"}):
        plot_losses(tmp_path / "set.png", rows(2), TrainingConfig())
        assert mpl.rcParams["font.size"] == 40
    assert (tmp_path / "set.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


IMPORTING = """
import os
from vae_training.drawing import import_matplotlib
drawing = import_matplotlib()
assert import_matplotlib() is drawing
print(drawing.rcParams["backend"], os.environ["MPLBACKEND"])
"""


@pytest.mark.parametrize("named", ["module://of.some.notebook", "no backend", "svg"])
def test_a_backend_that_is_not_there_does_not_keep_matplotlib_from_being_imported(
    start_python: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: str,
) -> None:
    monkeypatch.setenv("MPLBACKEND", named)
    process = start_python(IMPORTING, cwd=tmp_path)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.endswith(f" {named}\n")
    assert out.startswith("svg ") == (named == "svg")


@pytest.mark.parametrize(
    ("settings", "second_part"),
    [
        ({}, "0.5 x KL"),
        ({"beta": 2.0, "beta_schedule": "warmup"}, "2 (warmup) x KL"),
        ({"free_bits": 0.1}, "0.5 x KL (at least 0.1 a latent)"),
        ({"capacity": 5.0}, "0.5 x |KL - 5|"),
        ({"free_bits": 1.0, "capacity": 0.0}, "0.5 x |KL (at least 1 a latent) - 0|"),
    ],
    ids=str,
)
def test_the_title_says_what_of_the_divergence_the_loss_counts(
    settings: dict[str, Any], second_part: str
) -> None:
    assert formula(TrainingConfig(**settings)) == f"loss = reconstruction + {second_part}"


def test_epochs_are_marked_by_whole_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[list[float]] = []

    def look(figure: Figure, beside: object, **_: object) -> None:
        figure.canvas.draw()
        for axes in figure.axes:
            least, most = axes.get_xlim()
            marked.append([place for place in axes.get_xticks() if least <= place <= most])
        Path(str(beside)).touch()

    monkeypatch.setattr(Figure, "savefig", look)
    plot_losses(tmp_path / "loss.png", rows(1), TrainingConfig())
    assert marked == [[1.0]] * 3
