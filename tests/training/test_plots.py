"""The loss curve: a picture of the right size, with a line for what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vae_training.plots import plot_losses

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
    plot_losses(path, rows(epochs), beta=0.5)
    with Image.open(path) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (1155, 374))
    assert {BLUE, ORANGE} <= colours(path)
    assert list(tmp_path.iterdir()) == [path]


def test_without_held_out_images_there_is_no_second_line(tmp_path: Path) -> None:
    path = tmp_path / "loss.png"
    plot_losses(path, rows(3, validation=False), beta=0.5)
    assert BLUE in colours(path)
    assert ORANGE not in colours(path)


def test_a_new_curve_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "loss.png"
    plot_losses(path, rows(1), beta=0.5)
    before = path.read_bytes()
    plot_losses(path, rows(2), beta=0.5)
    assert path.read_bytes() != before
