"""The rules by which picture files become arrays, each against a file written here."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vae_runtime import InputError, ResourceLimitError
from vae_runtime.cli.pictures import find_pictures, list_pictures, load_picture, load_pictures

GRAY = (np.arange(96, dtype=np.uint8) * 2).reshape(8, 12)
COLOUR = np.stack([GRAY, GRAY[::-1], 255 - GRAY], axis=-1)


def saved(folder: Path, image: Image.Image, name: str = "a.png", **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def gray(path: Path, height: int = 8, width: int = 12) -> Any:
    return load_picture(path, height, width, 1)


def colour(path: Path, height: int = 8, width: int = 12) -> Any:
    return load_picture(path, height, width, 3)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.gif", "a.PNG"])
@pytest.mark.parametrize("pixels", [GRAY, COLOUR], ids=["gray", "colour"])
def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path: Path, name: str, pixels: Any) -> None:
    if name == "a.gif" and pixels is COLOUR:
        pytest.skip("GIF has 256 colours")
    path = saved(tmp_path, Image.fromarray(pixels), name)
    read = load_picture(path, 8, 12, 1 if pixels is GRAY else 3)
    np.testing.assert_array_equal(read, pixels)
    assert read.dtype == np.uint8


def test_gray_becomes_colour_and_colour_gray(tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        colour(saved(tmp_path, Image.fromarray(GRAY))), np.repeat(GRAY[..., None], 3, axis=-1)
    )
    red, green, blue = np.moveaxis(COLOUR.astype(float), -1, 0)
    weighted = 0.299 * red + 0.587 * green + 0.114 * blue
    assert np.abs(gray(saved(tmp_path, Image.fromarray(COLOUR))) - weighted).max() <= 1


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    opacity = np.zeros((8, 12), np.uint8)
    opacity[:, 4:8] = 128
    opacity[:, 8:] = 255
    expected = np.rint(GRAY * (opacity / 255.0) + 255 * (1 - opacity / 255.0))
    for mode in ("LA", "RGBA"):
        image = Image.fromarray(GRAY).convert(mode)
        image.putalpha(Image.fromarray(opacity))
        read = gray(saved(tmp_path, image))
        assert np.abs(read - expected).max() <= 1
        assert (read[:, :4] == 255).all()


def test_a_transparent_colour_of_a_palette_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (12, 8), 0)
    image.putpalette([0, 0, 0, 100, 100, 100])
    image.paste(1, (0, 0, 6, 8))
    read = gray(saved(tmp_path, image, transparency=0))
    assert (read[:, :6] == 100).all()
    assert (read[:, 6:] == 255).all()


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    deep = GRAY.astype(np.uint16) * 257
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(gray(saved(tmp_path, Image.fromarray(deep), name)), GRAY)
    np.testing.assert_array_equal(colour(saved(tmp_path, Image.fromarray(deep)))[..., 1], GRAY)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK"])
def test_other_modes_are_converted(tmp_path: Path, mode: str) -> None:
    halves = np.zeros((8, 12), np.uint8)
    halves[:, 6:] = 255
    image = Image.fromarray(halves).convert("RGB").convert(mode)
    path = saved(tmp_path, image, "a.tif")
    assert np.abs(gray(path).astype(int) - halves).max() <= 2
    assert np.abs(colour(path).astype(int) - halves[..., None]).max() <= 2


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bits_are_refused(tmp_path: Path, mode: str) -> None:
    path = saved(tmp_path, Image.new(mode, (12, 8)), "a.tif")
    with pytest.raises(InputError, match=rf"a\.tif: {mode}-mode pixels .*expected 8 or 16 bits"):
        gray(path)


@pytest.mark.parametrize("turn", [1, 2, 3, 4, 5, 6, 7, 8])
def test_the_rotation_that_a_camera_noted_is_applied(tmp_path: Path, turn: int) -> None:
    stored = {
        1: GRAY, 2: GRAY[:, ::-1], 3: GRAY[::-1, ::-1], 4: GRAY[::-1],
        5: GRAY.T, 6: np.rot90(GRAY), 7: GRAY[::-1, ::-1].T, 8: np.rot90(GRAY, -1),
    }[turn]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = turn
    path = saved(tmp_path, Image.fromarray(np.ascontiguousarray(stored)), "a.png", exif=exif)
    np.testing.assert_array_equal(gray(path), GRAY)


def test_of_an_animation_the_first_frame_is_taken_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Image.new("L", (12, 8), value) for value in (10, 200)]
    path = saved(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert (gray(path) == 10).all()
    assert caplog.messages == [f"{path}: holds several frames or pages; the first is taken"]
    assert (gray(saved(tmp_path, frames[0], "b.gif")) == 10).all()
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    "error",
    [struct.error("unpack"), KeyError("x"), IndexError("x"), EOFError(), ZeroDivisionError()],
)
def test_whatever_a_decoder_raises_the_file_is_at_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(InputError, match=r"a\.png: not a picture that can be read \("):
        gray(saved_bytes(tmp_path))


def test_a_picture_is_cropped_about_its_centre_to_the_shape(tmp_path: Path) -> None:
    wide = np.zeros((8, 20), np.uint8)
    wide[:, 4:16] = GRAY
    np.testing.assert_array_equal(gray(saved(tmp_path, Image.fromarray(wide))), GRAY)
    tall = np.zeros((12, 12), np.uint8)
    tall[2:10] = GRAY
    np.testing.assert_array_equal(gray(saved(tmp_path, Image.fromarray(tall))), GRAY)


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (999, 3), (3, 999)])
def test_a_picture_of_any_size_is_brought_to_the_shape(tmp_path: Path, size: tuple[int, int]) -> None:
    read = gray(saved(tmp_path, Image.new("L", size, 77)))
    assert read.shape == (8, 12)
    assert (read == 77).all()


def saved_bytes(folder: Path) -> Path:
    """A PNG written without Pillow."""
    rows = bytes(13) * 8
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 12, 8, 8, 0, 0, 0, 0))
    (folder / "a.png").write_bytes(data + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return folder / "a.png"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("side", [10_000, 20_000, 65_000])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(InputError, match=r"bomb\.png: .*pixels"):
        gray(tmp_path / "bomb.png")


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.gif", "a.tif", "a.jpg"])
def test_a_picture_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    whole, original = path.read_bytes(), gray(path, 40, 40)
    for length in range(0, len(whole) * 9 // 10, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=rf"{name}: not a picture that can be read \(.+\)"):
            gray(path, 40, 40)
    for length in range(len(whole) * 9 // 10, len(whole)):
        # Without its last bytes, which hold no pixels, a picture may be whole all the same.
        path.write_bytes(whole[:length])
        with contextlib.suppress(InputError):
            np.testing.assert_array_equal(gray(path, 40, 40), original)


@pytest.mark.parametrize(
    "data", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", b"%PDF-1.4\n", b"icns", b"P7\n"]
)
def test_formats_that_are_not_on_the_list_are_refused_whatever_their_name(
    tmp_path: Path, data: bytes
) -> None:
    (tmp_path / "a.png").write_bytes(data + bytes(200))
    with pytest.raises(InputError, match="not a picture that can be read"):
        gray(tmp_path / "a.png")


def test_a_folder_is_searched_recursively_in_the_order_of_bytes(tmp_path: Path) -> None:
    for name in (
        "b.png",
        "B.JPG",
        "a/z.png",
        "a/y.gif",
        "\N{LATIN SMALL LETTER E WITH ACUTE}.png",
        "notes.txt",
        "a.npy",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [str(path.relative_to(tmp_path).as_posix()) for path in find_pictures(tmp_path)]
    assert found == ["B.JPG", "a/y.gif", "a/z.png", "b.png", "\N{LATIN SMALL LETTER E WITH ACUTE}.png"]
    assert list_pictures([tmp_path / "b.png", tmp_path / "a"]) == [
        tmp_path / "b.png", tmp_path / "a" / "y.gif", tmp_path / "a" / "z.png",
    ]  # fmt: skip


def test_hidden_files_and_folders_are_left_out_unless_they_are_named(tmp_path: Path) -> None:
    hidden = tmp_path / ".hidden"
    for path in (tmp_path / "a.png", tmp_path / "._a.png", hidden / "b.png", hidden / ".cache" / "c.png"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert find_pictures(tmp_path) == [tmp_path / "a.png"]
    assert list_pictures([hidden, tmp_path / "._a.png"]) == [hidden / "b.png", tmp_path / "._a.png"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds no pictures \(looked for \.png, \.jpg"):
        find_pictures(tmp_path)


def test_a_folder_that_cannot_be_searched_is_refused_and_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A superuser may search any folder: so the system's answer is made up for one of them.
    saved(tmp_path, Image.fromarray(GRAY))
    (tmp_path / "private").mkdir()
    list_folder = os.scandir

    def not_that_one(path: Any) -> Any:
        if os.fspath(path).endswith("private"):
            raise PermissionError(13, "Permission denied", path)
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", not_that_one)
    with pytest.raises(InputError, match=r"private: cannot be searched for pictures \(Permission denied\)"):
        find_pictures(tmp_path)


def test_pictures_of_mixed_sizes_become_one_array(tmp_path: Path) -> None:
    files = [saved(tmp_path, Image.new("L", (side, 2 * side), side), f"{side}.png") for side in (5, 8, 40)]
    assert load_pictures(files, 8, 12, 1)[1].shape == (3, 8, 12)
    assert load_pictures(files, 8, 12, 3)[1].shape == (3, 8, 12, 3)
    assert load_pictures(files, 8, 12, 1)[1][:, 0, 0].tolist() == [5, 8, 40]


def test_pictures_larger_than_the_memory_that_is_left_are_refused_unread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vae_runtime.memory.ALWAYS_TRIED", 0)
    monkeypatch.setattr("vae_runtime.memory.memory_left", lambda: 23)
    with pytest.raises(ResourceLimitError, match=r"\(1 pictures of 4x2 would take"):
        load_pictures([Path("gone.png")], 4, 2, 3)


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    try:
        path.write_bytes(saved(tmp_path, Image.fromarray(GRAY)).read_bytes())
    except OSError:
        pytest.skip("this file system takes no such name")
    np.testing.assert_array_equal(gray(path), GRAY)
