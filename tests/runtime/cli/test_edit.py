"""`vae-run direction` and `vae-run edit`: as the library has it, and only where the direction belongs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx_bytes import with_cards
from PIL import Image

from vae_runtime import Model, attribute_direction, grid

Array = npt.NDArray[Any]


@pytest.fixture
def pictures(vae_run: Any, gray: Model) -> tuple[Array, Array]:
    """Pictures of two classes, as with/, a folder of PNGs, and without.npy, in the current folder."""
    have, lack = gray.sample(7, 1, dtype="uint8"), gray.sample(70, 2, dtype="uint8")
    Path("with").mkdir()
    for index, picture in enumerate(have):
        Image.fromarray(picture).save(f"with/{index}.png")
    np.save("without.npy", lack)
    return have, lack


def expected(gray: Model, pictures: tuple[Array, Array]) -> Array:
    direction: Array = attribute_direction(*(gray.encode(group).mean for group in pictures))
    return direction


@pytest.mark.parametrize("name", ["smile.npz", "smile.npy"])
def test_a_direction_is_found_and_followed(
    vae_run: Any, gray_bundle: Path, gray: Model, pictures: tuple[Array, Array], name: str
) -> None:
    options = ("--model", gray_bundle, "--provider", "cpu")
    done = vae_run("direction", "--with", "with", "--without", "without.npy", *options, "-o", name)
    assert (done.code, done.err) == (
        0,
        f"direction from 70 images without it to 7 with it -> {name}\n",
    )
    direction = expected(gray, pictures)
    found = np.load(name)
    np.testing.assert_allclose(found["direction"] if name.endswith("z") else found, direction, atol=1e-6)

    done = vae_run(
        "edit", "with", "--direction", name, "--strength", "-2..2", "--steps", 3, "--padding", 1, *options
    )
    assert (done.code, done.err) == (0, "21 edited images -> edited.png\n")
    have, _ = pictures
    columns = [gray.edit(have, direction, strength, dtype="uint8") for strength in (-2, 0, 2)]
    rows = np.stack(columns, axis=1).reshape(21, 8, 12)
    with Image.open("edited.png") as sheet:
        difference = np.asarray(sheet).astype(int) - grid(rows, 7, 3, padding=1)
    assert np.abs(difference).max() <= 1  # the rounding of a mean of two batches


def test_one_strength_gives_one_image_each(
    vae_run: Any, gray_bundle: Path, gray: Model, pictures: tuple[Array, Array]
) -> None:
    np.save("d.npy", expected(gray, pictures))
    for words, strength in (((), 1.0), (("--strength", "-.5"), -0.5)):
        arguments = ("without.npy", "-n", 66, "--direction", "d.npy", *words, "--float")
        done = vae_run("edit", *arguments, "--model", gray_bundle, "-o", "a.npy", "--overwrite")
        assert done.code == 0, done.err
        edited = gray.edit(pictures[1][:66], np.load("d.npy"), strength)
        np.testing.assert_allclose(np.load("a.npy"), edited, atol=1e-6)
    done = vae_run(
        "edit", "with", "--direction", "d.npy", "--strength", "0..1", "--model", gray_bundle, "-o", "f"
    )
    assert len(list(Path("f").iterdir())) == 7 * 5, done.err


def test_several_places_make_one_class(
    vae_run: Any, gray_bundle: Path, gray: Model, pictures: tuple[Array, Array]
) -> None:
    have, lack = pictures
    Image.fromarray(lack[0]).save("other.png")
    words = ("--with", "with", "--with", "other.png", "--without", "without.npy", "--model", gray_bundle)
    assert vae_run("direction", *words, "-o", "d.npy").code == 0
    both = np.concatenate([have, lack[:1]])
    np.testing.assert_allclose(np.load("d.npy"), expected(gray, (both, lack)), atol=1e-6)


@pytest.mark.usefixtures("pictures")
def test_a_direction_of_another_model_is_refused(vae_run: Any, gray_bundle: Path, tmp_path: Path) -> None:
    other = with_cards(gray_bundle, tmp_path / "other", bundle_id="another", name="other\x1b[2J")
    words = ("--with", "with", "--without", "without.npy", "--model", gray_bundle, "-q")
    assert vae_run("direction", *words).code == 0
    done = vae_run("edit", "with", "--direction", "direction.npz", "--model", other)
    assert done.code == 3
    assert done.err == (
        "vae-run: error: direction.npz: belongs to another model than 'other\\x1b[2J', to which it means nothing; "
        "make it again with this one: vae-run direction\n"
    )
    assert not Path("edited.png").exists()


@pytest.mark.usefixtures("pictures")
def test_a_direction_is_of_its_model_whatever_that_is_called(
    vae_run: Any, gray_bundle: Path, tmp_path: Path
) -> None:
    """JSON holds half of a character, which no file does."""
    odd = with_cards(gray_bundle, tmp_path / "odd", bundle_id="half \ud800")
    done = vae_run("direction", "--with", "with", "--without", "without.npy", "--model", odd, "-q")
    assert (done.code, done.err) == (0, "")
    for model, code in ((odd, 0), (gray_bundle, 3)):
        assert vae_run("edit", "with", "--direction", "direction.npz", "--model", model).code == code


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"mean": np.zeros(3)}, "d.npz: no array 'bundle_id'; expected a file that vae-run direction wrote"),
        (
            np.zeros((2, 3)),
            r"d.npy: a direction of type float64 and shape (2, 3); expected floating point (3,)",
        ),
        (np.array([0, np.nan, 0]), "d.npy: directions hold nan at index (1,)"),
        (None, "d.npy: cannot be read (No such file or directory)"),
    ],
)
def test_a_file_that_is_no_direction_is_refused(
    vae_run: Any, gray_bundle: Path, arrays: Any, words: str
) -> None:
    name = "d.npz" if isinstance(arrays, dict) else "d.npy"
    if isinstance(arrays, dict):
        np.savez(name, **arrays)
    elif arrays is not None:
        np.save(name, arrays)
    done = vae_run("edit", "with", "--direction", name, "--model", gray_bundle)
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert words in done.err
    assert not Path("edited.png").exists()


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("direction", "--with", "with"), 2, "Missing option '--without'"),
        (
            ("direction", "--with", "with", "--without", "none.npy"),
            3,
            "a class of no images; expected one or more",
        ),
        (
            ("direction", "--with", "with", "--without", "with"),
            3,
            "latents with the same mean on both sides, between which there is no way",
        ),
        (("edit", "with"), 2, "Missing option '--direction'"),
        (
            ("edit", "with", "--direction", "d.npy", "--strength", "1..nan"),
            2,
            "expected a number from -1e+06 to 1e+06",
        ),
        (("edit", "with", "--direction", "d.npy", "--strength", "1..2..3"), 2, "or two as in -2..2"),
        (
            ("edit", "with", "--direction", "d.npy", "--strength", "9999999"),
            2,
            "expected a number from -1e+06",
        ),
        (("edit", "with", "--direction", "d.npy", "--steps", 3), 2, "--steps goes with two strengths"),
    ],
)
def test_what_cannot_be_done_is_refused(
    vae_run: Any, gray_bundle: Path, arguments: tuple[Any, ...], code: int, words: str
) -> None:
    np.save("none.npy", np.zeros((0, 8, 12), np.uint8))
    np.save("d.npy", np.zeros(3))
    before = sorted(Path().iterdir())
    done = vae_run(*arguments, "--model", gray_bundle)
    assert (done.code, done.err.count("\n")) == (code, 1)
    assert words in done.err
    assert sorted(Path().iterdir()) == before
