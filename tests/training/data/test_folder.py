"""What a folder of pictures gives, with real files."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from vae_runtime.errors import EnvironmentProblem, InputError
from vae_training.data import load_images
from vae_training.errors import DataError

SIZE = (8, 8)

Spoil = Callable[[Path], None]


def colours(seed: int, height: int = 12, width: int = 12) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two colour pictures, one of them in a subfolder."""
    pictures = tmp_path / "holiday"
    (pictures / "sub").mkdir(parents=True)
    Image.fromarray(colours(1)).save(pictures / "b.png")
    Image.fromarray(colours(2)).save(pictures / "sub" / "a.png")
    return pictures


def test_a_folder_is_searched_recursively_in_the_order_of_names(folder: Path) -> None:
    loaded = load_images(str(folder), image_size=(12, 12))
    np.testing.assert_array_equal(loaded.images, [colours(1), colours(2)])
    assert loaded.groups is None
    assert loaded.name == "holiday"
    assert loaded.source == "the folder holiday, 2 pictures"


def test_pictures_are_cropped_about_the_centre_and_resized_by_lanczos(folder: Path) -> None:
    Image.fromarray(colours(3, height=20, width=60)).save(folder / "wide.png")
    wide = Image.fromarray(colours(3, height=20, width=60))
    expected = wide.resize((8, 8), Image.Resampling.LANCZOS, box=(20, 0, 40, 20))
    np.testing.assert_array_equal(load_images(str(folder), image_size=SIZE).images[2], np.asarray(expected))


def test_gray_on_demand_is_pillows_luma(folder: Path) -> None:
    loaded = load_images(str(folder), image_size=(12, 12), channels=1)
    np.testing.assert_array_equal(
        loaded.images[0, ..., 0], np.asarray(Image.fromarray(colours(1)).convert("L"))
    )


def test_a_folder_without_any_colour_is_gray(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(colours(1)[..., 0]).save(tmp_path / name)
    loaded = load_images(str(tmp_path), image_size=(12, 12))
    np.testing.assert_array_equal(loaded.images[0, ..., 0], colours(1)[..., 0])
    assert loaded.images.shape == (2, 12, 12, 1)
    assert loaded.images.flags.c_contiguous
    assert load_images(str(tmp_path), image_size=(12, 12), channels=3).images.shape == (2, 12, 12, 3)


def test_the_rotation_in_a_photos_exif_is_applied(folder: Path) -> None:
    rotated = Image.Exif()
    rotated[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    Image.fromarray(colours(4)).save(folder / "c.jpg", exif=rotated)
    with Image.open(folder / "c.jpg") as photo:
        upright = np.asarray(photo.transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(load_images(str(folder), image_size=(12, 12)).images[1], upright)


def test_transparency_is_laid_on_white(folder: Path) -> None:
    Image.new("RGBA", (12, 12), (255, 0, 0, 0)).save(folder / "c.png")
    assert (load_images(str(folder), image_size=SIZE).images[1] == 255).all()


def test_sixteen_bits_are_scaled_to_eight(folder: Path) -> None:
    levels = np.arange(0, 65536, 456, dtype=np.uint16)[:144].reshape(12, 12)
    Image.fromarray(levels).save(folder / "c.png")
    loaded = load_images(str(folder), image_size=(12, 12), channels=1)
    np.testing.assert_array_equal(loaded.images[1, ..., 0], levels // 257)


def test_a_folder_needs_a_size(folder: Path) -> None:
    with pytest.raises(DataError, match="--image-size 64"):
        load_images(str(folder))


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match="holds no pictures"):
        load_images(str(tmp_path), image_size=SIZE)


def cut_short(path: Path) -> None:
    Image.fromarray(colours(5)).save(path)
    path.write_bytes(path.read_bytes()[:200])


def text(path: Path) -> None:
    path.write_text("not a picture")


def empty(path: Path) -> None:
    path.touch()


def link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere.png")


BREAK = pytest.mark.parametrize("spoil", [cut_short, text, empty, link_to_nowhere])


@BREAK
def test_a_bad_picture_fails_by_name(folder: Path, spoil: Spoil) -> None:
    spoil(folder / "bad.png")
    with pytest.raises(DataError, match=r"bad\.png"):
        load_images(str(folder), image_size=SIZE)


@BREAK
def test_a_bad_picture_is_left_out_and_logged_on_demand(
    folder: Path, spoil: Spoil, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(folder / "bad.png")
    with caplog.at_level(logging.WARNING):
        loaded = load_images(str(folder), image_size=(12, 12), skip_bad=True)
    np.testing.assert_array_equal(loaded.images, [colours(1), colours(2)])
    assert "bad.png" in caplog.messages[0]
    assert "left out 1 of 3 pictures" in caplog.messages[1]


def test_when_every_picture_is_bad_skipping_fails_too(tmp_path: Path) -> None:
    text(tmp_path / "a.png")
    text(tmp_path / "b.png")
    with pytest.raises(InputError, match="none of 2 pictures can be read"):
        load_images(str(tmp_path), image_size=SIZE, skip_bad=True)


def test_one_good_picture_is_too_few(folder: Path) -> None:
    text(folder / "b.png")
    with pytest.raises(DataError, match="expected at least 2 images; found 1"):
        load_images(str(folder), image_size=SIZE, skip_bad=True)


def test_progress_counts_every_picture_once(folder: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_images(str(folder), image_size=SIZE, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("allowed", [1, 3])
def test_no_more_threads_decode_than_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    from vae_training.data import folder as module

    monkeypatch.setattr(module, "available_processors", lambda: allowed)
    together = threading.Barrier(allowed)
    seen = module.in_parallel(lambda _: (together.wait(10), threading.get_ident())[1], 6 * allowed, None)
    assert len(set(seen)) == allowed


def test_an_interruption_in_progress_ends_the_loading(folder: Path) -> None:
    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_images(str(folder), image_size=SIZE, progress=interrupt)


def test_a_set_that_no_memory_holds_is_refused_before_a_picture_is_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError("Unable to allocate 2.25 GiB")

    monkeypatch.setattr(np, "empty", no_memory)
    with pytest.raises(
        EnvironmentProblem, match=r"holiday: does not fit in memory \(Unable to allocate 2"
    ) as e:
        load_images(str(folder), image_size=(16_384, 16_384))
    assert e.value.exit_code == 4


def test_a_set_larger_than_the_memory_that_is_left_is_refused_before_a_picture_is_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "b.png").write_bytes(b"text")
    monkeypatch.setattr("vae_runtime.memory.ALWAYS_TRIED", 0)
    monkeypatch.setattr("vae_runtime.memory.memory_left", lambda: 23)
    with pytest.raises(EnvironmentProblem, match=r"holiday: 2 pictures of 8x8 would take"):
        load_images(str(folder), image_size=SIZE)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_folders_name_that_is_not_utf8_becomes_text_that_a_card_can_hold(tmp_path: Path) -> None:
    pictures = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    pictures.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(colours(1)).save(pictures / name)
    loaded = load_images(str(pictures), image_size=SIZE)
    assert loaded.name == "caf\\xe9"
    assert loaded.source.encode() == b"the folder caf\\xe9, 2 pictures"


def test_the_current_folder_has_its_own_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert load_images(".", image_size=SIZE).name == "holiday"


def test_an_array_is_cropped_and_resized_as_pictures_are(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    arrays = [colours(seed, height=20, width=30) for seed in (1, 2)]
    for index, array in enumerate(arrays):
        Image.fromarray(array).save(pictures / f"{index}.png")
    np.save(tmp_path / "images.npy", arrays)
    for channels in (1, 3):
        from_files = load_images(str(pictures), image_size=(12, 16), channels=channels)
        from_array = load_images(str(tmp_path / "images.npy"), image_size=(12, 16), channels=channels)
        np.testing.assert_array_equal(from_array.images, from_files.images)
        assert from_array.images.shape == (2, 12, 16, channels)


def test_gray_arrays_become_rgb_by_repetition(tmp_path: Path) -> None:
    gray = colours(1)[np.newaxis, ..., 0].repeat(2, axis=0)
    np.save(tmp_path / "images.npy", gray)
    loaded = load_images(str(tmp_path / "images.npy"), image_size=SIZE, channels=3)
    fitted = np.asarray(ImageOps.fit(Image.fromarray(gray[0]), SIZE, method=Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(loaded.images[0], np.stack([fitted] * 3, axis=-1))
