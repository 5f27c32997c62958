"""How what the user typed is understood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from vae_training.data import NAMED_SETS, load_images
from vae_training.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_name_wins_over_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(tmp_path / "digits" / name)
    monkeypatch.chdir(tmp_path)
    assert len(load_images("digits").images) == 1797
    assert len(load_images("./digits", image_size=(8, 8)).images) == 2


def test_a_folder_may_be_called_like_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "pictures.npy"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(folder / name)
    assert load_images(str(folder), image_size=(8, 8)).name == "pictures.npy"


def test_a_files_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.zeros((2, 8, 8), np.uint8))
    (tmp_path / "images.npy").rename(tmp_path / "IMAGES.NPY")
    assert load_images(str(tmp_path / "IMAGES.NPY")).name == "IMAGES"


@pytest.mark.parametrize("source", ["facse", "", "no/such/folder", "nul\0byte", "x" * 5000])
def test_what_is_neither_a_name_nor_a_path_is_refused_with_what_would_do(source: str) -> None:
    with pytest.raises(DataError) as refused:
        load_images(source, image_size=(8, 8))
    if len(source) < 100:
        assert f"{source!r}: no data set, file or folder of that name" in str(refused.value)
        assert ", ".join(NAMED_SETS) in str(refused.value)
        assert ".npy or .npz" in str(refused.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images.csv").touch()
    with pytest.raises(DataError, match="not a kind of file that is read here"):
        load_images(str(tmp_path / "images.csv"))


@pytest.mark.parametrize(
    ("size", "advice"),
    [((25, 25), "24"), ((4, 4), "8"), ((0, 0), "8"), ((-8, 30), "8x28"), ((2**40, 8), "16384x8")],
)
def test_a_size_that_the_model_cannot_take_is_refused_before_anything_is_read(
    size: tuple[int, int], advice: str
) -> None:
    with pytest.raises(DataError, match=rf"image size .*--image-size {advice}$"):
        load_images("no/such/folder", image_size=size)


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_channels_are_one_or_three(channels: int) -> None:
    with pytest.raises(DataError, match=f"channels {channels}; expected 1"):
        load_images("digits", channels=channels)


def test_every_refusal_leaves_with_the_exit_code_of_bad_input() -> None:
    assert DataError.exit_code == 3
