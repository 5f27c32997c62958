"""A decoder on a GPU rounds its pictures there. What it does there is done on the CPU here, by the same graph."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from onnx_bytes import copy_bundle, decoder_of, fields, node

import vae_runtime
from vae_runtime import NonFiniteError, noise, session, to_uint8
from vae_runtime.bundle import shipped_models
from vae_runtime.device_pictures import with_pictures


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAKE_PICTURES", ("cpu",))


def draws_there(model: vae_runtime.Model) -> bool:
    return model._engine._graphs["decoder"].makes_pictures


@pytest.mark.parametrize("name", ["tiny-gray", "tiny-colour", "tiny-fp16", "tiny-int8"])
@pytest.mark.parametrize("count", [0, 1, 7, 130])
def test_pictures_are_bit_for_bit_the_images_rounded(assets: Path, name: str, count: int) -> None:
    with vae_runtime.load(assets / name, provider="cpu") as model:
        latents = 3 * noise(count, model.card.latent_size, seed=0)
        assert draws_there(model)
        pictures = model.decode(latents, dtype="uint8")
        np.testing.assert_array_equal(pictures, to_uint8(model.decode(latents)))
        assert pictures.flags.c_contiguous


@pytest.mark.parametrize("name", shipped_models())
def test_so_are_those_of_every_shipped_model(name: str) -> None:
    with vae_runtime.load(name, provider="cpu") as model:
        assert draws_there(model)
        pictures = model.sample(20, seed=1, dtype="uint8")
        np.testing.assert_array_equal(pictures, to_uint8(model.sample(20, seed=1)))


def test_noise_of_pixels_is_added_before_they_are_rounded(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy() -> np.ndarray:
        with vae_runtime.load(gray_bundle, provider="cpu") as model:
            return model.sample(5, seed=2, dtype="uint8", observation_noise=True)

    there = noisy()
    monkeypatch.setattr(session, "MAKE_PICTURES", ())
    np.testing.assert_array_equal(there, noisy())


def test_halves_are_rounded_to_even_and_what_is_outside_is_clipped(tmp_path: Path, gray_bundle: Path) -> None:
    decoder = decoder_of(
        (gray_bundle / "decoder.onnx").read_bytes(),
        lambda before, after: [node("Identity", [before], [after])],
    )
    levels = np.array([0.5, 1.5, 2.5, 254.5, 255.4, 255.6, 300.0, -0.4, -7.0, 3e37], np.float32)
    latents = np.zeros((len(levels), 3), np.float32)
    latents[:, 0] = levels / 255
    with vae_runtime.load(copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})) as model:
        pictures = model.decode(latents, dtype="uint8")
        np.testing.assert_array_equal(pictures, to_uint8(model.decode(latents)))
        assert pictures[:, 0, 0].tolist() == [0, 2, 2, 254, 255, 255, 255, 0, 0, 255]


def test_nan_is_found_there_too(tmp_path: Path, gray_bundle: Path) -> None:
    decoder = decoder_of(
        (gray_bundle / "decoder.onnx").read_bytes(), lambda before, after: [node("Log", [before], [after])]
    )
    bundle = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})
    latents = np.array([[-1.0, 0, 0], [1.0, 0, 0]], np.float32)
    with vae_runtime.load(bundle) as model, pytest.raises(NonFiniteError, match="produced 96 NaN"):
        model.decode(latents, dtype="uint8")
    with vae_runtime.load(bundle, check_finite=False) as unchecked:
        assert not unchecked.decode(latents, dtype="uint8").any()


def test_where_the_added_nodes_do_not_open_the_graph_does_without(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        session, "with_pictures", lambda data, shape: with_pictures(data, shape).replace(b"Round", b"Rxund")
    )
    with caplog.at_level(logging.INFO, logger="vae_runtime"), vae_runtime.load(gray_bundle) as model:
        assert not draws_there(model)
        assert model.sample(3, seed=0, dtype="uint8").shape == (3, 8, 12)
    assert any("pictures are made on the processor" in message for message in caplog.messages)


def test_a_file_is_looked_at_before_anything_is_added(tmp_path: Path, gray_bundle: Path) -> None:
    """A file that comes with the added outputs of its own is refused."""
    data = (gray_bundle / "decoder.onnx").read_bytes()
    body = dict(fields(data))[7]
    with_outputs = with_pictures(data, (1, 8, 12))
    assert with_outputs.startswith(data)
    assert body in with_outputs
    bundle = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": with_outputs})
    with pytest.raises(vae_runtime.UnsafeBundleError, match="graph twice"):
        vae_runtime.load(bundle)
