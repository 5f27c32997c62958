"""`vae-run inpaint` and `vae-run denoise`: the library's own, with masks as pictures, arrays and boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from vae_runtime import Model, grid

Array = npt.NDArray[Any]
BOX = np.zeros((8, 12), bool)
BOX[2:6, 3:8] = True


@pytest.fixture
def given(vae_run: Any, gray: Model) -> Array:
    """Pictures in images.npy, and a folder of them, in the current folder."""
    pictures = gray.sample(5, 1, dtype="uint8")
    np.save("images.npy", pictures)
    Path("faces").mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(f"faces/{index}.png")
    return pictures


def mask_file(kind: str) -> tuple[str, ...]:
    """What names the box on the command line."""
    if kind == "box":
        return ("--box", "3,2,5,4")
    if kind == "two boxes":
        return ("--box", "3,2,5,3", "--box", "3,3,5,3")
    if kind == "array":
        np.save("mask.npy", BOX)
        return ("--mask", "mask.npy")
    if kind == "array for each":
        np.save("mask.npy", np.repeat(BOX[None], 5, axis=0))
        return ("--mask", "mask.npy")
    white = (255 * BOX).astype(np.uint8)
    larger = white.repeat(4, axis=0).repeat(4, axis=1) if kind == "larger picture" else white
    Image.fromarray(larger).convert("RGB").save("mask.png")
    return ("--mask", "mask.png")


KINDS = ["box", "two boxes", "array", "array for each", "picture", "larger picture"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_may_be_said_in_many_ways(
    vae_run: Any, gray_bundle: Path, gray: Model, given: Array, kind: str
) -> None:
    done = vae_run("inpaint", "images.npy", *mask_file(kind), "--model", gray_bundle, "-o", "out.npy")
    assert done.code == 0, done.err
    found, filled = np.load("out.npy"), gray.inpaint(given, BOX, dtype="uint8")
    np.testing.assert_array_equal(found[:, ~BOX], given[:, ~BOX])
    if kind != "larger picture":  # Lanczos takes a ring of pixels about the hole along
        np.testing.assert_array_equal(found, filled)
    assert np.any(found != given)


def test_a_sheet_shows_each_hole_left_of_what_fills_it(
    vae_run: Any, gray_bundle: Path, gray: Model, given: Array
) -> None:
    options = ("--model", gray_bundle, "--provider", "cpu", "--columns", 1)
    done = vae_run("inpaint", "faces", "--box", "3,2,5,4", "--seed", 4, *options)
    assert (done.code, done.err) == (
        0,
        "5 inpainted images, each right of what it was made of -> inpainted.png\n",
    )
    holes = np.where(BOX, np.uint8(128), given)
    pairs = np.concatenate([holes, gray.inpaint(given, BOX, seed=4, dtype="uint8")], axis=2)
    with Image.open("inpainted.png") as sheet:
        np.testing.assert_array_equal(np.asarray(sheet), grid(pairs, columns=1))


@pytest.mark.parametrize("kind", ["gray floats", "colour", "gray with its axis"])
def test_sheets_are_made_of_every_kind_of_images(
    vae_run: Any, gray_bundle: Path, gray: Model, colour_bundle: Path, colour: Model, kind: str
) -> None:
    bundle, model = (colour_bundle, colour) if kind == "colour" else (gray_bundle, gray)
    images = model.sample(3, 1, dtype="uint8" if kind != "gray floats" else "float32")
    np.save("in.npy", images[..., None] if kind == "gray with its axis" else images)
    options = ("--columns", 1, "--model", bundle, "-o", "out.png", "--overwrite")
    assert vae_run("inpaint", "in.npy", "--box", "0,0,2,2", *options).code == 0
    with Image.open("out.png") as sheet:
        shown = np.asarray(sheet)
    assert (shown[:2, :2] == 128).all()
    height, width = model.card.image_shape[1:]
    mask = np.zeros((height, width), bool)
    mask[:2, :2] = True
    np.testing.assert_array_equal(
        shown[:, width:], grid(model.inpaint(images, mask, dtype="uint8"), columns=1)
    )
    assert vae_run("denoise", "in.npy", "--noise-scale", 0.1, *options).code == 0


def test_noise_is_taken_away(vae_run: Any, gray_bundle: Path, gray: Model, given: Array) -> None:
    options = ("--model", gray_bundle, "--noise-scale", "0.2")
    assert vae_run("denoise", "images.npy", "-n", 3, "--float", *options, "-o", "out.npz").code == 0
    np.testing.assert_array_equal(np.load("out.npz")["images"], gray.denoise(given[:3], 0.2))
    done = vae_run("denoise", "faces", *options, "--columns", 1, "--provider", "cpu")
    assert done.err == "5 denoised images, each right of what it was made of -> denoised.png\n"
    pairs = np.concatenate([given, gray.denoise(given, 0.2, dtype="uint8")], axis=2)
    with Image.open("denoised.png") as sheet:
        np.testing.assert_array_equal(np.asarray(sheet), grid(pairs, columns=1))


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("inpaint", "faces"), 2, "nothing is missing; expected --mask FILE or --box X,Y,WIDTH,HEIGHT"),
        (("inpaint", "faces", "--box", "1,2,3"), 2, "expected X,Y,WIDTH,HEIGHT as in 4,6,16,8"),
        (("inpaint", "faces", "--box", "1,2,0,3"), 2, "width and height above 0"),
        (("inpaint", "faces", "--box", "-1,2,3,3"), 2, "expected X,Y,WIDTH,HEIGHT"),
        (("inpaint", "faces", "--box", "8,0,5,5"), 2, "reaches beyond the model's images of 12x8 pixels"),
        (("inpaint", "faces", "--mask", "images.npy"), 3, "images.npy: a mask of type uint8; expected bool"),
        (
            ("inpaint", "faces", "--mask", "short.npy"),
            3,
            "short.npy: a mask of shape (4, 8, 12); expected (8, 12)",
        ),
        (("inpaint", "faces", "--mask", "none.png"), 3, "none.png: expected a picture file; there is none"),
        (("inpaint", "faces", "--mask", "none.npy"), 3, "none.npy: cannot be read"),
        (("denoise", "faces"), 2, "Missing option '--noise-scale'"),
        (("denoise", "faces", "--noise-scale", "0"), 2, "0.0 is not in the range 0<x<=10"),
        (("denoise", "faces", "--noise-scale", "nan"), 2, "nan is not in the range 0<x<=10"),
    ],
)
def test_what_cannot_be_done_is_refused(
    vae_run: Any, gray_bundle: Path, arguments: tuple[Any, ...], code: int, words: str
) -> None:
    np.save("short.npy", np.zeros((4, 8, 12), bool))
    before = sorted(Path().iterdir())
    done = vae_run(*arguments, "--model", gray_bundle)
    assert (done.code, done.err.count("\n")) == (code, 1), done.err
    assert words in done.err
    assert sorted(Path().iterdir()) == before
