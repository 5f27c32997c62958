"""The loss curve: a picture of the right size, with a line for what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
