"""Where outputs go: never over something unasked, never half, never in vain."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run_within

COMMANDS = [
    (["sample", "-n", "2"], ["a.png", "a.npy", "a.npz", "a"]),
    (["interpolate", "1", "2", "--steps", "3"], ["a.png"]),
    (["reconstruct", "in.npy"], ["a.png"]),
    (["decode", "latents-in.npy"], ["a.png", "a"]),
    (["encode", "in.npy"], ["a.npy", "a.npz"]),
    (["score", "in.npy"], ["a.csv", "a.npy", "a.npz"]),
]
CASES = [(command, name) for command, names in COMMANDS for name in names]

every_output = pytest.mark.parametrize(
    ("command", "name"), CASES, ids=[f"{c[0]} {name}" for c, name in CASES]
)


def contents(path: Path) -> Any:
    return {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else path.read_bytes()


def names(folder: str = ".") -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.fixture(autouse=True)
def _inputs(vae_run: Any) -> None:
    np.save("in.npy", np.zeros((2, 8, 12), np.uint8))
    np.save("latents-in.npy", np.zeros((2, 3)))


def put_something(name: str) -> Path:
    path = Path(name)
    if path.suffix:
        path.write_bytes(b"mine")
    else:
        path.mkdir()
        (path / "9999.png").write_bytes(b"mine")
    return path


@every_output
def test_what_exists_is_kept_unless_it_may_be_overwritten(
    vae_run: Any, gray_bundle: Path, command: list[str], name: str
) -> None:
    path = put_something(name)
    before = contents(path)
    done = vae_run(*command, "--model", gray_bundle, "-o", name)
    assert done.code == 3
    assert (
        done.err
        == f"vae-run: error: {name} exists already; give --overwrite to replace it, or another name\n"
    )
    assert contents(path) == before
    assert vae_run(*command, "--model", gray_bundle, "-o", name, "--overwrite").code == 0
    assert contents(path) != before
    assert not path.is_dir() or "9999.png" not in contents(path)
    assert names() == sorted(["in.npy", "latents-in.npy", name])


@every_output
def test_a_failure_leaves_the_old_output(
    vae_run: Any, gray_bundle: Path, command: list[str], name: str
) -> None:
    path = put_something(name)
    before = contents(path)
    done = vae_run(*command, "--model", "gone", "-o", name, "--overwrite")
    assert done.code == 3
    assert contents(path) == before


@pytest.mark.parametrize("name", ["a.jpg", "notes.txt", "beach.png", "inner"])
def test_a_folder_that_holds_other_things_is_never_replaced(
    vae_run: Any, gray_bundle: Path, name: str
) -> None:
    path = put_something("a")
    (path / name).mkdir() if name == "inner" else (path / name).write_bytes(b"mine")
    done = vae_run("sample", "-n", 1, "--model", gray_bundle, "-o", "a", "--overwrite")
    assert done.code == 3
    assert done.err.startswith(
        "vae-run: error: a holds other things than what is written here; it is not replaced"
    )
    assert names("a") == sorted(["9999.png", name])


def test_an_empty_folder_may_be_replaced(vae_run: Any, gray_bundle: Path) -> None:
    Path("a").mkdir()
    assert vae_run("sample", "-n", 1, "--model", gray_bundle, "-o", "a", "--overwrite").code == 0
    assert names("a") == ["0000.png"]


def test_a_place_that_is_taken_is_refused_before_the_model_is_opened(vae_run: Any) -> None:
    Path("a.png").write_bytes(b"mine")
    assert "exists already" in vae_run("sample", "--model", "gone", "-o", "a.png").err


@pytest.mark.parametrize("name", ["2.0/", "a.png/", "a.npy//"])
def test_a_slash_behind_it_makes_it_a_folder(vae_run: Any, gray_bundle: Path, name: str) -> None:
    assert vae_run("sample", "-n", 2, "--model", gray_bundle, "-o", name).code == 0
    assert names(name) == ["0000.png", "0001.png"]


def test_missing_folders_are_made(vae_run: Any, gray_bundle: Path) -> None:
    assert vae_run("sample", "-n", 1, "--model", gray_bundle, "-o", "new/deep/a.png").code == 0
    assert Path("new/deep/a.png").is_file()


NAMES = [
    ("a.png/b.png", "a file bears the name of a folder above it"),
    ("x" * 300 + ".png", "the name is longer than the file system takes"),
]


@pytest.mark.parametrize(("name", "said"), NAMES, ids=["under a file", "too long"])
def test_a_name_that_cannot_be_leaves_with_3(vae_run: Any, gray_bundle: Path, name: str, said: str) -> None:
    Path("a.png").write_bytes(b"mine")
    done = vae_run("sample", "-n", 1, "--model", gray_bundle, "-o", name)
    assert done.code == 3
    shown = name if len(name) < 256 else f"{'x' * 100}..."
    assert done.err == f"vae-run: error: cannot write {shown}: {said}; give another\n"
    assert contents(Path("a.png")) == b"mine"


@pytest.mark.parametrize("name", ["", ".", "./", "..", "a/..", "/"])
def test_a_place_without_a_name_of_its_own_is_wrong_usage(vae_run: Any, gray_bundle: Path, name: str) -> None:
    before = names()
    done = vae_run("sample", "-n", 1, "--model", gray_bundle, "--overwrite", "-o", name)
    assert done.code == 2
    assert f"output {name!r}: expected a name of its own" in done.err
    assert names() == before


def test_a_folder_is_not_replaced_by_a_file_nor_a_file_by_a_folder(vae_run: Any, gray_bundle: Path) -> None:
    Path("a.png").mkdir()
    Path("b").write_bytes(b"mine")
    for name, said in (("a.png", "a.png is a folder"), ("b", "b is a file")):
        done = vae_run("sample", "-n", 1, "--model", gray_bundle, "--overwrite", "-o", name)
        assert (done.code, done.err.count("\n")) == (3, 1)
        assert said in done.err
    assert contents(Path("b")) == b"mine"


@pytest.mark.parametrize(
    "name",
    [
        "with space.png",
        "sn\N{LATIN SMALL LETTER O WITH DIAERESIS}w \N{SNOWMAN}.npy",
        "-dash",
        "new\nline.npz",
    ],
)
def test_odd_names_are_names(vae_run: Any, gray_bundle: Path, name: str) -> None:
    assert vae_run("sample", "-n", 1, "--model", gray_bundle, f"--output={name}").code == 0
    assert Path(name).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
@pytest.mark.parametrize("suffix", [b".png", b".npy", b""])
def test_names_that_are_not_utf8_are_names(vae_run: Any, gray_bundle: Path, suffix: bytes) -> None:
    name = b"caf\xe9" + suffix
    done = vae_run("sample", "-n", 1, "--model", gray_bundle, "-o", name)
    assert done.code == 0, done.err
    assert Path(os.fsdecode(name)).exists()
    done = vae_run("sample", "-n", 1, "--model", gray_bundle, "-o", name)
    assert (done.code, done.err.count("\n")) == (3, 1)
    picture = Path(os.fsdecode(b"\xff.png"))
    vae_run("sample", "-n", 1, "--model", gray_bundle, "-o", os.fsencode(picture))
    assert vae_run("encode", os.fsencode(picture), "--model", gray_bundle, "-o", "l.npy").code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no such device")
def test_a_full_stdout_leaves_with_4(vae_run: Any, gray_bundle: Path) -> None:
    done = vae_run("sample", "-n", 1, "--model", gray_bundle, "-o", "-", stdout="/dev/full")
    assert done.code == 4, done.err
    assert done.err.startswith("vae-run: error: ")
    assert "No space left on device" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.npz", "a"])
def test_a_full_disk_leaves_with_4_and_the_old_output(gray_bundle: Path, name: str) -> None:
    path = put_something(name)
    before = contents(path)
    ended = run_within(
        resource.RLIMIT_FSIZE, 100,
        "sample", "-n", 50, "--seed", 7, "--model", gray_bundle, "--overwrite", "-o", name,
    )  # fmt: skip
    assert ended.code == 4, ended.err
    assert ended.err.startswith(f"vae-run: error: cannot write {name}: ")
    if (
        int(np.__version__.split(".")[0]) >= 2
    ):  # older ones leave an archive behind that complains when collected
        assert ended.err.count("\n") == 1
    assert contents(path) == before
    assert names() == sorted(["in.npy", "latents-in.npy", name])


def test_a_sheet_of_too_much_leaves_with_4(gray_bundle: Path) -> None:
    most = 1 << 30  # bytes; the pictures alone would be more
    ended = run_within(
        resource.RLIMIT_AS, most, "sample", "-n", 100_000_000, "--model", gray_bundle, "-o", "a.png"
    )
    assert ended.code == 4, ended.err
    assert ended.err.startswith("vae-run: error: not enough memory (")
    assert ended.err.count("\n") == 1
