"""`vae-run interpolate`: through seeds and pictures, as the library does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from vae_runtime import Model, grid, latent_path, noise


def points(*seeds: int) -> list[npt.NDArray[np.float32]]:
    return [noise(1, 3, seed)[0] for seed in seeds]


def test_between_two_seeds(vae_run: Any, gray_bundle: Path, gray: Model) -> None:
    layout = ("--rows", 2, "--columns", 3)
    done = vae_run("interpolate", 3, 14, "--steps", 6, *layout, "--model", gray_bundle, "--provider", "cpu")
    assert (done.code, done.err) == (0, "6 images on the way -> interpolation.png\n")
    with Image.open("interpolation.png") as image:
        np.testing.assert_array_equal(
            np.asarray(image), grid(gray.interpolate(*points(3, 14), 6, dtype="uint8"), 2, 3)
        )


def test_the_first_image_is_the_sample_of_its_seed(vae_run: Any, gray_bundle: Path, gray: Model) -> None:
    assert vae_run("interpolate", 3, 14, "--model", gray_bundle, "-o", "a.npy").code == 0
    way = np.load("a.npy")
    assert len(way) == 20
    np.testing.assert_array_equal(way[0], gray.sample(1, 3, dtype="uint8")[0])
    np.testing.assert_array_equal(way[-1], gray.sample(1, 14, dtype="uint8")[0])


@pytest.mark.parametrize("method", ["slerp", "linear"])
def test_through_several_points(vae_run: Any, gray_bundle: Path, gray: Model, method: str) -> None:
    done = vae_run(
        "interpolate",
        1,
        2,
        3,
        1,
        "--steps",
        10,
        "--method",
        method,
        "--float",
        "--model",
        gray_bundle,
        "-o",
        "a.npy",
    )
    assert done.code == 0, done.err
    np.testing.assert_array_equal(np.load("a.npy"), gray.decode(latent_path(points(1, 2, 3, 1), 10, method)))


def test_a_point_may_be_a_picture(vae_run: Any, gray_bundle: Path, gray: Model) -> None:
    picture = gray.sample(1, 5, dtype="uint8")
    Image.fromarray(picture[0]).save("anna.png")
    np.save("ben.npy", picture)
    start = gray.encode(picture).mean[0]
    for name in ("anna.png", "ben.npy"):
        done = vae_run(
            "interpolate", name, 4, "--steps", 3, "--model", gray_bundle, "-o", "w.npy", "--overwrite"
        )
        assert done.code == 0, done.err
        np.testing.assert_array_equal(
            np.load("w.npy"), gray.interpolate(start, points(4)[0], 3, dtype="uint8")
        )


def test_a_point_that_is_several_pictures_or_none_is_refused(
    vae_run: Any, gray_bundle: Path, gray: Model
) -> None:
    Path("two").mkdir()
    for index, picture in enumerate(gray.sample(2, 5, dtype="uint8")):
        Image.fromarray(picture).save(f"two/{index}.png")
    np.save("three.npy", gray.sample(3, 5))
    np.save("none.npy", gray.sample(0, 5))
    for name, found in (
        ("two", "more than one image"),
        ("three.npy", "more than one image"),
        ("none.npy", "no images"),
    ):
        done = vae_run("interpolate", name, 4, "--model", gray_bundle, "-o", "w.npy")
        assert done.code == 3
        assert f"{name}: holds {found}; expected one" in done.err
        assert not Path("w.npy").exists()


def test_frames_are_numbered_in_order(vae_run: Any, gray_bundle: Path) -> None:
    assert vae_run("interpolate", 1, 2, "--steps", 12, "--model", gray_bundle, "-o", "frames/").code == 0
    assert sorted(path.name for path in Path("frames").iterdir()) == [
        f"{index:04d}.png" for index in range(12)
    ]
