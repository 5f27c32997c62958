"""Encoding and decoding: against PyTorch, in any batch size and from any thread."""

from __future__ import annotations

from _thread import start_new_thread
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_bytes import FLOAT, constant, copy_bundle, decoder_of, fields, node

import vae_runtime
from vae_runtime import InputError, Model, NonFiniteError, Posterior, helpers, noise, to_uint8
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

    def start_one(run: Callable[[], None], arguments: tuple[()]) -> int:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(run)
        return start_new_thread(run, arguments)

    monkeypatch.setattr(helpers, "start_new_thread", start_one)
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


# Reconstruction, and latents that are none


def test_a_reconstruction_is_decoded_from_the_posterior_mean(gray: Model) -> None:
    images = images_for(gray, 66)
    np.testing.assert_array_equal(gray.reconstruct(images), gray.decode(gray.encode(images).mean))


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
