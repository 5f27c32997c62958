"""Sampling and interpolating: by seed, through a learned prior, and from latent to latent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_bytes import constant, copy_bundle, graph, node, read_card, tensor_type

import vae_runtime
from vae_runtime import InputError, Model, noise, slerp

# Sampling


def test_samples_are_the_decoded_latents_of_the_same_seed(gray: Model) -> None:
    latents = gray.sample_latents(5, seed=7, temperature=0.5)
    np.testing.assert_array_equal(latents, noise(5, 3, seed=7) * np.float32(0.5))
    np.testing.assert_array_equal(gray.sample(5, seed=7, temperature=0.5), gray.decode(latents))


def test_one_seed_gives_the_same_images_and_another_gives_others(gray: Model) -> None:
    np.testing.assert_array_equal(gray.sample(3, seed=7), gray.sample(3, seed=7))
    assert not np.array_equal(gray.sample(3, seed=7), gray.sample(3, seed=8))
    assert not np.array_equal(gray.sample(3), gray.sample(3))


def test_the_first_images_do_not_depend_on_how_many_are_drawn(gray: Model) -> None:
    np.testing.assert_allclose(gray.sample(100, seed=7)[:3], gray.sample(3, seed=7), atol=1e-6)


def test_at_temperature_0_all_images_are_the_one_of_the_zero_latent(gray: Model) -> None:
    images = gray.sample(4, temperature=0.0)
    np.testing.assert_array_equal(images, np.broadcast_to(gray.decode(np.zeros((1, 3))), images.shape))


def test_no_samples_are_an_empty_array(gray: Model) -> None:
    assert gray.sample(0).shape == (0, 1, 8, 12)
    assert gray.sample(0, dtype="uint8").shape == (0, 8, 12)


@pytest.mark.parametrize("n", [np.int64(2), np.uint8(2), 2])
def test_whole_numbers_of_numpy_count_too(gray: Model, n: Any) -> None:
    assert len(gray.sample(n)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": -1}, "n is -1; expected a whole number of at least 0"),
        ({"n": 2.0}, "n is 2.0; expected a whole number"),
        ({"n": "2"}, "n is '2'; expected a whole number"),
        ({"n": True}, "n is True; expected a whole number"),
        ({"n": 1, "seed": -1}, "seed is -1; expected a whole number"),
        ({"n": 1, "seed": 0.5}, "seed is 0.5; expected a whole number"),
        ({"n": 1, "temperature": -0.1}, "temperature is -0.1; expected a number of at least 0"),
        ({"n": 1, "temperature": float("nan")}, "temperature is nan; expected a number"),
        ({"n": 1, "temperature": "warm"}, "temperature is 'warm'; expected a number"),
        ({"n": 1, "temperature": None}, "temperature is None; expected a number"),
        ({"n": 1, "temperature": np.ones(2)}, r"temperature is array\(.*; expected a number"),
        ({"n": 1, "temperature": float("inf")}, "temperature is inf; expected a number"),
        (
            {"n": 1, "temperature": 1e300},
            r"temperature is 1e\+300; expected a number of at least 0, at most 1e\+30",
        ),
    ],
)
def test_what_cannot_be_sampled_is_refused(gray: Model, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gray.sample(**arguments)


# A learned prior


@pytest.fixture
def with_prior(tmp_path: Path, gray_bundle: Path) -> Path:
    """The gray bundle with a prior that doubles the noise and adds one."""
    card = {**read_card((gray_bundle / "decoder.onnx").read_bytes()), "role": "prior"}
    prior = graph(
        inputs=[tensor_type("noise", ["batch", 3])],
        outputs=[tensor_type("latent", ["batch", 3])],
        nodes=[node("Mul", ["noise", "two"], ["doubled"]), node("Add", ["doubled", "one"], ["latent"])],
        constants=[constant("two", np.full(1, 2, np.float32)), constant("one", np.full(1, 1, np.float32))],
        card=card,
    )
    return copy_bundle(gray_bundle, tmp_path / "with-prior", {"prior.onnx": prior})


def test_noise_goes_through_the_prior_where_there_is_one(with_prior: Path, gray: Model) -> None:
    with vae_runtime.load(with_prior) as model:
        latents = model.sample_latents(70, seed=7)
        np.testing.assert_allclose(latents, 2 * noise(70, 3, seed=7) + 1, rtol=1e-6)
        np.testing.assert_array_equal(model.sample(70, seed=7), gray.decode(latents))
        np.testing.assert_array_equal(model.decode(latents), gray.decode(latents))


# Interpolation


@pytest.mark.parametrize("method", ["slerp", "lerp", "linear"])
def test_an_interpolation_begins_and_ends_at_its_ends(gray: Model, method: str) -> None:
    a, b = noise(2, 3, seed=8)
    way = gray.interpolate(a, b, 7, method)
    assert way.shape == (7, 1, 8, 12)
    np.testing.assert_allclose(way[[0, -1]], gray.decode([a, b]), atol=1e-6)


def test_an_interpolation_follows_the_arc(gray: Model) -> None:
    a, b = noise(2, 3, seed=8)
    arc = np.stack([slerp(a, b, fraction) for fraction in (0, 0.25, 0.5, 0.75, 1)])
    np.testing.assert_array_equal(gray.interpolate(a, b, 5), gray.decode(arc))
