"""`vae-run encode` and `decode`: there and back, as the library does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vae_runtime import Model, grid, noise


@pytest.fixture
def pictures(vae_run: Any) -> Any:
    drawn = np.random.default_rng(0).integers(0, 256, (5, 8, 12), np.uint8)
    np.save("in.npy", drawn)
    return drawn


def test_encode_writes_the_mean_as_npy(vae_run: Any, gray_bundle: Path, gray: Model, pictures: Any) -> None:
    done = vae_run("encode", "in.npy", "--model", gray_bundle, "--provider", "cpu")
    assert (done.code, done.err) == (0, "latents of 5 images, 3 each -> latents.npy\n")
    np.testing.assert_array_equal(np.load("latents.npy"), gray.encode(pictures).mean)


def test_encode_writes_mean_and_logvar_as_npz(
    vae_run: Any, gray_bundle: Path, gray: Model, pictures: Any
) -> None:
    assert vae_run("encode", "in.npy", "--model", gray_bundle, "-o", "l.npz").code == 0
    with np.load("l.npz") as arrays:
        assert sorted(arrays) == ["logvar", "mean"]
        for name in arrays:
            np.testing.assert_array_equal(arrays[name], getattr(gray.encode(pictures), name))


def test_encode_takes_pictures_folders_and_a_limit(
    vae_run: Any, gray_bundle: Path, gray: Model, pictures: Any
) -> None:
    Path("folder").mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(f"folder/{index}.png")
    done = vae_run("encode", "folder/4.png", "folder", "-n", 3, "--model", gray_bundle, "-q", "-o", "-")
    assert (done.code, done.err) == (0, "")
    np.testing.assert_array_equal(np.load(io.BytesIO(done.out)), gray.encode(pictures[[4, 0, 1]]).mean)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_decode_takes_latents_of_any_floating_point(
    vae_run: Any, gray_bundle: Path, gray: Model, dtype: str
) -> None:
    latents = noise(6, 3, seed=1).astype(dtype)
    np.save("l.npy", latents)
    done = vae_run("decode", "l.npy", "--columns", 3, "--model", gray_bundle, "--provider", "cpu")
    assert (done.code, done.err) == (0, "6 decoded images -> decoded.png\n")
    with Image.open("decoded.png") as image:
        np.testing.assert_array_equal(np.asarray(image), grid(gray.decode(latents, dtype="uint8"), columns=3))


@pytest.mark.parametrize("between", ["l.npy", "l.npz"])
def test_encode_then_decode_is_reconstruct(
    vae_run: Any, gray_bundle: Path, gray: Model, pictures: Any, between: str
) -> None:
    assert vae_run("encode", "in.npy", "--model", gray_bundle, "-o", between).code == 0
    assert vae_run("decode", between, "--model", gray_bundle, "--float", "-o", "out.npy").code == 0
    np.testing.assert_array_equal(np.load("out.npy"), gray.reconstruct(pictures))


@pytest.mark.parametrize("names", [["arr_0"], ["x"], ["images", "x"]])
def test_of_an_archive_the_array_called_images_is_taken_or_the_only_one(
    vae_run: Any, gray_bundle: Path, gray: Model, pictures: Any, names: list[str]
) -> None:
    np.savez("in.npz", **dict(zip(names, (pictures, pictures[:1]), strict=False)))
    assert vae_run("encode", "in.npz", "--model", gray_bundle, "-o", "l.npy").code == 0
    np.testing.assert_array_equal(np.load("l.npy"), gray.encode(pictures).mean)


def test_no_latents_decode_to_no_images(vae_run: Any, gray_bundle: Path) -> None:
    np.save("l.npy", np.zeros((0, 3), np.float32))
    assert vae_run("decode", "l.npy", "--model", gray_bundle, "-o", "out.npy").code == 0
    assert np.load("out.npy").shape == (0, 8, 12)
