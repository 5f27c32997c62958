"""The model: against PyTorch, in any batch size and from any thread. In other processes: test_host_process.py."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251 - of our own objects, to be sure that worker processes get them
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_bytes import FLOAT, constant, copy_bundle, decoder_of, fields, graph, node, read_card, tensor_type

import vae_runtime
from vae_runtime import ClosedError, InputError, Model, NonFiniteError, Posterior, noise, slerp, to_uint8
from vae_runtime.chunks import CHUNK

Array = npt.NDArray[Any]

BATCHES = [0, 1, 2, 63, 64, 65, 200]


def images_for(model: Model, count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random((count, *model.card.image_shape), dtype=np.float32)


# Against PyTorch


def test_it_gives_what_pytorch_gives(expected: dict[str, Any]) -> None:
    with vae_runtime.load(expected["bundle"], provider="cpu") as model:
        posterior = model.encode(expected["image"])
        np.testing.assert_allclose(posterior.mean, expected["mean"], atol=1e-5)
        np.testing.assert_allclose(posterior.logvar, expected["logvar"], atol=1e-5)
        np.testing.assert_allclose(model.decode(expected["latent"]), expected["decoded"], atol=1e-5)


def test_the_expected_numbers_are_no_constants(expected: dict[str, Any]) -> None:
    """Or the test above would pass a decoder that ignores its input."""
    for name in ("mean", "logvar", "decoded"):
        assert expected[name].std(axis=0).max() > 0.01


# Shapes and types


@pytest.mark.parametrize(
    ("name", "images", "pictures", "latents"),
    [("gray", (5, 1, 8, 12), (5, 8, 12), (5, 3)), ("colour", (5, 3, 8, 8), (5, 8, 8, 3), (5, 4))],
)
def test_shapes_and_types_of_all_that_comes_out(
    request: pytest.FixtureRequest,
    name: str,
    images: tuple[int, ...],
    pictures: tuple[int, ...],
    latents: tuple[int, ...],
) -> None:
    model = request.getfixturevalue(name)
    floats = model.sample(5, seed=1)
    uint8 = model.sample(5, seed=1, dtype="uint8")
    posterior = model.encode(floats)
    assert isinstance(posterior, Posterior)
    for array, shape, dtype in (
        (floats, images, np.float32),
        (uint8, pictures, np.uint8),
        (posterior.mean, latents, np.float32),
        (posterior.logvar, latents, np.float32),
        (model.sample_latents(5), latents, np.float32),
        (model.reconstruct(uint8), images, np.float32),
        (model.reconstruct(uint8, dtype=np.uint8), pictures, np.uint8),
        (model.interpolate(latents_of(model), -latents_of(model), 5, dtype="uint8"), pictures, np.uint8),
    ):
        assert (array.shape, array.dtype) == (shape, dtype)
        assert array.flags.c_contiguous
        assert array.flags.writeable
    assert floats.min() >= 0
    assert floats.max() <= 1


def latents_of(model: Model) -> Array:
    return noise(1, model.card.latent_size, seed=3)[0]


@pytest.mark.parametrize("name", ["gray", "colour"])
@pytest.mark.parametrize("count", [0, 1, 2, 65])
def test_pictures_are_the_images_rounded(request: pytest.FixtureRequest, name: str, count: int) -> None:
    model = request.getfixturevalue(name)
    latents = model.sample_latents(count, seed=2)
    np.testing.assert_array_equal(model.decode(latents, dtype="uint8"), to_uint8(model.decode(latents)))


@pytest.mark.parametrize("name", ["gray", "colour"])
def test_uint8_pictures_encode_as_the_images_they_stand_for(
    request: pytest.FixtureRequest, name: str
) -> None:
    model = request.getfixturevalue(name)
    pictures = to_uint8(images_for(model, 70))
    encoded = model.encode(pictures)
    same = model.encode(vae_runtime.to_float(pictures))
    np.testing.assert_array_equal(encoded.mean, same.mean)
    np.testing.assert_array_equal(encoded.logvar, same.logvar)
    if name == "gray":
        np.testing.assert_array_equal(model.encode(pictures[..., None]).mean, encoded.mean)


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("f4"), "uint8", np.uint8, np.dtype("u1")])
def test_a_type_may_be_named_in_any_way(gray: Model, dtype: Any) -> None:
    assert gray.sample(1, dtype=dtype).dtype == np.dtype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "int8", np.float16, "pictures", 7])
def test_other_types_are_refused(gray: Model, dtype: Any) -> None:
    with pytest.raises(InputError, match=r"dtype .*; expected float32 or uint8"):
        gray.sample(1, dtype=dtype)


# Batches, chunks and threads


@pytest.mark.parametrize("count", BATCHES)
def test_a_batch_gives_what_its_members_give_one_by_one(gray: Model, count: int) -> None:
    latents = noise(count, 3, seed=4)
    images = images_for(gray, count)
    decoded, encoded = gray.decode(latents), gray.encode(images)
    assert decoded.shape == (count, 1, 8, 12)
    assert encoded.mean.shape == encoded.logvar.shape == (count, 3)
    for index in range(count):
        one = slice(index, index + 1)
        np.testing.assert_allclose(gray.decode(latents[one])[0], decoded[index], atol=1e-6)
        np.testing.assert_allclose(gray.encode(images[one]).mean[0], encoded.mean[index], atol=1e-6)


@pytest.mark.parametrize("name", ["tiny-gray", "tiny-colour"])
def test_the_number_of_threads_changes_no_bit(assets: Path, name: str) -> None:
    serial = vae_runtime.load(assets / name, provider="cpu", threads=1)
    images = images_for(serial, 5 * CHUNK + 3)
    for threads in (2, 3, 8, None):
        parallel = vae_runtime.load(assets / name, provider="cpu", threads=threads)
        for dtype in ("float32", "uint8"):
            np.testing.assert_array_equal(
                parallel.sample(5 * CHUNK + 3, 7, dtype=dtype), serial.sample(5 * CHUNK + 3, 7, dtype=dtype)
            )
        for one, other in zip(parallel.encode(images), serial.encode(images), strict=True):
            np.testing.assert_array_equal(one, other)


def test_whole_chunks_of_a_large_request_are_bit_equal_to_small_requests(gray: Model) -> None:
    latents = noise(3 * CHUNK, 3, seed=5)
    whole = gray.decode(latents)
    for start in range(0, len(latents), CHUNK):
        np.testing.assert_array_equal(
            whole[start : start + CHUNK], gray.decode(latents[start : start + CHUNK])
        )


def test_eight_threads_on_one_model_give_bit_equal_results(gray: Model) -> None:
    counts = [1, 7, 64, 65, 130] * 16

    def work(seed: int) -> tuple[Array, Array]:
        images = gray.sample(counts[seed], seed)
        return images, gray.encode(images).mean

    serial = [work(seed) for seed in range(len(counts))]
    with ThreadPoolExecutor(8) as pool:
        for (images, means), (same_images, same_means) in zip(
            pool.map(work, range(len(counts))), serial, strict=True
        ):
            np.testing.assert_array_equal(images, same_images)
            np.testing.assert_array_equal(means, same_means)


def test_where_no_thread_can_be_started_the_caller_does_the_work(
    gray: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gray.sample(300, 7)
    started: list[object] = []
    start = threading.Thread.start

    def start_one(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    with vae_runtime.load(gray._bundle.source, threads=4) as model:
        np.testing.assert_array_equal(model.sample(300, 7), expected)
    assert started


@given(data=st.data())
@settings(max_examples=20)
def test_the_layout_and_byte_order_of_latents_make_no_difference(gray: Model, data: st.DataObject) -> None:
    latents = noise(data.draw(st.integers(1, 9)), 3, seed=6)
    change: Callable[[Array], Array] = data.draw(
        st.sampled_from(
            [
                lambda a: a.astype(">f4"),
                lambda a: a.astype(np.float64),
                np.asfortranarray,
                lambda a: np.repeat(a, 2, axis=0)[::2],
                lambda a: a.tolist(),
            ]
        )
    )
    np.testing.assert_array_equal(gray.decode(change(latents)), gray.decode(latents))


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


# Reconstruction and interpolation


def test_a_reconstruction_is_decoded_from_the_posterior_mean(gray: Model) -> None:
    images = images_for(gray, 66)
    np.testing.assert_array_equal(gray.reconstruct(images), gray.decode(gray.encode(images).mean))


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


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (np.zeros(3), r"latents of shape \(3,\); expected \(N, 3\); add the batch axis: latents\[None\]"),
        (np.zeros((2, 4)), r"latents of shape \(2, 4\); expected \(N, 3\)$"),
        (np.zeros((2, 3, 1)), r"shape \(2, 3, 1\)"),
        (np.zeros((2, 3), complex), "latents of type complex128; expected floating point"),
        (np.zeros((2, 3), object), "type object"),
        (np.zeros((2, 3), bool), "type bool"),
        (np.full((2, 3), "a"), "type <U1"),
        (np.array([[0, 0, 0], [0, np.nan, 0]]), r"latents hold nan at index \(1, 1\)"),
        (np.array([[0, 0, -np.inf]]), r"latents hold -inf at index \(0, 2\)"),
        (np.array([[0, 0, 1e300]]), r"latents hold inf at index \(0, 2\)"),
    ],
)
def test_latents_that_cannot_be_decoded_are_refused(gray: Model, latents: Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gray.decode(latents)


# Numbers that are none


@pytest.mark.parametrize(
    ("operator", "latent", "count"),
    [
        ("Log", [[-1.0, 0, 0]], 96),
        ("Log", [[0.0, 0, 0], [1.0, 0, 0], [-1.0, 0, 0]], 192),
        ("Reciprocal", [[0.0, 0, 0]], 96),
    ],
)
def test_a_model_that_produces_nan_or_infinity_is_told_on(
    tmp_path: Path, gray_bundle: Path, operator: str, latent: list[list[float]], count: int
) -> None:
    decoder = decoder_of(
        (gray_bundle / "decoder.onnx").read_bytes(), lambda before, after: [node(operator, [before], [after])]
    )
    with vae_runtime.load(copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})) as model:
        message = rf"b: the decoder produced {count} NaN or infinite values of {96 * len(latent)}; "
        with pytest.raises(NonFiniteError, match=message) as told:
            model.decode(latent)
        assert told.value.exit_code == 5
        assert np.isfinite(model.decode([[1.0, 0, 0]])).all()


def test_both_infinities_at_once_are_told_without_a_warning(tmp_path: Path, gray_bundle: Path) -> None:
    """Warnings are errors here: numpy gives one for a sum of both."""
    decoder = decoder_of(
        (gray_bundle / "decoder.onnx").read_bytes(),
        lambda before, after: [
            node("Mul", [before, "huge"], ["larger"]),
            node("Mul", ["larger", "huge"], [after]),
        ],
        [constant("huge", np.full(1, 3e38, np.float32))],
    )
    with vae_runtime.load(copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})) as model:
        with pytest.raises(NonFiniteError, match="produced 192 NaN or infinite values of 288"):
            model.decode([[1.0, 0, 0], [-1.0, 0, 0], [0.0, 0, 0]])
        assert not model.decode([[0.0, 0, 0]]).any()


def test_large_numbers_are_no_infinities(tmp_path: Path, gray_bundle: Path) -> None:
    """Their squares would be."""
    decoder = decoder_of(
        (gray_bundle / "decoder.onnx").read_bytes(),
        lambda before, after: [node("Identity", [before], [after])],
    )
    with vae_runtime.load(copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})) as model:
        assert model.decode([[3e38, 0, 0]]).max() == np.float32(3e38)


@pytest.mark.parametrize("role", ["encoder", "decoder"])
@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_told_at_the_first_call(
    tmp_path: Path, gray_bundle: Path, role: str, weight: float
) -> None:
    data = (gray_bundle / f"{role}.onnx").read_bytes()
    weights = largest_tensor(data)
    broken = data.replace(weights, np.full(len(weights) // 4, weight, np.float32).tobytes())
    assert broken != data
    assert len(broken) == len(data)
    model = vae_runtime.load(copy_bundle(gray_bundle, tmp_path / "b", {f"{role}.onnx": broken}))
    with pytest.raises(NonFiniteError, match=rf"b: the {role} produced \d+ NaN or infinite values of \d+; "):
        model.reconstruct(np.full((2, 1, 8, 12), 0.5, np.float32))


def largest_tensor(data: bytes) -> bytes:
    """The bytes of a graph's largest tensor of numbers."""
    body = dict(fields(data))[7]
    tensors = [dict(fields(value)) for number, value in fields(body) if number == 5]
    return max((tensor[9] for tensor in tensors if tensor[2] == FLOAT), key=len)


# One model or many, opened and closed


def test_it_says_what_it_is(gray: Model, colour: Model) -> None:
    assert repr(gray) == "<vae_runtime.Model 'tiny-gray': 1x8x12 images, 3 latents, fp32, on cpu>"
    assert repr(colour) == "<vae_runtime.Model 'tiny-colour': 3x8x8 images, 4 latents, fp32, on cpu>"
    assert gray.card.image_shape == (1, 8, 12)
    assert gray.card.latent_size == 3
    assert gray.providers == ("cpu",)


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
