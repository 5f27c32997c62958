"""The face detector, on photographs that scikit-image labels as faces and as other things, and on drawn faces."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from vae_runtime.images import Images, to_float
from vae_training.data import load_images
from vae_training.evaluation.faces import share_of_faces

data = pytest.importorskip("skimage.data")


def photographs() -> npt.NDArray[np.float64]:
    """Of faces, 100, then of other things, 100; (200, 25, 25)."""
    subset: npt.NDArray[np.float64] = data.lfw_subset()
    return subset


def as_images(pictures: npt.NDArray[np.float64]) -> Images:
    return pictures[:, None].astype(np.float32)


def test_photographs_of_faces_are_taken_for_faces_and_others_are_not() -> None:
    taken = share_of_faces(as_images(photographs()[:100])), share_of_faces(as_images(photographs()[100:]))
    assert taken[0] > taken[1] + 0.5


def test_the_share_is_that_of_the_images_one_by_one() -> None:
    images = as_images(photographs()[90:110])
    assert share_of_faces(images) == pytest.approx(np.mean([share_of_faces(one[None]) for one in images]))


def test_colour_and_gray_are_seen_alike() -> None:
    images = as_images(photographs()[:20])
    assert share_of_faces(np.repeat(images, 3, axis=1)) == share_of_faces(images)


def test_faces_upside_down_and_noise_are_seldom_taken_for_faces() -> None:
    faces = to_float(load_images("faces").images[:40])
    noise = np.random.default_rng(0).uniform(0, 1, (40, 1, 24, 24)).astype(np.float32)
    upright = share_of_faces(faces)
    assert upright > 0.9
    assert share_of_faces(np.ascontiguousarray(faces[:, :, ::-1])) < upright - 0.3
    assert share_of_faces(noise) < 0.3
