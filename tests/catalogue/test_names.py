"""Names of files: those that lead nowhere, or to something that is no file, and odd ones that are fine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from programs import Ended, Programs

Refuses = Callable[..., str]

READERS = {
    "encode": "vae-run encode BAD --model BUNDLE -o out.npy --overwrite",
    "interpolate": "vae-run interpolate 1 BAD --model BUNDLE -o out.png --overwrite",
    "decode": "vae-run decode BAD --model BUNDLE -o out.npy --overwrite",
    "train": "vae-train --data BAD -o run",
    "settings": "vae-train --config BAD -o run",
    "export": "vae-export weights.safetensors --image-size 8x12 --data BAD -o bundle",
}
SUFFIXES = {"settings": ".toml", "interpolate": ".png"}

every_reader = pytest.mark.parametrize("reader", READERS)

LONG = "x" * 300
DEEP = "y/" * 3000

PLACES: dict[str, Callable[[str], object]] = {
    "nothing": lambda _: None,
    "a pipe": os.mkfifo,
    "a link to itself": lambda name: Path(name).symlink_to(name),
    "a link to a device": lambda name: Path(name).symlink_to("/dev/zero"),
}


@every_reader
@pytest.mark.parametrize("kind", PLACES)
def test_what_is_no_file_is_refused_at_once(refuses: Refuses, reader: str, kind: str) -> None:
    name = "bad" + SUFFIXES.get(reader, ".npy")
    PLACES[kind](name)
    refuses(READERS[reader], name, 3, name)


@every_reader
@pytest.mark.parametrize("name", [LONG, DEEP, "out.npy/below"], ids=["long", "deep", "below a file"])
def test_a_name_that_cannot_be_is_refused(refuses: Refuses, reader: str, name: str) -> None:
    refuses(READERS[reader], name + SUFFIXES.get(reader, ".npy"), 3)


@pytest.mark.parametrize(
    ("reader", "code"), [("interpolate", 3), ("decode", 2), ("train", 3), ("settings", 2)]
)
def test_no_name_at_all_is_refused(refuses: Refuses, reader: str, code: int) -> None:
    refuses(READERS[reader], "", code)


TERRIBLE = b"a\nb\r\x1b[2J\x07\xe2\x80\xae\xe2\x80\xa8 c\xff.npy"


@every_reader
def test_a_terrible_name_is_told_on_one_line_that_commands_no_terminal(refuses: Refuses, reader: str) -> None:
    said = refuses(READERS[reader], TERRIBLE, 2 if reader == "train" else 3)
    assert "cannot be read" in said or "there is no" in said or "rename it" in said or "a readable" in said


FINE = [
    b"with space.npy",
    b"-n.npy",
    b"--help.npy",
    b"~.npy",
    b"$HOME.npy",
    b"a;b&c|d'e\"f`g.npy",
    "sn\N{LATIN SMALL LETTER O WITH DIAERESIS}w\N{SNOWMAN}.npy".encode(),
    b"caf\xe9.npy",
    b"a\nb.npy",
    b"con.npy",
    b"%s%n{0}.npy",
    b"z" * 251 + b".npy",
]


@pytest.mark.parametrize("name", FINE, ids=ascii)
def test_an_odd_name_is_a_name_of_inputs_and_of_outputs(run: Callable[..., Ended], name: bytes) -> None:
    np.save("in.npy", np.zeros((2, 8, 12), np.uint8))
    os.rename("in.npy", name)  # noqa: PTH104 - a name of bytes
    encoded = run("vae-run encode --model BUNDLE -o out.npy --overwrite -- BAD", name)
    assert encoded.code == 0, encoded.err
    Path("inner").mkdir()
    decoded = run("vae-run decode out.npy --model BUNDLE -o BAD", b"inner/" + name)
    assert decoded.code == 0, decoded.err
    assert len(decoded.err.splitlines()) == 1
    assert [os.fsencode(path.name) for path in Path("inner").iterdir()] == [name]


def test_an_odd_name_may_be_a_bundles_and_a_folders(
    place: Path, programs: Programs, gray_bundle: Path
) -> None:
    for name in (b"a\nb c\xff", b"-x", "\N{SNOWMAN}".encode()):
        bundle, folder = Path(os.fsdecode(name)), Path(os.fsdecode(name + b".d"))
        shutil.copytree(gray_bundle, bundle)
        folder.mkdir()
        Image.new("L", (12, 8)).save(folder / "a.png")
        ended = programs.run(
            "vae-run", "encode", "-o", "out.npy", "--overwrite", f"--model={bundle}", "--", folder
        )
        assert ended.code == 0, ended.err


PLACES_TO_WRITE = {
    "below a file": ("out.npy/a.png", 3, "a file bears the name of a folder above it"),
    "too long": (LONG + ".png", 3, "the name is longer than the file system takes"),
    "too deep": (DEEP + "a.png", 3, "the name is longer than the file system takes"),
    "an unknown suffix": ("a.jpg", 2, "expected a name in .png, .npy, .npz, a name without suffix"),
    "no name": ("", 2, "expected a name of its own"),
    "the folder itself": (".", 2, "expected a name of its own"),
    "the root": ("/", 2, "expected a name of its own"),
    "there already": ("out.png", 3, "out.png exists already; give --overwrite to replace it"),
    "a device": ("/dev/null", 3, "/dev/null exists already"),
    "an unknown suffix that commands the terminal": ("a.\x1b[2J", 2, r"output 'a.\x1b[2J'"),
}


@pytest.mark.parametrize(("name", "code", "words"), PLACES_TO_WRITE.values(), ids=PLACES_TO_WRITE)
def test_a_place_that_cannot_be_written_is_refused(
    refuses: Refuses, name: str, code: int, words: str
) -> None:
    refuses("vae-run sample -n 2 --model BUNDLE -o BAD", name, code, words)
