"""`vae-run sample`: the same as the library's `sample`, in every kind of output."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run_fresh
from PIL import Image

import vae_runtime
from vae_runtime import Model, grid


def test_a_png_is_the_grid_of_the_samples(vae_run: Any, gray_bundle: Path, gray: Model) -> None:
    done = vae_run(
        "sample", "-n", 6, "--seed", 7, "--rows", 2, "--columns", 3, "--model", gray_bundle,
        "--provider", "cpu", "-o", "a.png",
    )  # fmt: skip
    assert (done.code, done.out, done.err) == (0, b"", "6 new images -> a.png\n")
    with Image.open("a.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), grid(gray.sample(6, 7, dtype="uint8"), 2, 3))


def test_padding_and_scale_are_those_of_the_grid(vae_run: Any, colour_bundle: Path, colour: Model) -> None:
    done = vae_run(
        "sample", "-n", 5, "--seed", 7, "--columns", 3, "--padding", 2, "--scale", 4, "--model", colour_bundle
    )
    assert done.code == 0, done.err
    sheet = grid(colour.sample(5, 7, dtype="uint8"), columns=3, padding=2)
    with Image.open("samples.png") as image:
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), np.kron(sheet, np.ones((4, 4, 1), np.uint8)))


def test_a_npy_holds_the_pictures_or_the_images(vae_run: Any, gray_bundle: Path, gray: Model) -> None:
    assert vae_run("sample", "-n", 70, "--seed", 7, "--model", gray_bundle, "-o", "a.npy").code == 0
    np.testing.assert_array_equal(np.load("a.npy"), gray.sample(70, 7, dtype="uint8"))
    assert (
        vae_run("sample", "-n", 70, "--seed", 7, "--float", "--model", gray_bundle, "-o", "f.npy").code == 0
    )
    np.testing.assert_array_equal(np.load("f.npy"), gray.sample(70, 7))


def test_a_npz_holds_them_by_name(vae_run: Any, colour_bundle: Path, colour: Model) -> None:
    assert vae_run("sample", "-n", 3, "--seed", 7, "--model", colour_bundle, "-o", "a.npz").code == 0
    with np.load("a.npz") as arrays:
        assert list(arrays) == ["images"]
        np.testing.assert_array_equal(arrays["images"], colour.sample(3, 7, dtype="uint8"))


@pytest.mark.parametrize("name", ["frames", "frames/", "new/frames"])
def test_a_folder_holds_a_png_of_each(vae_run: Any, gray_bundle: Path, gray: Model, name: str) -> None:
    options = ("--seed", 7, "--scale", 2, "--model", gray_bundle, "--provider", "cpu")
    done = vae_run("sample", "-n", 3, *options, "-o", name)
    assert (done.code, done.err) == (0, f"3 new images -> {name}\n")
    assert sorted(path.name for path in Path(name).iterdir()) == ["0000.png", "0001.png", "0002.png"]
    for path, picture in zip(sorted(Path(name).iterdir()), gray.sample(3, 7, dtype="uint8"), strict=True):
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), picture.repeat(2, axis=0).repeat(2, axis=1))


def test_a_dash_is_the_npy_on_stdout_and_nothing_else(vae_run: Any, gray_bundle: Path, gray: Model) -> None:
    done = vae_run("sample", "-n", 3, "--seed", 7, "--model", gray_bundle, "--provider", "cpu", "-o", "-")
    assert (done.code, done.err) == (0, "")
    np.testing.assert_array_equal(np.load(io.BytesIO(done.out)), gray.sample(3, 7, dtype="uint8"))
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.npz", "a"])
def test_one_seed_gives_the_same_bytes_and_another_gives_others(
    vae_run: Any, gray_bundle: Path, name: str
) -> None:
    written = []
    for seed in (7, 7, 8):
        assert (
            vae_run("sample", "-n", 4, "--seed", seed, "--model", gray_bundle, "-o", name, "--overwrite").code
            == 0
        )
        path = Path(name)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]
    assert written[0] != written[2]


def test_the_number_of_threads_changes_no_byte(vae_run: Any, gray_bundle: Path) -> None:
    options = ("sample", "-n", 300, "--seed", 7, "--model", gray_bundle, "-o", "-", "--threads")
    assert vae_run(*options, 1).out == vae_run(*options, 4).out


def test_temperature_0_gives_one_image(vae_run: Any, gray_bundle: Path) -> None:
    assert vae_run("sample", "-n", 3, "--temperature", 0, "--model", gray_bundle, "-o", "a.npy").code == 0
    assert not np.load("a.npy").std(axis=0).any()


def test_the_shipped_model_is_the_default(vae_run: Any, faces: Model) -> None:
    assert vae_run("sample", "-n", 100, "--rows", 10, "--columns", 10, "--seed", 7).code == 0
    with Image.open("samples.png") as image:
        np.testing.assert_array_equal(np.asarray(image), grid(faces.sample(100, 7, dtype="uint8"), 10, 10))


@pytest.mark.parametrize("command", ["sample", "interpolate", "reconstruct", "encode", "decode"])
@pytest.mark.parametrize("output", ["a.npy", "-"])
def test_the_provider_that_auto_took_is_said_once_it_has_done_its_work(
    vae_run: Any, gray_bundle: Path, gray: Model, command: str, output: str
) -> None:
    np.save("in.npy", gray.sample(2, 7, dtype="uint8"))
    np.save("latents.npy", gray.sample_latents(2, 7))
    given = {"sample": ("-n", 2), "interpolate": (1, 2, "--steps", 2), "decode": ("latents.npy",)}
    line = (command, *given.get(command, ("in.npy",)), "--model", gray_bundle, "--overwrite", "-o", output)
    with vae_runtime.load(gray_bundle) as model:
        said = f" (on {', '.join(model.providers)})\n"
    for options in ((), ("--provider", "auto")):
        done = vae_run(*line, *options)
        assert done.err.endswith(said)
        assert done.err.count("\n") == 1
    assert said not in vae_run(*line, "--provider", "cpu").err
    assert vae_run(*line, "--quiet").err == ""


def test_who_fails_does_not_say_what_it_ran_on(vae_run: Any, gray_bundle: Path) -> None:
    done = vae_run("sample", "-n", 7, "--columns", 2_000_000_000 // 2, "--model", gray_bundle)
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert done.err.startswith("vae-run: error: ")


def test_verbose_says_what_runs_it(vae_run: Any, gray_bundle: Path) -> None:
    done = vae_run("-v", "sample", "-n", 1, "--provider", "cpu", "--model", gray_bundle)
    assert f"vae-run: {gray_bundle}/decoder.onnx runs on cpu\n" in done.err


def test_a_fresh_process_does_the_same(
    vae_run: Any, gray_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other tests fork theirs from one that has imported everything."""
    options = ("sample", "-n", 3, "--seed", 7, "--model", gray_bundle, "-o", "-")
    assert run_fresh(*options) == vae_run(*options)
