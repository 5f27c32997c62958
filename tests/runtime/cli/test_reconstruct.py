"""`vae-run reconstruct`: originals beside what the model sees, or the reconstructions alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vae_runtime import Model, grid


def pictures_for(model: Model, count: int) -> Any:
    channels, height, width = model.card.image_shape
    shape = (count, height, width) if channels == 1 else (count, height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("name", ["gray", "colour"])
def test_a_png_shows_each_original_left_of_its_reconstruction(
    vae_run: Any, request: pytest.FixtureRequest, name: str
) -> None:
    model, bundle = request.getfixturevalue(name), request.getfixturevalue(f"{name}_bundle")
    originals = pictures_for(model, 3)
    Path("faces").mkdir()
    for index, picture in enumerate(originals):
        Image.fromarray(picture).save(f"faces/{index}.png")
    done = vae_run(
        "reconstruct", "faces", "--columns", 1, "--padding", 1, "--model", bundle, "--provider", "cpu"
    )
    assert (done.code, done.err) == (0, "3 images, each left of its reconstruction -> reconstruction.png\n")
    pairs = np.concatenate([originals, model.reconstruct(originals, dtype="uint8")], axis=2)
    with Image.open("reconstruction.png") as image:
        np.testing.assert_array_equal(np.asarray(image), grid(pairs, columns=1, padding=1))


@pytest.mark.parametrize("kind", ["uint8", "float32", "uint8 with its axis"])
def test_originals_may_be_an_array(vae_run: Any, gray_bundle: Path, gray: Model, kind: str) -> None:
    originals = pictures_for(gray, 70)
    given = {
        "uint8": originals,
        "float32": originals[:, None] / np.float32(255),
        "uint8 with its axis": originals[..., None],
    }[kind]
    np.save("in.npy", given)
    assert vae_run("reconstruct", "in.npy", "--model", gray_bundle, "-o", "out.npy").code == 0
    np.testing.assert_array_equal(np.load("out.npy"), gray.reconstruct(originals, dtype="uint8"))
    assert vae_run("reconstruct", "in.npy", "--float", "--model", gray_bundle, "-o", "out.npz").code == 0
    np.testing.assert_array_equal(np.load("out.npz")["images"], gray.reconstruct(originals))
    assert vae_run("reconstruct", "in.npy", "--model", gray_bundle, "-o", "out.png").code == 0
    pairs = np.concatenate([originals, gray.reconstruct(originals, dtype="uint8")], axis=2)
    with Image.open("out.png") as image:
        np.testing.assert_array_equal(np.asarray(image), grid(pairs))


def test_an_archive_gives_its_images_and_a_limit_takes_the_first(
    vae_run: Any, gray_bundle: Path, gray: Model
) -> None:
    originals = pictures_for(gray, 9)
    np.savez("in.npz", images=originals, people=np.array(["a", "b"]))
    assert vae_run("reconstruct", "in.npz", "-n", 4, "--model", gray_bundle, "-o", "out.npy").code == 0
    np.testing.assert_array_equal(np.load("out.npy"), gray.reconstruct(originals[:4], dtype="uint8"))


def test_no_images_give_no_reconstructions(vae_run: Any, gray_bundle: Path) -> None:
    np.save("in.npy", np.zeros((0, 8, 12), np.uint8))
    assert vae_run("reconstruct", "in.npy", "--model", gray_bundle, "-o", "out.npy").code == 0
    assert np.load("out.npy").shape == (0, 8, 12)
