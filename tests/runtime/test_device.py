"""On a GPU images and pictures are written where they are wanted, pictures rounded there, and latents stay there.

What is done there is done on the CPU here, with the same graphs and the same calls.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from onnx_bytes import constant, copy_bundle, decoder_of, fields, graph, node, read_card, tensor_type

import vae_runtime
from vae_runtime import BundleError, ClosedError, InputError, NonFiniteError, noise, session, to_uint8
from vae_runtime.bundle import shipped_models
from vae_runtime.device_outputs import with_pictures


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "DEVICES", {"cpu": "cpu"})


def is_there(model: vae_runtime.Model) -> bool:
    return model._engine._graphs["decoder"].is_on_device


@pytest.mark.parametrize("name", ["tiny-gray", "tiny-colour", "tiny-fp16", "tiny-int8"])
@pytest.mark.parametrize("count", [0, 1, 7, 130])
def test_pictures_are_bit_for_bit_the_images_rounded(assets: Path, name: str, count: int) -> None:
    with vae_runtime.load(assets / name, provider="cpu") as model:
        latents = 3 * noise(count, model.card.latent_size, seed=0)
        assert is_there(model)
        pictures = model.decode(latents, dtype="uint8")
        np.testing.assert_array_equal(pictures, to_uint8(model.decode(latents)))
        assert pictures.flags.c_contiguous


@pytest.mark.parametrize("name", shipped_models())
def test_so_are_those_of_every_shipped_model(name: str) -> None:
    with vae_runtime.load(name, provider="cpu") as model:
        assert is_there(model)
        pictures = model.sample(20, seed=1, dtype="uint8")
        np.testing.assert_array_equal(pictures, to_uint8(model.sample(20, seed=1)))


def test_noise_of_pixels_is_added_before_they_are_rounded(
    gray_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy() -> np.ndarray:
        with vae_runtime.load(gray_bundle, provider="cpu") as model:
            return model.sample(5, seed=2, dtype="uint8", observation_noise=True)

    there = noisy()
    monkeypatch.setattr(session, "DEVICES", {})
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
        assert not is_there(model)
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


# Written to their place, and kept on the device


def plain_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the graphs that run otherwise than with bound memory, from now on."""
    roles: list[str] = []
    run = session.Graph.run

    def noted(self: session.Graph, batch: session.Batch) -> list[session.Batch]:
        roles.append(self.role)
        return run(self, batch)

    monkeypatch.setattr(session.Graph, "run", noted)
    return roles


@pytest.mark.parametrize("name", ["faces24", "drawn24"])  # with a flow, with a mixture as their priors
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("count", [0, 1, 64, 150])
def test_samples_are_those_of_the_cpu_bit_for_bit_and_nothing_is_brought_but_them(
    monkeypatch: pytest.MonkeyPatch, name: str, dtype: str, count: int
) -> None:
    def drawn(model: vae_runtime.Model) -> list[np.ndarray]:
        latents = model.sample_latents(count, seed=1)
        return [
            model.sample(count, seed=1, temperature=0.8, dtype=dtype),
            np.concatenate([*model.sample_stream(count + 1, seed=2, dtype=dtype, batch=37)]),
            model.decode(latents, dtype=dtype),
            np.concatenate(
                [model.decode(latents[:0], dtype=dtype), *model.decode_stream(latents, dtype=dtype)]
            ),
        ]

    with vae_runtime.load(name, provider="cpu") as there:
        assert is_there(there)
        assert there._engine._graphs["prior"].is_on_device
        roles = plain_runs(monkeypatch)
        found = drawn(there)
        assert {*roles} <= {"prior"}  # whose latents were asked for
        roles.clear()
        there.sample(count, seed=1, dtype=dtype)
        assert roles == []
    monkeypatch.setattr(session, "DEVICES", {})
    with vae_runtime.load(name, provider="cpu") as here:
        assert not is_there(here)
        for of_there, of_here in zip(found, drawn(here), strict=True):
            assert of_there.dtype == of_here.dtype
            np.testing.assert_array_equal(of_there, of_here)


def prior_of(gray_bundle: Path, folder: Path, operator: str) -> Path:
    """The gray bundle with a prior of one operator."""
    latents, noises = (tensor_type(name, ["batch", 3]) for name in ("latent", "noise"))
    card = {**read_card((gray_bundle / "decoder.onnx").read_bytes()), "role": "prior"}
    prior = graph(
        inputs=[noises],
        outputs=[latents],
        nodes=[node(operator, ["noise"], ["latent"])],
        constants=[],
        card=card,
    )
    return copy_bundle(gray_bundle, folder / "b", {"prior.onnx": prior})


def test_latents_that_are_not_finite_are_found_though_they_stay_there(
    tmp_path: Path, gray_bundle: Path
) -> None:
    """A decoder may swallow NaN: its ReLU on a GPU may give 0."""
    bundle = prior_of(gray_bundle, tmp_path, "Log")
    with vae_runtime.load(bundle) as model, pytest.raises(NonFiniteError, match=r"the prior produced .* NaN"):
        model.sample(50, seed=0)


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_an_output_without_a_row_for_every_latent_is_refused_there_too(
    tmp_path: Path, gray_bundle: Path, rows: int, dtype: str
) -> None:
    decoder = decoder_of(
        (gray_bundle / "decoder.onnx").read_bytes(),
        lambda _, after: [node("Identity", ["zeros"], [after])],
        [constant("zeros", np.zeros((rows, 1, 8, 12), np.float32))],
    )
    bundle = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})
    with (
        vae_runtime.load(bundle) as model,
        pytest.raises(BundleError, match=rf"of shape \({rows}, 1, 8, 12\)"),
    ):
        model.decode(np.zeros((2, 3), np.float32), dtype=dtype)


def test_an_output_of_its_own_beside_the_promised_is_refused_there_too(
    tmp_path: Path, gray_bundle: Path
) -> None:
    card = read_card((gray_bundle / "decoder.onnx").read_bytes())
    latents, images = tensor_type("latent", ["batch", 3]), tensor_type("image", ["batch", 1, 8, 12])
    more = graph(
        inputs=[latents],
        outputs=[images, tensor_type("more", ["batch", 3])],
        nodes=[
            node("MatMul", ["latent", "weights"], ["flat"]),
            node("Reshape", ["flat", "shape"], ["image"]),
            node("Neg", ["latent"], ["more"]),
        ],
        constants=[
            constant("weights", np.zeros((3, 96), np.float32)),
            constant("shape", np.array([-1, 1, 8, 12])),
        ],
        card=card,
    )
    with pytest.raises(BundleError, match=r"its outputs are .*'more'.*; its card promises"):
        vae_runtime.load(copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": more}))


def test_the_prior_runs_once_where_the_decoder_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    keep = session.Graph.keep

    def noted(self: session.Graph, batch: session.Batch, sums: session.Batch) -> object:
        kept.append(self.role)
        return keep(self, batch, sums)

    monkeypatch.setattr(session.Graph, "keep", noted)
    roles = plain_runs(monkeypatch)
    with vae_runtime.load("faces24", provider="cpu") as model:
        model._engine._graphs["decoder"].is_on_device = False
        model.sample(5, seed=1)
    assert (kept, roles) == ([], ["prior", "decoder"])


def test_where_memory_cannot_be_bound_the_graph_does_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(session, "DEVICES", {"cpu": "nowhere"})
    with vae_runtime.load("faces24", provider="cpu") as model:
        roles = plain_runs(monkeypatch)
        with caplog.at_level(logging.INFO, logger="vae_runtime"):
            there = model.sample(5, seed=1, dtype="uint8")
        assert roles == ["prior"]
    assert any("prior.onnx: failed" in line and "without bound memory" in line for line in caplog.messages)
    monkeypatch.setattr(session, "DEVICES", {})
    with vae_runtime.load("faces24", provider="cpu") as model:
        np.testing.assert_array_equal(there, model.sample(5, seed=1, dtype="uint8"))


def test_a_closed_model_says_so(gray_bundle: Path) -> None:
    model = vae_runtime.load(gray_bundle)
    model.close()
    for count in (0, 3):
        with pytest.raises(ClosedError):
            model.sample(count, seed=1)
    with pytest.raises(ClosedError):
        model.decode(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), "warm"])
def test_a_temperature_that_is_none_is_refused_though_nothing_is_drawn(
    gray_bundle: Path, temperature: float
) -> None:
    with vae_runtime.load(gray_bundle) as model, pytest.raises(InputError, match="temperature"):
        model.sample(0, temperature=temperature)
