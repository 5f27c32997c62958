"""Arrays that are larger than memory: written and read as they come, whole or not at all, with a bar to look at."""

from __future__ import annotations

import io
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from commands import MAIN, environment, run_within

from vae_runtime import InputError, Model, noise
from vae_runtime.cli import outputs
from vae_runtime.cli.outputs import ArraySpec, Layout, Output
from vae_runtime.cli.rows import Rows
from vae_runtime.errors import EnvironmentProblem

Array = npt.NDArray[Any]

COUNT = 2500  # more than two batches, and not a whole number of them
needs_pty = pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo-terminals")


def as_numpy_saves(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


# The same bytes as an array that is written at once


@pytest.mark.parametrize("as_float", [False, True])
@pytest.mark.parametrize("output", ["a.npy", "-"])
def test_samples_are_written_as_numpy_would(
    vae_run: Any, gray_bundle: Path, gray: Model, output: str, as_float: bool
) -> None:
    options = ("--seed", 7, "--model", gray_bundle, "--provider", "cpu", *(["--float"] if as_float else []))
    done = vae_run("sample", "-n", COUNT, *options, "-o", output)
    assert done.code == 0, done.err
    written = done.out if output == "-" else Path(output).read_bytes()
    assert written == as_numpy_saves(gray.sample(COUNT, 7, dtype="float32" if as_float else "uint8"))


def test_a_npz_is_what_numpy_would_pack(vae_run: Any, colour_bundle: Path, colour: Model) -> None:
    line = ("sample", "-n", COUNT, "--seed", 7, "--model", colour_bundle, "--provider", "cpu", "-o", "a.npz")
    assert vae_run(*line).code == 0
    with np.load("a.npz") as arrays:
        assert list(arrays) == ["images"]
        np.testing.assert_array_equal(arrays["images"], colour.sample(COUNT, 7, dtype="uint8"))


def test_latents_images_and_reconstructions_go_through_in_pieces(
    vae_run: Any, gray_bundle: Path, gray: Model
) -> None:
    latents = noise(COUNT, 3, seed=1)
    np.save("latents.npy", latents)
    options = ("--model", gray_bundle, "--provider", "cpu", "-o")
    assert vae_run("decode", "latents.npy", "--float", *options, "images.npy").code == 0
    images = gray.decode(latents)
    assert Path("images.npy").read_bytes() == as_numpy_saves(images)
    assert vae_run("encode", "images.npy", *options, "mean.npy").code == 0
    assert Path("mean.npy").read_bytes() == as_numpy_saves(gray.encode(images).mean)
    assert vae_run("encode", "images.npy", "-n", 2000, *options, "both.npz").code == 0
    with np.load("both.npz") as both:
        for name, array in gray.encode(images[:2000])._asdict().items():
            np.testing.assert_array_equal(both[name], array)
    assert vae_run("reconstruct", "images.npy", *options, "again.npy").code == 0
    assert Path("again.npy").read_bytes() == as_numpy_saves(gray.reconstruct(images, dtype="uint8"))
    assert vae_run("interpolate", 1, 2, "--steps", COUNT, *options, "way.npy").code == 0
    ends = [noise(1, 3, seed)[0] for seed in (1, 2)]
    assert Path("way.npy").read_bytes() == as_numpy_saves(gray.interpolate(*ends, COUNT, dtype="uint8"))


def test_of_no_latents_comes_an_empty_array(vae_run: Any, gray_bundle: Path) -> None:
    np.save("l.npy", np.zeros((0, 3)))
    for name, options in (("a.npy", ()), ("a.npz", ()), ("a", ()), ("b", ("--shard-size", 3))):
        done = vae_run("decode", "l.npy", *options, "--model", gray_bundle, "-o", name)
        assert done.code == 0, done.err
    assert np.load("a.npy").shape == np.load("a.npz")["images"].shape == (0, 8, 12)
    assert list(Path("a").iterdir()) == list(Path("b").iterdir()) == []


# Shards


@pytest.mark.parametrize("as_float", [False, True])
@pytest.mark.parametrize(("size", "files"), [(1000, 3), (1024, 3), (COUNT, 1), (10**8, 1), (25, 100)])
def test_shards_joined_are_the_whole(
    vae_run: Any, gray_bundle: Path, gray: Model, size: int, files: int, as_float: bool
) -> None:
    options = ("--seed", 7, "--model", gray_bundle, "--provider", "cpu", *(["--float"] if as_float else []))
    done = vae_run("sample", "-n", COUNT, *options, "--shard-size", size, "-o", "faces/")
    assert (done.code, done.err) == (0, f"{COUNT} new images -> faces/\n")
    paths = sorted(Path("faces").iterdir())
    assert [path.name for path in paths] == [f"{index:05d}.npy" for index in range(files)]
    shards = [np.load(path) for path in paths]
    assert {len(shard) for shard in shards[:-1]} <= {size}
    dtype = "float32" if as_float else "uint8"
    np.testing.assert_array_equal(np.concatenate(shards), gray.sample(COUNT, 7, dtype=dtype))


def test_shards_of_latents_that_were_decoded(vae_run: Any, gray_bundle: Path, gray: Model) -> None:
    np.save("l.npy", noise(10, 3, seed=1))
    assert vae_run("decode", "l.npy", "--shard-size", 4, "--model", gray_bundle, "-o", "faces").code == 0
    assert [len(np.load(path)) for path in sorted(Path("faces").iterdir())] == [4, 4, 2]


def test_a_folder_of_shards_is_replaced_whole_and_only_when_that_is_wished(
    vae_run: Any, gray_bundle: Path
) -> None:
    line = ("sample", "-n", 9, "--shard-size", 3, "--model", gray_bundle, "-o", "faces")
    assert vae_run(*line).code == 0
    assert vae_run(*line).code == 3
    assert vae_run("sample", "-n", 1, "--model", gray_bundle, "-o", "faces", "--overwrite").code == 0
    assert [path.name for path in Path("faces").iterdir()] == ["0000.png"]
    assert vae_run(*line, "--overwrite").code == 0
    assert len(list(Path("faces").iterdir())) == 3
    Path("faces/notes.npy").write_bytes(b"mine")
    assert "holds other things" in vae_run(*line, "--overwrite").err


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.png", "-"])
def test_only_a_folder_has_shards(vae_run: Any, gray_bundle: Path, name: str) -> None:
    done = vae_run("sample", "-n", 2, "--shard-size", 1, "--model", gray_bundle, "-o", name)
    assert (done.code, done.out) == (2, b"")
    assert "--shard-size fills a folder with .npy files" in done.err


# What does not fit


@pytest.mark.parametrize("options", [("-o", "a.npy"), ("-o", "a", "--shard-size", "10000000")])
def test_what_a_disk_has_no_room_for_is_not_begun(
    vae_run: Any, gray: Model, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full disks harm others, and an hour of work would be lost."""
    output = Output(options[1], overwrite=False, shard_size=int(options[3]) if len(options) > 2 else None)
    room = shutil.disk_usage(".").free
    spec = ArraySpec(np.dtype(np.uint8), (room // 96 + 10**7, 8, 12))
    begun: list[int] = []
    with pytest.raises(
        EnvironmentProblem, match=r"cannot write a\S*: it would take .*, and the disk has .* left; "
    ):
        output.write(map(begun.append, [1]), spec, Layout())  # type: ignore[func-returns-value]
    assert begun == []
    assert list(Path().iterdir()) == []
    monkeypatch.setattr(
        outputs.shutil, "disk_usage", lambda _: (_ for _ in ()).throw(OSError("no such call"))
    )
    small = gray.sample(3, 7, dtype="uint8")
    output.write([small], ArraySpec(small.dtype, small.shape), Layout())
    assert Path(options[1]).exists()


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a"])
def test_a_disk_that_fills_up_in_the_midst_leaves_with_4_and_nothing(
    gray_bundle: Path, vae_run: Any, name: str
) -> None:
    shards = ("--shard-size", 2000) if name == "a" else ()
    ended = run_within(
        resource.RLIMIT_FSIZE, 100_000,
        "sample", "-n", 5000, "--seed", 7, *shards, "--model", gray_bundle, "-o", name,
    )  # fmt: skip
    assert ended.code == 4, ended.err
    assert ended.err.startswith(f"vae-run: error: cannot write {name}: the file would exceed the size limit")
    assert ended.err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_more_than_memory_holds_is_written_and_read(gray_bundle: Path, vae_run: Any, gray: Model) -> None:
    """What the process may have beyond what it begins with is less than the arrays are large."""
    count, spare = 300_000, 24 << 20  # 27 MiB of pictures
    code = f"""
import pathlib, re, resource, sys
import numpy, PIL.Image, vae_runtime.cli.inputs, vae_runtime.cli.outputs, vae_runtime.cli.scores, vae_runtime.model
from vae_runtime.installation import import_onnxruntime
import_onnxruntime()
taken = int(re.search(r"VmSize:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (taken + {spare}, -1))
{MAIN}
"""
    options = ["--model", str(gray_bundle), "--provider", "cpu", "--threads", "1", "-o"]
    for line in (
        ["sample", "-n", str(count), "--seed", "7", *options, "a.npy"],
        ["encode", "a.npy", *options, "l.npy"],
        ["score", "a.npy", *options, "s.npy"],
        ["score", "a.npy", *options[:-1], "--quiet"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *line],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    pictures = np.load("a.npy", mmap_mode="r")
    assert pictures.shape == (count, 8, 12)
    np.testing.assert_array_equal(pictures[-500:], gray.sample(count, 7, dtype="uint8")[-500:])
    assert np.load("l.npy", mmap_mode="r").shape == (count, 3)
    np.testing.assert_array_equal(np.load("s.npy")[:500], gray.score(pictures[:512]).total[:500])
    assert done.stdout.count("\n") == 21


# Files that are read piece by piece


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "u1", "<f2"])
@pytest.mark.parametrize("limit", [None, 1, 4096, 10**6])
def test_rows_are_those_of_the_array(tmp_path: Path, dtype: str, limit: int | None) -> None:
    array = np.arange(10_000 * 6).reshape(10_000, 2, 3).astype(dtype)
    for order in (array, np.asfortranarray(array)):
        np.save(tmp_path / "a.npy", order)
        rows = Rows(tmp_path / "a.npy", limit)
        expected = array[:limit]
        assert (len(rows), rows.shape, rows.dtype) == (len(expected), expected.shape, np.dtype(dtype))
        for _ in range(2):
            np.testing.assert_array_equal(np.concatenate(list(rows)), expected)
        np.testing.assert_array_equal(rows.whole(), expected)


def test_large_rows_come_a_few_at_a_time(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((10, 3 << 20), np.uint8))
    assert [len(piece) for piece in Rows(tmp_path / "a.npy")] == [2, 2, 2, 2, 2]


@pytest.mark.parametrize("shape", [(), (0, 3), (3, 0)])
def test_arrays_without_rows_or_numbers_are_what_they_are(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape))
    rows = Rows(tmp_path / "a.npy", 5)
    assert rows.shape == shape
    assert rows.whole().shape == shape


def test_a_file_that_is_cut_short_while_it_is_read_is_an_error_and_no_signal(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((10_000, 3)))
    rows = iter(Rows(path))
    assert len(next(rows)) == 4096
    os.truncate(path, 128 + 24 * 5000)
    with pytest.raises(InputError, match=r"a\.npy: became shorter while it was read"):
        next(rows)


def test_a_file_that_another_takes_the_place_of_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((100, 3)))
    rows = Rows(path)
    for other in (np.zeros((99, 3)), np.zeros((100, 4)), np.zeros((100, 3), np.float32), np.zeros(())):
        np.save(path, other)
        with pytest.raises(InputError, match=r"a\.npy: was replaced while it was read; expected 100 rows"):
            list(rows)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.npy: cannot be read \(No such file or directory\)"):
        list(rows)


@pytest.mark.parametrize("command", ["encode", "reconstruct", "decode"])
def test_a_number_that_is_none_is_named_by_its_place_in_the_whole(
    vae_run: Any, gray_bundle: Path, command: str
) -> None:
    array = np.zeros((6000, 3), np.float32) if command == "decode" else np.zeros((6000, 1, 8, 12), np.float32)
    array[5678].flat[2] = np.nan
    np.save("in.npy", array)
    done = vae_run(command, "in.npy", "--model", gray_bundle, "-o", "out.npy")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert re.search(r"hold nan at index \(5678, .*2\)", done.err)
    assert os.listdir() == ["in.npy"]  # noqa: PTH208


def test_an_array_of_another_shape_is_refused_by_its_own_shape(vae_run: Any, gray_bundle: Path) -> None:
    np.save("in.npy", np.zeros((6000, 4), np.float32))
    assert (
        "latents of shape (6000, 4); expected (N, 3)"
        in vae_run("decode", "in.npy", "--model", gray_bundle).err
    )
    np.save("in.npy", np.zeros((6000, 12, 8), np.uint8))
    said = vae_run("encode", "in.npy", "--model", gray_bundle).err
    assert "uint8 pictures of shape (6000, 12, 8); expected (N, 8, 12)" in said


# Progress


def on_a_terminal(patience: float, *arguments: object, stderr_is_one: bool = True) -> tuple[int, str]:
    """Run `vae-run` with stderr as a terminal, a bar after so many seconds; gives code and what it showed."""
    code = f"import vae_runtime.cli.progress as p; p._PATIENCE = {patience}; {MAIN}"
    terminal, screen = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stderr=screen if stderr_is_one else subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(TERM="xterm"),
    ) as process:
        os.close(screen)
        shown = b""
        while True:
            try:
                got = os.read(terminal if stderr_is_one else process.stderr.fileno(), 4096)  # type: ignore[union-attr]
            except OSError:  # of a terminal that nobody writes to any more
                break
            if not got:
                break
            shown += got
        code_ = process.wait(timeout=60)
    os.close(terminal)
    return code_, shown.decode()


@needs_pty
def test_on_a_terminal_a_bar_shows_how_far_it_is(vae_run: Any, gray_bundle: Path) -> None:
    line = ("sample", "-n", 20_000, "--model", gray_bundle, "-o", "a.npy", "--overwrite", "--provider", "cpu")
    code, shown = on_a_terminal(0.0, *line)
    assert code == 0
    counts = [int(count) for count in re.findall(r"(\d+)/20000", shown)]
    assert counts == sorted(counts)
    assert len(set(counts)) > 3
    assert counts[-1] == 20_000
    assert shown.endswith("20000 new images -> a.npy\r\n")


@needs_pty
@pytest.mark.parametrize("why", ["over at once", "quiet", "no terminal"])
def test_there_is_no_bar_where_it_would_be_in_the_way(vae_run: Any, gray_bundle: Path, why: str) -> None:
    line = ("sample", "-n", 5000, "--model", gray_bundle, "-o", "a.npy", "--provider", "cpu")
    options = ("-q",) if why == "quiet" else ()
    code, shown = on_a_terminal(
        1000.0 if why == "over at once" else 0.0, *line, *options, stderr_is_one=why != "no terminal"
    )
    assert code == 0
    said = "" if why == "quiet" else "5000 new images -> a.npy\n"
    assert shown.replace("\r", "") == said


@needs_pty
def test_an_error_stands_on_a_line_of_its_own_below_the_bar(vae_run: Any, gray_bundle: Path) -> None:
    latents = np.zeros((20_000, 3), np.float32)
    latents[-1] = np.nan
    np.save("l.npy", latents)
    code, shown = on_a_terminal(0.0, "decode", "l.npy", "--model", gray_bundle, "-o", "a.npy")
    assert code == 3
    assert "/20000" in shown
    assert shown.splitlines()[-1].startswith("vae-run: error: l.npy: latents hold nan at index (19999, 0)")
    assert os.listdir() == ["l.npy"]  # noqa: PTH208
