"""The shipped models tell faces from what is none by the percentiles of their scores.

The faces are the embedded ones, which these models have never seen: they were trained on photographs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from processes import ROOT

import vae_runtime
from vae_runtime import Model

Array = npt.NDArray[Any]

COUNT = 500


@pytest.fixture(scope="module")
def upright() -> Array:
    with np.load(ROOT / "data" / "faces24.npz") as arrays:
        drawn: Array = arrays["images"][:COUNT]
    return drawn


@pytest.fixture(scope="module", params=["faces24", "faces24-int8"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    with vae_runtime.load(request.param, provider="cpu") as opened:
        yield opened


def percentiles(model: Model, pictures: Array) -> Array:
    return model.percentiles(model.score(np.ascontiguousarray(pictures)).total)


def halves_swapped(pictures: Array, axis: int) -> Array:
    return np.roll(pictures, 12, axis=axis)


def test_it_is_calibrated_with_people_that_its_training_did_not_see(model: Model) -> None:
    scores = model.card.scores
    assert scores is not None
    assert scores.images > 1000
    assert len(set(scores.quantiles)) == len(scores.quantiles) > 10


def test_faces_that_were_drawn_score_within_what_photographs_do(model: Model, upright: Array) -> None:
    found = percentiles(model, upright)
    assert 25 < np.median(found) < 90
    assert np.mean(found > 99) < 0.15


@pytest.mark.parametrize("kind", ["noise", "a chessboard", "pixels shuffled", "a black patch"])
def test_what_is_no_face_lies_above_nearly_all_photographs(model: Model, upright: Array, kind: str) -> None:
    random = np.random.default_rng(0)
    if kind == "noise":
        strange: Array = random.integers(0, 256, upright.shape, np.uint8)
    elif kind == "a chessboard":
        board = 255 * (np.indices((12, 12)).sum(axis=0) % 2)
        strange = np.kron(board, np.ones((2, 2))).astype(np.uint8)[None]
    elif kind == "pixels shuffled":
        strange = random.permuted(upright.reshape(COUNT, -1), axis=1).reshape(upright.shape)
    else:
        strange = upright.copy()
        strange[:, 8:16, 8:16] = 0
    found = percentiles(model, strange)
    assert np.median(found) > 99.9
    assert np.mean(found > 99) > 0.9


@pytest.mark.parametrize(
    ("change", "share"),
    [
        (lambda pictures: pictures[:, ::-1], 0.9),
        (lambda pictures: halves_swapped(pictures, 1), 0.97),
        (lambda pictures: halves_swapped(pictures, 2), 0.95),
        (lambda pictures: 255 - pictures, 0.93),
    ],
    ids=["upside down", "chin above forehead", "ears in the middle", "negative"],
)
def test_a_face_scores_higher_once_it_is_wrong(
    model: Model, upright: Array, change: Any, share: float
) -> None:
    right, wrong = percentiles(model, upright), percentiles(model, change(upright))
    assert np.mean(wrong > right) > share
    assert np.median(wrong) > 95


def test_a_mirrored_face_is_as_usual_as_the_face(model: Model, upright: Array) -> None:
    """Or the tests above would say no more than that any change is strange."""
    right, mirrored = percentiles(model, upright), percentiles(model, upright[:, :, ::-1])
    assert abs(np.median(right) - np.median(mirrored)) < 8
    assert 0.35 < np.mean(mirrored > right) < 0.65
