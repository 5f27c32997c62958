"""`vae-run score`: what the library says of images, for people, for a spreadsheet and for a program."""

from __future__ import annotations

import csv
import io
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from commands import run_within
from onnx_bytes import with_cards
from PIL import Image

import vae_runtime
from vae_runtime import Model

Array = npt.NDArray[Any]

COUNT = 40


@pytest.fixture(scope="module")
def pictures() -> Array:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 8, 12), np.uint8)


@pytest.fixture(scope="module")
def bundle(gray_bundle: Path, gray: Model, pictures: Array, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calibrated with the first half of the pictures."""
    quantiles = np.percentile(gray.score(pictures[: COUNT // 2]).total, [0, 50, 90, 100])
    scores = {"images": COUNT // 2, "samples": 1, "seed": 0, "percentages": [0, 50, 90, 100]}
    target = tmp_path_factory.mktemp("calibrated") / "b"
    return with_cards(gray_bundle, target, scores={**scores, "quantiles": list(quantiles)})


@pytest.fixture(scope="module")
def calibrated(bundle: Path) -> Iterator[Model]:
    with vae_runtime.load(bundle, provider="cpu") as model:
        yield model


@pytest.fixture(autouse=True)
def _inputs(vae_run: Any, pictures: Array) -> None:
    np.save("in.npy", pictures)


def rows_of(out: bytes) -> list[list[str]]:
    """The lines of a table on stdout."""
    heading, *lines = out.decode().splitlines()
    assert heading.split() == ["percentile", "nats", "image"]
    return [line.split(maxsplit=2) for line in lines]


def read_csv(name: str) -> list[dict[str, str]]:
    with Path(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# For people


def test_a_table_shows_the_strangest_first(
    vae_run: Any, bundle: Path, calibrated: Model, pictures: Array
) -> None:
    done = vae_run("score", "in.npy", "--top", 7, "--model", bundle, "--provider", "cpu")
    assert done.code == 0
    assert done.err == f"{COUNT} images; the 7 highest are shown, -o scores.csv takes all\n"
    totals = calibrated.score(pictures).total
    highest = np.argsort(-totals)[:7]
    percentiles = calibrated.percentiles(totals[highest])
    assert rows_of(done.out) == [
        [f"{percentile:.2f}", f"{totals[index]:.1f}", str(index)]
        for percentile, index in zip(percentiles, highest, strict=True)
    ]
    assert len(set(percentiles)) > 2


def test_a_table_keeps_the_highest_of_all_batches(
    vae_run: Any, bundle: Path, calibrated: Model, pictures: Array
) -> None:
    many = np.full((2500, 8, 12), 128, np.uint8)
    places = [2, 1024, 2047, 2499]
    many[places] = pictures[np.argsort(calibrated.score(pictures).total)[-4:]]
    np.save("many.npy", many)
    rows = rows_of(vae_run("score", "many.npy", "--top", 5, "--model", bundle).out)
    totals = calibrated.score(many).total
    assert [row[2] for row in rows] == [str(index) for index in np.argsort(-totals, kind="stable")[:5]]
    assert {row[2] for row in rows[:4]} == set(map(str, places))


def test_without_calibration_a_line_stands_for_the_percentile(vae_run: Any, gray_bundle: Path) -> None:
    done = vae_run("score", "in.npy", "-n", 3, "--model", gray_bundle, "-q")
    assert (done.code, done.err) == (0, "")
    assert [row[0] for row in rows_of(done.out)] == ["-"] * 3


def test_files_are_called_by_their_names_and_command_no_terminal(
    vae_run: Any, bundle: Path, pictures: Array
) -> None:
    Path("folder").mkdir()
    for name, picture in zip(("a b.png", "\x1b[2Jred.png", "new\nline.png"), pictures, strict=False):
        Image.fromarray(picture).save(Path("folder", name), "PNG")
    done = vae_run("score", "folder", "--model", bundle)
    assert done.code == 0
    assert {row[2] for row in rows_of(done.out)} == {
        "folder/a b.png", "folder/\\x1b[2Jred.png", "folder/new\\nline.png",
    }  # fmt: skip


def test_no_images_are_a_heading(vae_run: Any, bundle: Path) -> None:
    np.save("none.npy", np.zeros((0, 8, 12), np.uint8))
    done = vae_run("score", "none.npy", "--model", bundle, "--provider", "cpu")
    assert (done.code, rows_of(done.out), done.err) == (0, [], "0 images\n")
    for name in ("a.csv", "a.npy", "a.npz"):
        assert vae_run("score", "none.npy", "--model", bundle, "-o", name).code == 0
    assert read_csv("a.csv") == []
    assert np.load("a.npy").shape == np.load("a.npz")["total"].shape == (0,)


# For a spreadsheet, for a program


def test_a_csv_holds_all_in_their_order(
    vae_run: Any, bundle: Path, calibrated: Model, pictures: Array
) -> None:
    done = vae_run("score", "in.npy", "--model", bundle, "--provider", "cpu", "-o", "s.csv")
    assert (done.code, done.out, done.err) == (0, b"", f"{COUNT} images -> s.csv\n")
    rows = read_csv("s.csv")
    assert [row["image"] for row in rows] == [str(index) for index in range(COUNT)]
    score = calibrated.score(pictures)
    for name, expected in {**score._asdict(), "percentile": calibrated.percentiles(score.total)}.items():
        np.testing.assert_allclose([float(row[name]) for row in rows], expected, atol=1e-4)


def test_a_disk_that_fills_up_in_the_midst_of_a_csv_leaves_with_4_and_the_old_one(
    vae_run: Any, bundle: Path
) -> None:
    np.save("in.npy", np.zeros((3000, 8, 12), np.uint8))
    Path("s.csv").write_text("old")
    ended = run_within(
        resource.RLIMIT_FSIZE, 20_000, "score", "in.npy", "--model", bundle, "--overwrite", "-o", "s.csv"
    )
    assert ended.code == 4, ended.err
    assert ended.err.startswith("vae-run: error: cannot write s.csv: the file would exceed the size limit")
    assert ended.err.count("\n") == 1
    assert Path("s.csv").read_text() == "old"
    assert sorted(path.name for path in Path().iterdir()) == ["in.npy", "s.csv"]


def test_without_calibration_a_csv_leaves_the_percentile_empty(vae_run: Any, gray_bundle: Path) -> None:
    assert vae_run("score", "in.npy", "--model", gray_bundle, "-o", "s.csv").code == 0
    assert {row["percentile"] for row in read_csv("s.csv")} == {""}


def test_no_name_of_a_file_is_a_formula_to_a_spreadsheet(vae_run: Any, bundle: Path, pictures: Array) -> None:
    """And each is still the way to its file."""
    names = ['=HYPERLINK("x")', "@SUM(1,2)", "+1.png", "-1.png", 'say "a", b.png', "new\nline.png"]
    for name, picture in zip(names, pictures, strict=False):
        Image.fromarray(picture).save(name, "PNG")
    assert vae_run("score", "--model", bundle, "-o", "s.csv", "--", *names).code == 0
    found = [row["image"] for row in read_csv("s.csv")]
    assert [name[0] for name in found if name.startswith(("=", "@", "+", "-"))] == []
    assert [Path(name) for name in found] == [Path(name) for name in names]


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_is_escaped(vae_run: Any, bundle: Path, pictures: Array) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    Image.fromarray(pictures[0]).save(name, "PNG")
    for output in ("s.csv", "s.npz"):
        assert vae_run("score", name, "--model", bundle, "-o", output).code == 0
    assert [row["image"] for row in read_csv("s.csv")] == ["caf\\udce9.png"]
    assert os.fsencode(str(np.load("s.npz")["image"][0])) == b"caf\xe9.png"


@pytest.mark.parametrize("output", ["s.npy", "-"])
def test_a_npy_holds_the_totals(
    vae_run: Any, bundle: Path, calibrated: Model, pictures: Array, output: str
) -> None:
    done = vae_run("score", "in.npy", "--samples", 3, "--model", bundle, "-q", "-o", output)
    assert done.code == 0, done.err
    totals = np.load(io.BytesIO(done.out) if output == "-" else output)
    np.testing.assert_array_equal(totals, calibrated.score(pictures, samples=3).total)


def test_a_npz_holds_every_column(vae_run: Any, bundle: Path, calibrated: Model, pictures: Array) -> None:
    assert vae_run("score", "in.npy", "--model", bundle, "-o", "s.npz").code == 0
    score = calibrated.score(pictures)
    with np.load("s.npz") as arrays:
        assert list(arrays) == ["image", "total", "reconstruction", "kl", "percentile"]
        np.testing.assert_array_equal(arrays["image"], np.arange(COUNT))
        np.testing.assert_array_equal(arrays["percentile"], calibrated.percentiles(score.total))
        for name, expected in score._asdict().items():
            np.testing.assert_array_equal(arrays[name], expected)


def test_without_calibration_a_npz_has_no_percentile(vae_run: Any, gray_bundle: Path) -> None:
    assert vae_run("score", "in.npy", "--model", gray_bundle, "-o", "s.npz").code == 0
    with np.load("s.npz") as arrays:
        assert list(arrays) == ["image", "total", "reconstruction", "kl"]


# What lies above a percentile


@pytest.mark.parametrize("above", [0, 50, 93.5])
def test_above_a_percentile_only_what_scores_higher_is_kept(
    vae_run: Any, bundle: Path, calibrated: Model, pictures: Array, above: float
) -> None:
    percentiles = calibrated.percentiles(calibrated.score(pictures).total)
    kept = np.flatnonzero(percentiles > above)
    assert 0 < len(kept) < COUNT
    options = ("--above", above, "--model", bundle, "--provider", "cpu")
    shown = vae_run("score", "in.npy", "--top", COUNT, *options)
    assert {int(row[2]) for row in rows_of(shown.out)} == set(kept)
    assert shown.err == f"{len(kept)} above percentile {above:g} of {COUNT} images\n"
    written = vae_run("score", "in.npy", *options, "-o", "s.csv")
    assert written.err == f"{len(kept)} above percentile {above:g} of {COUNT} images -> s.csv\n"
    assert [int(row["image"]) for row in read_csv("s.csv")] == list(kept)
    assert vae_run("score", "in.npy", *options, "-o", "s.npz").code == 0
    np.testing.assert_array_equal(np.load("s.npz")["image"], kept)


def test_without_calibration_nothing_is_above_a_percentile(vae_run: Any, gray_bundle: Path) -> None:
    for output in ([], ["-o", "s.csv"]):
        done = vae_run("score", "in.npy", "--above", 99, "--model", gray_bundle, *output)
        assert (done.code, done.out) == (3, b"")
        assert done.err.count("\n") == 1
        assert "its card does not say what held-out images score; expected a bundle that" in done.err
    assert [path.name for path in Path().iterdir()] == ["in.npy"]
