"""Picture files that are wrong, one by one and in folders, and the rules by which odd ones are read."""

from __future__ import annotations

import io
import os
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from png_bytes import black, chunk, png
from programs import MIB, Ended

Refuses = Callable[..., str]

FILE = "vae-run encode BAD --model BUNDLE -o out.npy --overwrite"
OTHERS = (
    "vae-run reconstruct BAD --model BUNDLE -o out.png --overwrite",
    "vae-run interpolate BAD 2 --model BUNDLE -o out.png --overwrite",
)
TRAIN = "vae-train --data folder --image-size 8x12 -o run"
EXPORT = "vae-export weights.safetensors --image-size 8x12 --data folder -o bundle"

GRAY = (np.arange(96, dtype=np.uint8) * 2).reshape(8, 12)
NOISE = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)


def saved(pixels: npt.NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(bits: int, black_is_zero: int) -> bytes:
    """A TIFF of 12x8 pixels, each a number of so many bits."""
    count = 12 * 8 * bits // 8
    fields = [
        (256, 12),
        (257, 8),
        (258, bits),
        (259, 1),
        (262, black_is_zero),
        (273, 110),
        (277, 1),
        (279, count),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in fields)
    return struct.pack("<2sHIH", b"II", 42, 8, len(fields)) + entries + bytes(4 + count)


UNREADABLE = "not a picture that can be read"
WHOLE = saved(NOISE, "PNG")

FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", UNREADABLE),
    "text": (b"not a picture\n", UNREADABLE),
    "an array": (b"\x93NUMPY\x01\x00" + bytes(100), UNREADABLE),
    "a PNG cut short": (WHOLE[: len(WHOLE) // 2], UNREADABLE),
    "a JPEG cut short": (saved(NOISE, "JPEG")[:-200], UNREADABLE),
    "a GIF cut short": (saved(NOISE, "GIF")[:-400], UNREADABLE),
    "a TIFF cut short": (saved(NOISE, "TIFF")[:-400], UNREADABLE),
    "a WebP cut short": (saved(NOISE, "WEBP")[:-100], UNREADABLE),
    "a changed byte": (WHOLE.replace(WHOLE[60:64], b"\xff\xff\xff\xff"), UNREADABLE),
    "a PostScript file": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", UNREADABLE),
    "a PDF": (b"%PDF-1.7\n" + bytes(100), UNREADABLE),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', UNREADABLE),
    "a picture of no kind on the list": (saved(GRAY, "PCX"), UNREADABLE),
    "no pixels": (png(0, 8), UNREADABLE),
    "no palette": (png(12, 8, bytes(13) * 8, colour=3), UNREADABLE),
    "100 million pixels": (png(10_000, 10_000), "10000x10000 pixels; expected at most 89478485 in all"),
    "400 million pixels": (png(20_000, 20_000), UNREADABLE),
    "4 billion a side": (png(0xFFFFFFFF, 0xFFFFFFFF), UNREADABLE),
    "fewer rows than it claims": (png(9000, 9000, bytes(1000)), UNREADABLE),
    "a text of 64 MB": (black(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 26)))), UNREADABLE),
    "a text of 64 MB in UTF-8": (black(chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(1 << 26)))), UNREADABLE),
    "a colour profile of 64 MB": (black(chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(1 << 26)))), UNREADABLE),
    "a broken EXIF": (black(chunk(b"eXIf", b"garbage")), UNREADABLE),
    "an EXIF that points outside": (black(chunk(b"eXIf", b"MM\0*\xff\xff")), UNREADABLE),
    "32-bit whole numbers": (saved(Image.new("I", (12, 8)), "TIFF"), "I-mode pixels (32 bits each); expected 8 or 16"),
    "32-bit fractions": (saved(Image.new("F", (12, 8)), "TIFF"), "F-mode pixels (32 bits each); expected 8 or 16"),
    "12 bits": (tiff(12, 1), "gray of 12 bits; expected 8 bits, or 16 in which 0 is black"),
    "16 bits with white as 0": (tiff(16, 0), "gray of 16 bits in which 0 is white; expected"),
    "Lab colours": (saved(Image.new("LAB", (12, 8)), "TIFF"), UNREADABLE),
}  # fmt: skip


@pytest.mark.parametrize(("data", "words"), FILES.values(), ids=FILES)
def test_a_bad_picture_is_refused_by_name(refuses: Refuses, data: bytes, words: str) -> None:
    Path("bad.png").write_bytes(data)
    refuses(FILE, "bad.png", 3, "bad.png: ", words)


def damaged(mode: str, compression: str) -> bytes:
    """A packed TIFF with four wrong bytes among its pixels."""
    data = saved(Image.fromarray(NOISE).convert(mode), "TIFF", compression=compression)
    return data[:100] + b"\xff\xff\xff\xff" + data[104:]


# What libtiff would print by itself, in lines of its own, and then take for pixels what there is.
TIFF_DAMAGE = {
    "fax": ("1", "group4"),
    "JPEG": ("L", "jpeg"),
    "deflate": ("L", "tiff_deflate"),
    "LZW": ("L", "tiff_lzw"),
}


@pytest.mark.skipif(
    sys.platform != "linux", reason="Pillow's wheels for other systems keep libtiff to themselves"
)
@pytest.mark.parametrize(("mode", "compression"), TIFF_DAMAGE.values(), ids=TIFF_DAMAGE)
def test_a_damaged_tiff_is_refused_on_one_line(refuses: Refuses, mode: str, compression: str) -> None:
    Path("bad.tif").write_bytes(damaged(mode, compression))
    refuses(FILE, "bad.tif", 3, "bad.tif: ", UNREADABLE)


def test_what_pillow_logs_of_a_picture_is_no_second_line(refuses: Refuses) -> None:
    fields = [(256, 4, 12), (257, 4, 8), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 65535)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in fields)
    Path("bad.tif").write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(fields)) + entries + bytes(4))
    refuses(FILE, "bad.tif", 3, "bad.tif: ", UNREADABLE)


@pytest.mark.parametrize("name", ["a PNG cut short", "100 million pixels", "an EXIF that points outside"])
@pytest.mark.parametrize("line", [*OTHERS, TRAIN, EXPORT], ids=lambda line: " ".join(line.split()[:2]))
def test_a_bad_picture_is_refused_by_every_command(refuses: Refuses, line: str, name: str) -> None:
    data, words = FILES[name]
    folder_of({"a.png": saved(GRAY, "PNG"), "bad.png": data, "c.png": saved(GRAY, "PNG")})
    refuses(line, "folder/bad.png", 3, "folder/bad.png: ", words)


def folder_of(files: dict[str, bytes]) -> None:
    Path("folder").mkdir()
    for name, data in files.items():
        Path("folder", name).write_bytes(data)


FOLDERS: dict[str, tuple[Callable[[], object], str]] = {
    "no files": (lambda: None, "folder holds no pictures (looked for .png, .jpg"),
    "no pictures": (lambda: Path("folder/notes.txt").touch(), "folder holds no pictures (looked for .png"),
    "empty folders": (lambda: Path("folder/a/b.png").mkdir(parents=True), "folder holds no pictures"),
    "a link to nowhere": (
        lambda: Path("folder/a.png").symlink_to("gone.png"),
        "a.png: expected a picture file; th",
    ),
    "a link to itself": (
        lambda: Path("folder/a.png").symlink_to("a.png"),
        "a.png: expected a picture file; it cannot be read (Too many levels",
    ),
    "a pipe": (lambda: os.mkfifo("folder/a.png"), "folder/a.png: expected a picture file; not a file"),
    "links to itself alone": (lambda: Path("folder/a").symlink_to("../folder"), "folder holds no pictures"),
}


def test_a_file_larger_than_any_picture_is_refused_unread(refuses: Refuses) -> None:
    with Path("bad.png").open("wb") as file:
        file.truncate(1 << 40)  # a hole, as large as an archive of backups
    refuses(FILE, "bad.png", 3, "bad.png: 1099511627776 bytes; expected a picture of at most 715827880")


@pytest.mark.parametrize(
    "line", [FILE, f"{TRAIN} --skip-bad"], ids=["vae-run encode", "vae-train --skip-bad"]
)
def test_a_picture_larger_than_the_memory_is_no_bad_picture(refuses: Refuses, line: str) -> None:
    canvas = struct.pack("<6sHH9xB4HBB", b"GIF89a", 9400, 9400, ord(","), 0, 0, 1, 1, 0, 2) + b"\2\x44\1\0;"
    folder_of({"a.png": saved(GRAY, "PNG"), "b.png": saved(GRAY, "PNG"), "large.gif": canvas})
    words = ("folder/large.gif: the picture does not fit into memory",)
    refuses(line, "folder", 4, *words, limits={"RLIMIT_AS": 64 * MIB})


@pytest.mark.parametrize("line", [FILE, TRAIN], ids=lambda line: " ".join(line.split()[:2]))
@pytest.mark.parametrize(("make", "words"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_without_a_good_picture_is_refused(
    refuses: Refuses, line: str, make: Callable[[], object], words: str
) -> None:
    Path("folder").mkdir()
    make()
    refuses(line, "folder", 3, words)


def test_a_folder_that_holds_itself_is_searched_once(run: Callable[..., Ended]) -> None:
    folder_of({"a.png": saved(GRAY, "PNG")})
    Path("folder/again").symlink_to("../folder")
    assert run(FILE, "folder").code == 0
    assert len(np.load("out.npy")) == 1


def test_a_folder_is_read_in_the_order_of_its_names_bytes(run: Callable[..., Ended]) -> None:
    names = [
        b"B.png",
        b"Z.png",
        b"a.png",
        b"a/b.png",
        "\N{LATIN SMALL LETTER E WITH ACUTE}.png".encode(),
        b"\xff.png",
    ]
    levels = {}
    for index, name in sorted(enumerate(names), key=lambda pair: -pair[0]):  # written in another order
        path = Path(os.fsdecode(b"folder/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        levels[name] = np.full((8, 12), index * 40, np.uint8)
        path.write_bytes(saved(levels[name], "PNG"))
    assert run(FILE, "folder").code == 0
    in_order = np.load("out.npy")
    np.save("images.npy", np.stack([levels[name] for name in names]))
    assert run(FILE, "images.npy").code == 0
    np.testing.assert_array_equal(in_order, np.load("out.npy"))


def test_bad_pictures_are_left_out_and_listed_on_demand(run: Callable[..., Ended]) -> None:
    folder_of({"bad-2.png": b"text", "good.png": saved(GRAY, "PNG")})
    Path("folder/bad\n1.png").write_bytes(FILES["an EXIF that points outside"][0])
    ended = run(f"{TRAIN} --skip-bad")
    assert (ended.code, ended.out) == (3, b"")
    first, second, count, last = ended.err.splitlines()
    assert first.startswith("vae-train: left out: folder/bad 1.png: not a picture")
    assert second.startswith("vae-train: left out: folder/bad-2.png: not a picture")
    assert count == "vae-train: folder: left out 2 of 3 pictures"
    assert last == "vae-train: error: folder: expected at least 2 images; found 1"
    Path("folder/good.png").unlink()
    assert run(f"{TRAIN} --skip-bad").err.endswith("error: folder: none of 2 pictures can be read\n")
    assert not Path("run").exists()


READERS = {
    "encode": "vae-run encode BAD",
    "score": "vae-run score BAD",
    "reconstruct": "vae-run reconstruct BAD",
    "edit": "vae-run edit BAD --direction way.npy --strength 1",
    "inpaint": "vae-run inpaint BAD --box 0,0,2,2",
    "denoise": "vae-run denoise BAD --noise-scale 0.1",
    "direction": "vae-run direction --with BAD --without white.png",
}


@pytest.mark.parametrize("line", READERS.values(), ids=READERS)
def test_so_are_those_that_a_model_is_to_work_on(run: Callable[..., Ended], line: str) -> None:
    good = [saved(np.full((8, 12), level, np.uint8), "PNG") for level in (40, 200)]
    folder_of({"a.png": good[0], "b.png": b"text", "c.png": b"", "d.png": good[1]})
    shutil.copytree("folder", "good", ignore=shutil.ignore_patterns("[bc].png"))
    Path("white.png").write_bytes(saved(np.full((8, 12), 255, np.uint8), "PNG"))
    np.save("way.npy", np.ones(3, np.float32))
    assert run(f"{line} --model BUNDLE -o expected.npy", "good").code == 0
    refused = run(f"{line} --model BUNDLE -o found.npy", "folder")
    assert (refused.code, refused.err.count("\n")) == (3, 1)
    assert "folder/b.png: not a picture" in refused.err
    assert not Path("found.npy").exists()
    ended = run(f"{line} --model BUNDLE -o found.npy --skip-bad", "folder")
    assert ended.code == 0
    first, second, count, *_ = ended.err.splitlines()
    assert first.startswith("vae-run: left out: folder/b.png: not a picture")
    assert second.startswith("vae-run: left out: folder/c.png: not a picture")
    assert count == "vae-run: left out 2 of 4 pictures"
    assert Path("found.npy").read_bytes() == Path("expected.npy").read_bytes()


def test_where_no_picture_is_good_there_is_nothing_to_work_on(run: Callable[..., Ended]) -> None:
    folder_of({"a.png": b"text", "b.png": b""})
    ended = run(f"{FILE} --skip-bad", "folder")
    assert ended.code == 3
    assert ended.err.endswith("vae-run: error: none of 2 pictures can be read\n")
    assert Path("out.npy").read_bytes() == b"the work of a week"


def test_what_is_logged_of_a_folder_is_one_line_that_commands_no_terminal(run: Callable[..., Ended]) -> None:
    name = b"a\x1b[2J\nb"
    folder = Path(os.fsdecode(name))
    folder.mkdir()
    for picture, data in {"a.png": saved(GRAY, "PNG"), "b.png": saved(GRAY, "PNG"), "c.png": b"text"}.items():
        (folder / picture).write_bytes(data)
    ended = run("vae-train --data BAD --image-size 8x12 --skip-bad --dry-run", name)
    assert ended.code == 0
    first, second = ended.err.splitlines()
    assert first.startswith(r"vae-train: left out: a\x1b[2J b/c.png: not a picture")
    assert second == r"vae-train: a\x1b[2J b: left out 1 of 3 pictures"


# Odd pictures that are read: what is in the file, and the gray picture that it means.
HALVES = np.zeros((8, 12), np.uint8)
HALVES[:, 6:] = 255
OPACITY = np.where(HALVES, 255, 0).astype(np.uint8)
TURNED = Image.Exif()
TURNED[0x0112] = 6


def with_opacity(mode: str) -> Image.Image:
    image = Image.fromarray(GRAY).convert(mode)
    image.putalpha(Image.fromarray(OPACITY))
    return image


ON_WHITE = np.where(OPACITY == 255, GRAY, 255).astype(np.uint8)
FRAMES = [Image.fromarray(GRAY), Image.fromarray(255 - GRAY)]
PGM_16 = b"P5\n12 8\n65535\n" + (GRAY.astype(">u2") * 257).tobytes()
WIDE_ROWS = b"".join(b"\0" + (row * 257).tobytes() for row in GRAY.astype(">u2"))
BIT_ROWS = (b"\0" + np.packbits(HALVES[0] > 0).tobytes()) * 8

READ: dict[str, tuple[bytes, npt.NDArray[np.uint8]]] = {
    "16 bits, PNG": (saved(GRAY.astype(np.uint16) * 257, "PNG"), GRAY),
    "16 bits, one being transparent": (
        png(12, 8, WIDE_ROWS, depth=16, extra=chunk(b"tRNS", b"\x28\x28")), np.where(GRAY == 40, 255, GRAY)
    ),
    "16 bits, TIFF": (saved(GRAY.astype(np.uint16) * 257, "TIFF"), GRAY),
    "16 bits, PGM": (PGM_16, GRAY),
    "1 bit": (png(12, 8, BIT_ROWS, depth=1), HALVES),
    "1 bit, black being transparent": (
        png(12, 8, BIT_ROWS, depth=1, extra=chunk(b"tRNS", b"\0\0")), np.full((8, 12), 255, np.uint8)
    ),
    "a palette": (saved(Image.fromarray(HALVES).convert("P"), "GIF"), HALVES),
    "CMYK": (saved(Image.fromarray(HALVES).convert("RGB").convert("CMYK"), "TIFF"), HALVES),
    "gray and opacity": (saved(with_opacity("L"), "PNG"), ON_WHITE),
    "colour and opacity": (saved(with_opacity("RGB"), "PNG"), ON_WHITE),
    "turned by a camera": (saved(np.ascontiguousarray(np.rot90(GRAY)), "PNG", exif=TURNED), GRAY),
    "a wrong suffix": (saved(GRAY, "BMP"), GRAY),
    "a cut EXIF": (black(chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\xff\x01\x12garbage")), np.zeros((8, 12), np.uint8)),
}  # fmt: skip


@pytest.mark.parametrize(("data", "means"), READ.values(), ids=READ)
def test_an_odd_picture_is_read_by_its_rule_and_without_a_word(
    run: Callable[..., Ended], data: bytes, means: npt.NDArray[np.uint8]
) -> None:
    Path("odd.png").write_bytes(data)
    ended = run(FILE, "odd.png")
    assert (ended.code, ended.err) == (0, "latents of 1 images, 3 each -> out.npy (on cpu)\n")
    latents = np.load("out.npy")
    np.save("plain.npy", means[None])
    assert run(FILE, "plain.npy").code == 0
    np.testing.assert_array_equal(latents, np.load("out.npy"))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_of_several_frames_the_first_is_taken_with_a_word_about_it(
    run: Callable[..., Ended], kind: str
) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:], **options)
    Path("odd\x1b[2J.gif").write_bytes(data)
    ended = run(FILE, "odd\x1b[2J.gif")
    assert ended.code == 0
    assert ended.err == (
        "vae-run: odd\\x1b[2J.gif: holds several frames or pages; the first is taken\n"
        "latents of 1 images, 3 each -> out.npy (on cpu)\n"
    )
    latents = np.load("out.npy")
    np.save("plain.npy", GRAY[None])
    assert run(FILE, "plain.npy").code == 0
    np.testing.assert_array_equal(latents, np.load("out.npy"))


def test_pictures_of_all_sizes_become_one_array(run: Callable[..., Ended]) -> None:
    folder_of({f"{side}.png": saved(Image.new("L", (side, 999 // side), 77), "PNG") for side in (1, 8, 300)})
    assert run(FILE, "folder").code == 0
    first, *others = np.load("out.npy")
    assert all((other == first).all() for other in others)
