"""A model as an object: what it says of itself, opened, closed and copied. In other processes: test_host_threads.py."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251 - of our own objects, to be sure that worker processes get them
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_bytes import copy_bundle, with_cards

import vae_runtime
from vae_runtime import ClosedError, Model

# One model or many, opened and closed


def test_it_says_what_it_is(gray: Model, colour: Model) -> None:
    assert repr(gray) == "<vae_runtime.Model 'tiny-gray': 1x8x12 images, 3 latents, fp32, on cpu>"
    assert repr(colour) == "<vae_runtime.Model 'tiny-colour': 3x8x8 images, 4 latents, fp32, on cpu>"
    assert gray.card.image_shape == (1, 8, 12)
    assert gray.card.latent_size == 3
    assert gray.providers == ("cpu",)


def test_what_a_stranger_called_it_commands_no_terminal(gray_bundle: Path, tmp_path: Path) -> None:
    odd = with_cards(gray_bundle, tmp_path / "odd", name="a\nb\x1b[2J", precision="fp\n\x1b[31m32\ud800")
    with vae_runtime.load(odd) as model:
        assert repr(model) == (
            r"<vae_runtime.Model 'a\nb\x1b[2J': 1x8x12 images, 3 latents, fp\n\x1b[31m32\ud800, on cpu>"
        )


def test_two_models_at_once_do_not_mix(
    gray_bundle: Path, colour_bundle: Path, gray: Model, colour: Model
) -> None:
    with vae_runtime.load(gray_bundle) as one, vae_runtime.load(colour_bundle) as other:
        for _ in range(3):
            np.testing.assert_array_equal(one.sample(2, 7), gray.sample(2, 7))
            np.testing.assert_array_equal(other.sample(2, 7), colour.sample(2, 7))


def test_loading_again_gives_the_same(gray_bundle: Path, gray: Model) -> None:
    for _ in range(10):
        with vae_runtime.load(str(gray_bundle)) as model:
            np.testing.assert_array_equal(model.sample(2, 7), gray.sample(2, 7))


CALLS: dict[str, Callable[[Model], Any]] = {
    "sample": lambda model: model.sample(1),
    "encode": lambda model: model.encode(np.zeros((1, 1, 8, 12), np.float32)),
    "decode": lambda model: model.decode(np.zeros((1, 3))),
    "reconstruct": lambda model: model.reconstruct(np.zeros((1, 8, 12), np.uint8)),
    "interpolate": lambda model: model.interpolate(np.zeros(3), np.ones(3), 2),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_closed_model_says_that_it_is_closed(gray_bundle: Path, call: Callable[[Model], Any]) -> None:
    with vae_runtime.load(gray_bundle) as model:
        call(model)
    with pytest.raises(ClosedError, match=re.escape("the model is closed; load it again")):
        call(model)
    model.close()
    assert model.card.name == "tiny-gray"


# Copies


def copies() -> dict[str, Callable[[Model], Model]]:
    protocols = {
        f"pickle protocol {number}": lambda model, number=number: pickle.loads(pickle.dumps(model, number))  # noqa: S301 - ours
        for number in (2, pickle.HIGHEST_PROTOCOL)
    }
    return {**protocols, "copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("duplicate", copies().values(), ids=copies())
def test_a_copy_is_opened_with_the_same_graphs_and_settings(
    gray_bundle: Path, duplicate: Callable[[Model], Model]
) -> None:
    model = vae_runtime.load(gray_bundle, provider="cpu", threads=3)
    other = duplicate(model)
    model.close()
    assert (other._provider, other._threads, other._engine.threads) == ("cpu", 3, 3)
    assert other.providers == ("cpu",)
    assert other.card == model.card
    assert other.sha256 == model.sha256 != ""
    with vae_runtime.load(gray_bundle) as same:
        np.testing.assert_array_equal(other.sample(3, 7), same.sample(3, 7))


def test_a_copy_needs_no_file(tmp_path: Path, gray_bundle: Path, gray: Model) -> None:
    bundle = copy_bundle(gray_bundle, tmp_path / "b")
    data = pickle.dumps(vae_runtime.load(bundle))
    bundle.rename(tmp_path / "gone")
    np.testing.assert_array_equal(pickle.loads(data).sample(3, 7), gray.sample(3, 7))  # noqa: S301 - our own


# The shipped model


def test_the_shipped_faces_are_faces(faces: Model) -> None:
    assert faces.card.name == "faces24"
    assert faces.card.image_shape == (1, 24, 24)
    pictures = faces.sample(100, seed=7, dtype="uint8")
    assert pictures.shape == (100, 24, 24)
    assert 60 < pictures.mean() < 200
    assert pictures.std(axis=0).min() > 1
    assert np.corrcoef(pictures.mean(axis=0).ravel(), pictures.mean(axis=0)[:, ::-1].ravel())[0, 1] > 0.8
