"""A learned prior: its density, the way back to noise, and ways between latents that go through it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_bytes import changed_card, constant, copy_bundle, graph, int_attribute, node, read_card, tensor_type

import vae_runtime
from vae_runtime import BundleError, ClosedError, InputError, Model, NonFiniteError, latent_path, noise, slerp

SHIFT = np.float32([4.0, -2.0, 0.5])
"""The prior made here doubles noise and adds this: arcs between latents are none between the noise behind them."""

Bundles = Callable[..., Path]


def graph_of(role: str, card: dict[str, Any]) -> bytes:
    """The prior, the way back or the density, by hand."""
    latents, numbers = (
        tensor_type(name, shape) for name, shape in (("latent", ["batch", 3]), ("log_density", ["batch"]))
    )
    noises = tensor_type("noise", ["batch", 3])
    constants = [
        constant("two", np.full(1, 2, np.float32)),
        constant("shift", SHIFT),
        constant("half", np.full(1, -0.5, np.float32)),
        constant("rest", np.float32([-1.5 * np.log(2 * np.pi) - 3 * np.log(2)])),
        constant("axes", np.array([1])),
    ]
    back = [
        node("Sub", ["latent", "shift"], ["centred"]),
        node("Div", ["centred", "two"], ["noise"]),
        node("Mul", ["noise", "noise"], ["squares"]),
        node("ReduceSum", ["squares", "axes"], ["sum"], int_attribute("keepdims", 0)),
        node("Mul", ["sum", "half"], ["normal"]),
        node("Add", ["normal", "rest"], ["log_density"]),
    ]
    forward = [node("Mul", ["noise", "two"], ["doubled"]), node("Add", ["doubled", "shift"], ["latent"])]
    outputs = {"prior": [latents], "prior_inverse": [noises, numbers], "prior_density": [numbers]}[role]
    return graph(
        inputs=[noises if role == "prior" else latents],
        outputs=outputs,
        nodes=forward if role == "prior" else back,
        constants=constants,
        card={**card, "role": role},
    )


@pytest.fixture(scope="module")
def bundles(gray_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """Return the function that adds graphs of these roles to the gray bundle; `card` changes what they say."""

    def make(*roles: str, **card: Any) -> Path:
        own = {**read_card((gray_bundle / "decoder.onnx").read_bytes()), **card}
        files = {f"{role}.onnx": graph_of(role, own) for role in roles}
        return copy_bundle(gray_bundle, tmp_path_factory.mktemp("prior") / "bundle", files)

    return make


@pytest.fixture(scope="module")
def two_way(bundles: Bundles) -> Path:
    return bundles("prior", "prior_inverse")


@pytest.fixture
def model(two_way: Path) -> Any:
    with vae_runtime.load(two_way, provider="cpu") as model:
        yield model


def log_normal(noises: Any) -> Any:
    return -0.5 * (np.square(noises.astype(np.float64)).sum(1) + 3 * np.log(2 * np.pi))


# The way back, and the density


def test_the_way_back_leads_to_the_noise_that_latents_were_drawn_from(model: Model) -> None:
    drawn = noise(200, 3, seed=5)
    np.testing.assert_allclose(model.to_noise(model.sample_latents(200, seed=5)), drawn, atol=1e-6)
    assert model.to_noise(np.zeros((0, 3), np.float32)).shape == (0, 3)


@pytest.mark.parametrize("roles", [("prior", "prior_inverse"), ("prior", "prior_density")])
def test_the_density_is_that_of_the_prior(bundles: Bundles, roles: tuple[str, ...]) -> None:
    with vae_runtime.load(bundles(*roles), provider="cpu") as model:
        found = model.log_density(model.sample_latents(200, seed=5))
        assert (found.shape, found.dtype) == ((200,), np.float64)
        np.testing.assert_allclose(found, log_normal(noise(200, 3, seed=5)) - 3 * np.log(2), atol=1e-5)
        assert model.graphs == ("encoder", "decoder", *roles)


def test_without_a_learned_prior_noise_is_the_latents_and_their_density_the_standard_normal(
    gray: Model,
) -> None:
    latents = 3 * noise(70, 3, seed=1)
    np.testing.assert_array_equal(gray.to_noise(latents), latents)
    np.testing.assert_allclose(gray.log_density(latents), log_normal(latents), rtol=1e-12)


@pytest.mark.parametrize("roles", [("prior",), ("prior", "prior_density")])
def test_a_prior_that_cannot_be_undone_is_said_to_be(bundles: Bundles, roles: tuple[str, ...]) -> None:
    points = noise(2, 3, seed=1)
    with vae_runtime.load(bundles(*roles)) as model:
        for call in (
            lambda: model.to_noise(points),
            lambda: model.interpolate(*points, 5, through_prior=True),
            lambda: model.latent_path(points, 5, through_prior=True),
        ):
            with pytest.raises(
                BundleError, match="its prior has no way back from latents to noise; expected"
            ):
                call()
        if len(roles) == 1:
            with pytest.raises(BundleError, match="has a prior and does not know its density; expected"):
                model.log_density(points)


@pytest.mark.parametrize("call", ["to_noise", "log_density"])
def test_what_are_no_latents_is_refused(model: Model, gray: Model, call: str) -> None:
    for one in (model, gray):
        for latents, words in (
            (np.zeros((2, 4)), r"latents of shape \(2, 4\); expected \(N, 3\)"),
            (np.full((2, 3), np.nan), "latents hold nan"),
            ([["a", "b", "c"]], "expected floating point"),
        ):
            with pytest.raises(InputError, match=words):
                getattr(one, call)(latents)


def test_latents_that_no_noise_is_sent_to_are_no_crash(model: Model) -> None:
    with pytest.raises(NonFiniteError, match="the prior_inverse produced 1 NaN or infinite values"):
        model.log_density(np.full((1, 3), 1e30))


# Ways through the prior


@pytest.mark.parametrize("method", ["slerp", "linear"])
def test_a_way_through_the_prior_is_that_of_the_noise(model: Model, method: str) -> None:
    noises = noise(3, 3, seed=8)
    found = model.latent_path(2 * noises + SHIFT, 9, method)
    np.testing.assert_allclose(found, 2 * latent_path(noises, 9, method) + SHIFT, atol=1e-5)
    assert found.dtype == np.float32


def test_the_points_themselves_are_on_the_way_to_the_last_bit(model: Model) -> None:
    corners = model.sample_latents(3, seed=2) * np.float32(1.7)
    way = model.latent_path(corners, 131)
    np.testing.assert_array_equal(way[[0, 65, 130]], corners)
    uneven = model.latent_path(corners, 6)  # whose steps pass by the one in the middle
    np.testing.assert_array_equal(uneven[[0, 5]], corners[[0, 2]])
    images = model.interpolate(*corners[:2], 5)
    np.testing.assert_allclose(images[[0, -1]], model.decode(corners[:2]), atol=1e-6)


def test_an_interpolation_goes_through_the_prior_unless_told_otherwise(model: Model, gray: Model) -> None:
    a, b = model.sample_latents(2, seed=2)
    ends = noise(2, 3, seed=2)
    arc = np.stack([2 * slerp(*ends, fraction) + SHIFT for fraction in (0.25, 0.5, 0.75)])
    np.testing.assert_allclose(model.interpolate(a, b, 5)[1:-1], gray.decode(arc), atol=1e-5)
    np.testing.assert_array_equal(model.interpolate(a, b, 5), model.interpolate(a, b, 5, through_prior=True))
    straight = model.interpolate(a, b, 5, through_prior=False)
    np.testing.assert_array_equal(straight, gray.interpolate(a, b, 5))
    assert np.abs(straight - model.interpolate(a, b, 5)).max() > 0.01


@pytest.mark.parametrize("roles", [(), ("prior",), ("prior", "prior_density")])
def test_other_bundles_interpolate_as_ever(bundles: Bundles, roles: tuple[str, ...]) -> None:
    points = noise(3, 3, seed=4)
    with vae_runtime.load(bundles(*roles)) as model:
        np.testing.assert_array_equal(model.latent_path(points, 11), latent_path(points, 11))
        np.testing.assert_array_equal(
            model.interpolate(*points[:2], 7), model.decode(latent_path(points[:2], 7))
        )


def test_a_way_that_cannot_be_is_refused_as_ever(model: Model) -> None:
    points = noise(2, 3, seed=4)
    for arguments, words in (
        ((points[:1], 5), "1 points of shapes"),
        ((points, 1), "steps is 1; expected at least 2"),
        ((points, True), "steps is True"),
        ((points, 5, "bend"), "method 'bend' is not known"),
        ((noise(2, 4, seed=4), 5), r"latents of shape \(2, 4\); expected \(N, 3\)"),
        ((points * np.float32(np.nan), 5), "points hold nan"),
    ):
        with pytest.raises(InputError, match=words):
            model.latent_path(*arguments)


def test_the_command_goes_the_same_way(vae_run: Any, two_way: Path, model: Model) -> None:
    points = np.concatenate([model.sample_latents(1, seed) for seed in (3, 14, 7)])
    for option, through in (("--through-prior", True), ("--no-through-prior", False), (None, None)):
        done = vae_run(
            "interpolate", 3, 14, 7, "--steps", 9, *filter(None, [option]), "--float", "--model", two_way,
            "--provider", "cpu", "-o", "way.npy", "--overwrite",
        )  # fmt: skip
        assert done.code == 0, done.err
        expected = model.decode(model.latent_path(points, 9, through_prior=through))
        np.testing.assert_array_equal(np.load("way.npy"), expected)


def test_the_command_refuses_a_way_that_there_is_not(vae_run: Any, bundles: Bundles) -> None:
    done = vae_run("interpolate", 3, 14, "--through-prior", "--model", bundles("prior", "prior_density"))
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "its prior has no way back from latents to noise" in done.err
    assert not Path("interpolation.png").exists()


# Opening it


def test_the_way_back_is_opened_by_the_first_call_that_needs_it(
    two_way: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="vae_runtime")

    def opened() -> list[str]:
        return [
            Path(str(record.args[0])).stem  # type: ignore[index]
            for record in caplog.records
            if record.getMessage().endswith("runs on cpu")
        ]

    with vae_runtime.load(two_way, provider="cpu") as model:
        model.sample(3, seed=1)
        model.reconstruct(model.sample(2, seed=1))
        assert opened() == ["decoder", "encoder", "prior"]
        model.latent_path(noise(2, 3, 1), 4)
        model.log_density(noise(2, 3, 1))
        assert opened() == ["decoder", "encoder", "prior", "prior_inverse"]


def test_a_way_back_of_another_export_is_refused_when_it_is_opened(bundles: Bundles, two_way: Path) -> None:
    stranger = changed_card((two_way / "prior_inverse.onnx").read_bytes(), bundle_id="another")
    mixed = copy_bundle(two_way, bundles().parent / "mixed", {"prior_inverse.onnx": stranger})
    with vae_runtime.load(mixed) as model:
        model.sample(2, seed=0)
        with pytest.raises(BundleError, match="come from different exports"):
            model.to_noise(noise(2, 3, 0))
        with pytest.raises(BundleError, match="come from different exports"):  # not only the first time
            model.interpolate(*noise(2, 3, 0), 4)


def test_a_damaged_way_back_is_refused_before_anything_is_opened(two_way: Path, tmp_path: Path) -> None:
    data = bytearray((two_way / "prior_inverse.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    damaged = copy_bundle(two_way, tmp_path / "b", {"prior_inverse.onnx": bytes(data)}, sums=False)
    with pytest.raises(BundleError, match=r"prior_inverse\.onnx: SHA-256 differs"):
        vae_runtime.load(damaged)


@pytest.mark.parametrize("role", ["prior_inverse", "prior_density"])
def test_what_is_known_of_a_prior_is_nothing_without_it(bundles: Bundles, role: str) -> None:
    with pytest.raises(
        BundleError, match=rf"lists {role}\.onnx without prior\.onnx; expected the prior that"
    ):
        vae_runtime.load(bundles(role))


def test_a_way_back_that_gives_a_density_of_another_shape_is_refused(bundles: Bundles, two_way: Path) -> None:
    card = read_card((two_way / "prior_inverse.onnx").read_bytes())
    wrong = graph(
        inputs=[tensor_type("latent", ["batch", 3])],
        outputs=[tensor_type("noise", ["batch", 3]), tensor_type("log_density", ["batch", 3])],
        nodes=[node("Identity", ["latent"], ["noise"]), node("Neg", ["latent"], ["log_density"])],
        card=card,
    )
    folder = copy_bundle(two_way, bundles().parent / "shape", {"prior_inverse.onnx": wrong})
    with vae_runtime.load(folder) as model, pytest.raises(BundleError, match="its outputs are"):
        model.log_density(noise(2, 3, 0))


def test_a_closed_model_opens_nothing_any_more(two_way: Path) -> None:
    points = noise(2, 3, 0)
    untouched, used = (vae_runtime.load(two_way) for _ in range(2))
    used.to_noise(points)
    for model in (untouched, used):
        model.close()
        for name, arguments in (("to_noise", ()), ("log_density", ()), ("latent_path", (4,))):
            with pytest.raises(ClosedError):
                getattr(model, name)(points, *arguments)


def test_a_model_that_is_closed_while_it_opens_the_way_back_leaves_nothing_open(
    two_way: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = vae_runtime.load(two_way)
    open_graph = model._engine._open

    def open_and_close(role: str) -> Any:
        graph = open_graph(role)
        model.close()
        return graph

    monkeypatch.setattr(model._engine, "_open", open_and_close)
    with pytest.raises(ClosedError):
        model.to_noise(noise(2, 3, 0))


def test_threads_that_need_it_first_at_once_get_the_same(two_way: Path) -> None:
    latents = noise(50, 3, 0)

    def ask(model: Model, gate: threading.Barrier) -> Any:
        gate.wait(30)
        return model.to_noise(latents)

    with vae_runtime.load(two_way, provider="cpu") as model:
        expected = model.to_noise(latents)
    for _ in range(5):
        with vae_runtime.load(two_way, provider="cpu") as model, ThreadPoolExecutor(6) as pool:
            gate = threading.Barrier(6)
            found = [pool.submit(ask, model, gate) for _ in range(6)]
            assert all(np.array_equal(one.result(30), expected) for one in found)


def test_a_pickled_model_knows_the_way_back(model: Model) -> None:
    opener, arguments = model.__reduce__()
    with opener(*arguments) as again:
        np.testing.assert_array_equal(again.to_noise(noise(9, 3, 0)), model.to_noise(noise(9, 3, 0)))


def test_check_undoes_the_prior_and_finds_a_way_back_that_is_none(
    vae_run: Any, bundles: Bundles, two_way: Path
) -> None:
    done = vae_run("check", two_way)
    assert done.code == 0, done.err
    text = done.out.decode()
    assert "ok      prior         learned; log densities of samples from -" in text
    assert "the way back from latents to noise is off by " in text
    for roles, words in (
        (("prior",), b"knows neither its density nor a way back"),
        (("prior", "prior_density"), b"learned; log densities of samples from -"),
    ):
        done = vae_run("check", bundles(*roles))
        assert done.code == 0
        assert words in done.out
    card = read_card((two_way / "prior_inverse.onnx").read_bytes())
    away = graph(
        inputs=[tensor_type("latent", ["batch", 3])],
        outputs=[tensor_type("noise", ["batch", 3]), tensor_type("log_density", ["batch"])],
        nodes=[
            node("Identity", ["latent"], ["noise"]),
            node("ReduceSum", ["latent", "axes"], ["log_density"], int_attribute("keepdims", 0)),
        ],
        constants=[constant("axes", np.array([1]))],
        card=card,
    )
    done = vae_run("check", copy_bundle(two_way, bundles().parent / "away", {"prior_inverse.onnx": away}))
    assert done.code == 1
    assert "the way back from latents to noise is off by " in done.err
    assert b"FAILED  prior" in done.out


# The shipped flow


def test_the_shipped_prior_is_undone(faces: Model) -> None:
    drawn = noise(300, 32, seed=9)
    latents = faces.sample_latents(300, seed=9)
    np.testing.assert_allclose(faces.to_noise(latents), drawn, atol=1e-4)
    # The mean of log p over its own samples is less than that of any other density, the standard normal's too.
    standard = -0.5 * (np.square(latents.astype(np.float64)).sum(1) + 32 * np.log(2 * np.pi))
    assert faces.log_density(latents).mean() > standard.mean() + 2


def test_the_density_of_the_shipped_prior_is_the_change_of_its_volume(faces: Model) -> None:
    drawn, step = noise(4, 32, seed=3), np.float32(1e-2)
    latents = faces.sample_latents(4, seed=3)
    for one, latent in zip(drawn, latents, strict=True):
        moved = np.eye(32, dtype=np.float32) * step
        ends = faces.to_noise(np.concatenate([latent + moved, latent - moved])).astype(np.float64)
        jacobian = (ends[:32] - ends[32:]) / (2.0 * step)
        expected = -0.5 * (np.square(one.astype(np.float64)).sum() + 32 * np.log(2 * np.pi))
        expected += np.linalg.slogdet(jacobian).logabsdet
        assert faces.log_density(latent[None])[0] == pytest.approx(expected, abs=0.05)


def test_on_ways_of_the_shipped_model_its_points_are_what_they_were_to_the_last_bit(faces: Model) -> None:
    corners = faces.encode(faces.sample(3, seed=6)).mean
    np.testing.assert_array_equal(faces.latent_path(corners, 131)[[0, 65, 130]], corners)


def test_ways_of_the_shipped_model_stay_where_its_prior_puts_images(faces: Model) -> None:
    pairs = faces.sample_latents(64, seed=0).reshape(32, 2, 32)
    through, straight = (
        np.mean([faces.log_density(faces.latent_path(pair, 17, through_prior=it)).mean() for pair in pairs])
        for it in (True, False)
    )
    assert through > straight + 0.5
