"""A single latent or image is run in memory that stays bound: the same numbers, in arrays of the caller's own."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_bytes import constant, copy_bundle, decoder_of, decoder_of_nan, node

import vae_runtime
from vae_runtime import BundleError, ClosedError, InputError, NonFiniteError, noise, session, single_runs
from vae_runtime.bundle import shipped_models
from vae_runtime.device_memory import bind
from vae_runtime.session import SIGNATURES

BUNDLES = ["tiny-gray", "tiny-colour", "tiny-fp16", "tiny-int8"]


def test_every_graph_gives_what_onnxruntime_gives_without_bound_memory(
    every_model: vae_runtime.Model,
) -> None:
    generator = np.random.default_rng(0)
    for role in every_model.graphs:
        graph = every_model._engine._graphs.get(role) or every_model._engine._late(role)
        name, outputs = SIGNATURES[role]
        ((_, *row),) = (given.shape for given in graph._session.get_inputs())
        for _ in range(3):
            batch = generator.random((1, *row), np.float32)
            expected = graph._session.run(outputs, {name: batch})
            found = graph.run(batch)
            assert len(found) == len(outputs)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
                assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert len(graph._singles._spare) == 1  # it was used, and used again


@pytest.fixture(params=[*BUNDLES, *shipped_models()])
def every_model(request: pytest.FixtureRequest, assets: Path) -> Any:
    bundle = assets / request.param if request.param in BUNDLES else request.param
    with vae_runtime.load(bundle, provider="cpu", threads=1) as model:
        yield model


def test_what_is_given_out_is_not_written_to_again(gray: vae_runtime.Model) -> None:
    first, second = noise(1, 3, seed=0), noise(1, 3, seed=1)
    image = gray.decode(first)
    posterior = gray.encode(image)
    kept = [image.copy(), *(array.copy() for array in posterior)]
    gray.encode(gray.decode(second))
    for array, before in zip((image, *posterior), kept, strict=True):
        np.testing.assert_array_equal(array, before)
        assert array.flags.owndata
        assert array.flags.writeable
    image[...] = 0.5
    np.testing.assert_array_equal(gray.decode(first), kept[0])


def test_what_is_given_in_is_not_held(gray: vae_runtime.Model) -> None:
    latents = noise(1, 3, seed=0)
    gray.decode(latents)
    reference = weakref.ref(latents)
    del latents
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_eight_threads_get_what_one_gets(gray: vae_runtime.Model, kind: Any) -> None:
    latents = [noise(1, 3, seed=number) for number in range(40)]
    expected = [gray.decode(each, dtype=kind).tobytes() for each in latents]

    def is_right(number: int) -> bool:
        index = number % len(latents)
        return gray.decode(latents[index], dtype=kind).tobytes() == expected[index]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(is_right, range(2000)))
    assert len(gray._engine._graphs["decoder"]._singles._spare) <= 9


def test_closing_lets_go_of_the_session(gray_bundle: Path) -> None:
    model = vae_runtime.load(gray_bundle, provider="cpu")
    latents = noise(1, 3, seed=0)
    model.decode(latents)
    session = weakref.ref(model._engine._graphs["decoder"]._session._sess)  # what holds the weights
    model.close()
    gc.collect()
    assert session() is None
    with pytest.raises(ClosedError):
        model.decode(latents)


@pytest.mark.parametrize("rows", [0, 2, 5])
def test_an_output_of_more_or_fewer_rows_is_refused(tmp_path: Path, gray_bundle: Path, rows: int) -> None:
    decoder = decoder_of(
        (gray_bundle / "decoder.onnx").read_bytes(),
        lambda _, after: [node("Identity", ["zeros"], [after])],
        [constant("zeros", np.zeros((rows, 1, 8, 12), np.float32))],
    )
    bundle = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})
    with vae_runtime.load(bundle) as model:
        for _ in range(2):
            with pytest.raises(BundleError, match=rf"of shape \({rows}, 1, 8, 12\) for a batch of 1;"):
                model.decode(np.zeros((1, 3), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_latent_that_is_not_finite_is_refused(gray: vae_runtime.Model, value: float) -> None:
    with pytest.raises(InputError, match=rf"latents hold {value} at index \(0, 2\)"):
        gray.decode(np.array([[0, 1, value]], np.float32))


def test_an_image_that_is_not_finite_is_told(tmp_path: Path, gray_bundle: Path) -> None:
    decoder = decoder_of_nan((gray_bundle / "decoder.onnx").read_bytes())
    bundle = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})
    ones = np.ones((1, 3), np.float32)
    with vae_runtime.load(bundle) as model, pytest.raises(NonFiniteError, match="produced 96 NaN"):
        model.decode(ones)
    with vae_runtime.load(bundle, check_finite=False) as unchecked:
        assert np.isnan(unchecked.decode(ones)).all()
        assert np.isnan(unchecked.decode(np.array([[np.nan, 0, 0]], np.float32))).all()


@pytest.mark.parametrize(
    "as_given",
    [
        np.ndarray.tolist,
        lambda latents: latents.astype(np.float64),
        lambda latents: latents.astype(">f4"),
        lambda latents: np.asfortranarray(np.repeat(latents, 2, axis=1))[:, ::2],
        lambda latents: np.repeat(latents, 4, axis=0)[1:2],
    ],
    ids=["a list", "double precision", "big-endian", "every second column", "a row of more"],
)
def test_latents_in_other_forms_give_the_same_image(
    gray: vae_runtime.Model, as_given: Callable[[Any], Any]
) -> None:
    latents = noise(1, 3, seed=4)
    np.testing.assert_array_equal(gray.decode(as_given(latents)), gray.decode(latents))


def test_where_memory_cannot_be_bound_the_usual_way_is_taken(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    latents = noise(1, 3, seed=0)
    with vae_runtime.load(gray_bundle, provider="cpu") as model:
        expected = model.decode(latents)
    monkeypatch.setattr(single_runs, "bind", lambda session, *_: bind(session, {"unheard of": latents}, {}))
    with (
        caplog.at_level(logging.INFO, logger="vae_runtime"),
        vae_runtime.load(gray_bundle, provider="cpu") as model,
    ):
        found = model.decode(latents)
    np.testing.assert_array_equal(found, expected)
    assert found.flags.owndata
    assert any("without bound memory" in line and "unheard of" in line for line in caplog.messages)


def test_no_memory_is_kept_for_large_images(gray_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = noise(1, 3, seed=0)
    with vae_runtime.load(gray_bundle, provider="cpu") as model:
        expected = model.decode(latents)
    monkeypatch.setattr(session, "_MOST_BOUND", 98)  # 3 latents and 96 pixels are 99
    with vae_runtime.load(gray_bundle, provider="cpu") as model:
        np.testing.assert_array_equal(model.decode(latents), expected)
        assert model._engine._graphs["decoder"]._singles._spare == []
