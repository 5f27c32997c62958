"""Array files that are wrong, given to every command that reads one."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npy_bytes import Evil, claiming, header, npy, npz, packed_zeros, raw_header
from programs import MIB, Ended

Refuses = Callable[..., str]

ENCODE = "vae-run encode BAD --model BUNDLE -o out.npy --overwrite"
RECONSTRUCT = "vae-run reconstruct BAD --model BUNDLE -o out.png --overwrite"
INTERPOLATE = "vae-run interpolate 1 BAD --model BUNDLE -o out.png --overwrite"
DECODE = "vae-run decode BAD --model BUNDLE -o out.npy --overwrite"
TRAIN = "vae-train --data BAD -o run"
EXPORT = "vae-export weights.safetensors --image-size 8x12 --data BAD -o bundle"

MAIN_READERS = (ENCODE, TRAIN)
OTHER_READERS = (DECODE, RECONSTRUCT, INTERPOLATE, EXPORT)  # which share their readers with those


def named(line: str) -> str:
    return " ".join(line.split()[:2])


PIXELS = np.arange(4 * 8 * 12, dtype=np.uint8).reshape(4, 8, 12)
LATENTS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
WHOLE = npy(PIXELS)

# Wrong whatever the array is for.
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a complete .npy"),
    "text": (b"1,2,3\n4,5,6\n", "not a complete .npy"),
    "header cut short": (WHOLE[:40], "not a complete .npy"),
    "data cut short": (WHOLE[:-1], "header says 512 bytes, file has 511"),
    "trailing bytes": (WHOLE + b"\n", "header says 512 bytes, file has 513"),
    "two arrays in one file": (WHOLE + WHOLE, "header says 512 bytes, file has 1024"),
    "a pickle": (npy(np.array([Evil()], object)), "object arrays are refused"),
    "a zip archive": (npz(("images.npy", WHOLE)), "is a zip archive"),
    "a gzip file": (b"\x1f\x8b\x08" + bytes(100), "not a complete .npy"),
    "a PNG": (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a complete .npy"),
    "8 GB in a small file": (header("(2147483648, 4)"), "header says 8589934720 bytes, file has 128"),
    "4 GB of header": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(200), "not a complete .npy"),
    "more than any memory": (header(f"({10**30}, {10**30})"), "no memory holds that many numbers"),
    "a negative axis": (header("(-4, 8, 12)", data=bytes(384)), "expected whole numbers"),
    "an axis of a truth": (header("(True, 8, 12)", data=bytes(96)), "expected whole numbers"),
    "an axis of a fraction": (header("(4.0, 8, 12)", data=bytes(384)), "not a complete .npy"),
    "an axis of 5,000 digits": (header(f"({'9' * 5000},)"), "not a complete .npy"),
    "more axes than any array has": (header(f"({'1, ' * 70})", data=bytes(1)), "70 axes; expected at most 32"),
    "nested brackets": (raw_header("(" * 300), "not a complete .npy"),
    "a header that calls": (raw_header("__import__('os').mkdir('called')"), "not a complete .npy"),
    "an unknown version": (b"\x93NUMPY\x09\x00" + WHOLE[8:], "not a complete .npy"),
    "complex numbers": (npy(PIXELS.astype(complex)), "data type complex128; expected"),
    "dates": (npy(PIXELS.astype("M8[s]")), "data type datetime64[s]; expected"),
    "text as numbers": (npy(PIXELS.astype(str)), "data type <U3; expected"),
    "records": (npy(np.zeros(4, [("a\x1b[2J\n", "<f4")])), "data type [('a\\x1b[2J\\n', '<f4')]; expected"),
}  # fmt: skip


def cases(table: dict[str, tuple[Any, str]], some: tuple[str, ...]) -> Any:
    """Every line of a table with the main readers, and some of them with the others."""
    every = [(line, name) for line in MAIN_READERS for name in table]
    every += [(line, name) for line in OTHER_READERS for name in some]
    return pytest.mark.parametrize(
        ("line", "made", "words"),
        [pytest.param(line, *table[name], id=f"{named(line)} {name}") for line, name in every],
    )


@cases(FILES, some=("data cut short", "8 GB in a small file", "a pickle"))
def test_a_file_that_is_no_array_of_numbers_is_refused(
    refuses: Refuses, line: str, made: bytes, words: str
) -> None:
    Path("bad.npy").write_bytes(made)
    refuses(line, "bad.npy", 3, "bad.npy: ", words)


def huge(count: int) -> bytes:
    return header(f"({count}, 8, 12)")


OTHER = ("other.npy", npy(0))  # an array that is alone may have any name

# By the name of the array that a command looks for.
ARCHIVES: dict[str, tuple[Callable[[str], bytes], str]] = {
    "empty": (lambda _: b"", "not a complete .npz archive"),
    "an array": (lambda _: WHOLE, "not a complete .npz archive"),
    "cut short": (lambda name: npz((name, WHOLE))[:-30], "not a complete .npz archive"),
    "a changed byte": (
        lambda name: npz((name, WHOLE)).replace(bytes(range(50, 60)), bytes(10), 1), "Bad CRC-32"
    ),
    "nothing": (lambda _: npz(), "it holds no"),
    "an archive in the archive": (lambda name: npz((name, npz(("a.npy", WHOLE)))), "is a zip archive"),
    "two of one name": (lambda name: npz((name, WHOLE), (name[:-4], npy(255 - PIXELS))), "holds two arrays call"),
    "a folder": (lambda name: npz((f"{name}/", b"")), "npy/"),
    "a name that climbs": (lambda name: npz((f"../{name}", npy(0)), OTHER), "it holds ../"),
    "a name that is absolute": (lambda name: npz((f"/etc/{name}", npy(0)), OTHER), "it holds /etc/"),
    "a name that commands the terminal": (lambda _: npz(("a\x1b[2J\nb.npy", npy(0)), OTHER), r"a\x1b[2J b"),
    "another packing": (
        lambda name: npz((name, WHOLE), packing=zipfile.ZIP_LZMA), "is packed by method 14; expected"
    ),
    "8 GB in a small member": (
        lambda name: npz((name, huge(89_478_485))), "header says 8589934688 bytes, the archive has 128"
    ),
    "a claim of 4 GB": (
        lambda name: claiming(npz((name, huge(41_666_666))), 4_000_000_064), "bytes cannot hold the 4000000064"
    ),
    "less than it claims": (lambda name: claiming(npz((name, huge(10))), 128 + 960), "bad.npz: "),
    "a pickle": (lambda name: npz((name, npy(np.array([Evil()], object)))), "object arrays are refused"),
}  # fmt: skip


@cases(ARCHIVES, some=("two of one name", "a claim of 4 GB"))
def test_an_archive_that_does_not_hold_what_it_says_is_refused(
    refuses: Refuses, line: str, made: Callable[[str], bytes], words: str
) -> None:
    Path("bad.npz").write_bytes(made("mean.npy" if " decode " in line else "images.npy"))
    refuses(line, "bad.npz", 3, "bad.npz: ", words)


@pytest.mark.parametrize("line", [ENCODE, TRAIN], ids=named)
def test_an_archive_that_unpacks_to_more_than_the_memory_is_told_so(refuses: Refuses, line: str) -> None:
    Path("bomb.npz").write_bytes(packed_zeros("images.npy", (4_000_000, 8, 12)))
    refuses(line, "bomb.npz", 4, "memory", limits={"RLIMIT_AS": 256 * MIB})


def with_one(value: float, dtype: str = "<f4") -> Any:
    images = np.full((4, 1, 8, 12), 0.5, dtype)
    images[1, 0, 2, 3] = value
    return images


# Arrays that are whole, and not of images of 8x12. The first words are vae-run's, the second training's.
NOT_IMAGES: dict[str, tuple[Any, str, str]] = {
    "no axes": (np.float32(0.5), "shape ()", "shape (); expected (N, H, W)"),
    "one picture": (PIXELS[0], "expected (N, 8, 12); add the batch axis", "shape (8, 12); expected (N, H, W)"),
    "five axes": (PIXELS[..., None, None], "expected (N, 8, 12)", "expected (N, H, W)"),
    "two channels": (np.zeros((4, 8, 12, 2), np.uint8), "expected (N, 8, 12)", "no axis of 1 or 3 channels"),
    "text": (np.array(["a"]), "data type <U1", "data type <U1"),
    "signed bytes": (PIXELS.astype(np.int8), "images of type int8; expected", "data type int8; expected uint8"),
    "16-bit pixels": (PIXELS.astype(np.uint16), "images of type uint16", "data type uint16; expected uint8"),
    "whole numbers": (PIXELS.astype(np.int64), "images of type int64", "data type int64; expected uint8"),
    "nan": (with_one(np.nan), "images hold nan at index (1, 0, 2, 3)", "NaN, first at index (1, 0, 2, 3)"),
    "infinity": (with_one(np.inf), "images hold inf at index (1, 0, 2, 3)", "values from 0.5 to inf; expected"),
    "minus infinity": (with_one(-np.inf, ">f8"), "images hold -inf at index (1, 0, 2, 3)", "from -inf to 0.5"),
    "beyond float32": (with_one(1e300, "<f8"), "images hold inf at index (1, 0, 2, 3)", "from 0.5 to 1e+300"),
    "0 to 255 as floats": (
        PIXELS[:, None].astype(np.float64), "range from 0 to 255; expected [0, 1] (divide", "(divide 0..255 by 255"
    ),
    "-1 to 1": (with_one(-1.0, "<f2"), "range from -1 to 0.5", "from -1.0 to 0.5; expected"),
}  # fmt: skip


@pytest.mark.parametrize("line", [ENCODE, TRAIN], ids=named)
@pytest.mark.parametrize(("array", "by_run", "by_training"), NOT_IMAGES.values(), ids=NOT_IMAGES)
def test_an_array_that_is_not_of_images_is_refused(
    refuses: Refuses, line: str, array: Any, by_run: str, by_training: str
) -> None:
    np.save("bad.npy", array)
    refuses(line, "bad.npy", 3, by_training if line == TRAIN else by_run)


def with_a_point(value: float) -> Any:
    latents = LATENTS.copy()
    latents[2, 1] = value
    return latents


NOT_LATENTS: dict[str, tuple[Any, str]] = {
    "no axes": (np.float32(1), "latents of shape (); expected (N, 3)"),
    "one point": (LATENTS[0], "latents of shape (3,); expected (N, 3); add the batch axis"),
    "of another model": (np.zeros((4, 20), np.float32), "latents of shape (4, 20); expected (N, 3)"),
    "images": (np.zeros((4, 1, 8, 12), np.float32), "latents of shape (4, 1, 8, 12)"),
    "pixels": (np.zeros((4, 3), np.uint8), "bad.npy: latents of type uint8; expected floating point (N, D)"),
    "whole numbers": (np.zeros((4, 3), np.int64), "latents of type int64"),
    "truths": (np.zeros((4, 3), bool), "latents of type bool"),
    "nan": (with_a_point(np.nan), "latents hold nan at index (2, 1)"),
    "infinity": (with_a_point(np.inf), "latents hold inf at index (2, 1)"),
    "beyond float32": (LATENTS.astype(np.float64) * 1e300, "latents hold -inf at index (0, 0)"),
}


@pytest.mark.parametrize(("array", "words"), NOT_LATENTS.values(), ids=NOT_LATENTS)
def test_an_array_that_is_not_of_latents_is_refused(refuses: Refuses, array: Any, words: str) -> None:
    np.save("bad.npy", np.asarray(array))
    refuses(DECODE, "bad.npy", 3, words)


def test_too_few_images_to_train_on_are_refused(refuses: Refuses) -> None:
    for count in (0, 1):
        np.save("bad.npy", PIXELS[:count])
        refuses(TRAIN, "bad.npy", 3, "bad.npy: ", "images")


def test_the_order_of_bytes_and_axes_and_the_precision_change_no_result(run: Callable[..., Ended]) -> None:
    # Halves and quarters: exact in every precision.
    images = (np.arange(4 * 96).reshape(4, 1, 8, 12) % 5 / 4).astype(np.float32)
    latents = np.round(LATENTS * 4) / 4
    for line, values in ((ENCODE, images), (DECODE, latents)):
        results = set()
        for dtype, order in (
            ("<f4", "C"),
            (">f4", "C"),
            ("<f8", "F"),
            (">f8", "F"),
            ("<f2", "C"),
            (">f2", "F"),
        ):
            np.save("given.npy", np.asarray(values.astype(dtype), order=order))
            assert run(line, "given.npy").code == 0
            results.add(Path("out.npy").read_bytes())
        assert len(results) == 1


def test_nothing_in_gives_nothing_out(run: Callable[..., Ended]) -> None:
    np.save("images.npy", PIXELS[:0])
    np.save("latents.npy", LATENTS[:0])
    assert run(ENCODE, "images.npy").code == 0
    assert np.load("out.npy").shape == (0, 3)
    assert run(DECODE, "latents.npy").code == 0
    assert np.load("out.npy").shape == (0, 8, 12)


def test_nothing_is_no_point_to_go_through(refuses: Refuses) -> None:
    np.save("bad.npy", PIXELS[:0])
    refuses(INTERPOLATE, "bad.npy", 3, "bad.npy: holds no images; expected one")


def test_an_array_beside_other_inputs_is_refused(refuses: Refuses) -> None:
    np.save("bad.npy", PIXELS)
    for line in ("vae-run encode BAD out.png", "vae-run reconstruct out.png BAD"):
        refuses(f"{line} --model BUNDLE -o new.npy", "bad.npy", 3, "bad.npy: one array goes alone")


def test_a_suffix_may_be_in_capitals(run: Callable[..., Ended]) -> None:
    np.save("a.npy", PIXELS)
    np.savez("a.npz", images=PIXELS)
    for name in ("a.npy", "a.npz"):
        Path(name).rename(name.upper())
        assert run(ENCODE, name.upper()).code == 0
        assert np.load("out.npy").shape == (4, 3)
    np.savez("l.npz", mean=LATENTS)
    Path("l.npz").rename("L.NPZ")
    assert run(DECODE, "L.NPZ").code == 0
