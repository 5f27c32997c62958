"""The negative ELBO of images: against its formula in float64, in any batches, order and number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_bytes import (
    constant,
    copy_bundle,
    decoder_of,
    decoder_of_nan,
    graph,
    node,
    read_card,
    tensor_type,
    with_cards,
)

import vae_runtime
from vae_runtime import BundleError, ClosedError, InputError, Model, NonFiniteError, Score, noise, to_uint8
from vae_runtime.chunks import CHUNK
from vae_runtime.errors import ResourceLimitError

Array = npt.NDArray[Any]

LIKELIHOODS = [
    {"name": "bernoulli", "noise_scale": None},
    {"name": "gaussian", "noise_scale": 0.0566},
    {"name": "discretized-logistic", "noise_scale": 0.1},
]
CALIBRATION = {
    "images": 500,
    "samples": 1,
    "seed": 0,
    "percentages": [0.0, 10.0, 50.0, 90.0, 100.0],
    "quantiles": [-20.0, 0.0, 10.0, 12.0, 100.0],
}


def images_for(model: Model, count: int) -> Array:
    return np.random.default_rng(1).random((count, *model.card.image_shape), dtype=np.float32)


def exact_kl(mean: Array, logvar: Array) -> Array:
    """The integral of q log q/p over a fine grid, latent by latent."""
    middle, deviation = mean.astype(np.float64)[..., None], np.exp(0.5 * logvar.astype(np.float64))[..., None]
    at = np.linspace(-12, 12, 4001)
    z = middle + deviation * at
    q = np.exp(-0.5 * at**2) / (np.sqrt(2 * np.pi) * deviation)
    log_ratio = -0.5 * at**2 - np.log(deviation) + 0.5 * z**2
    steps = deviation * (at[1] - at[0])
    total: Array = (q * log_ratio * steps).sum(axis=(-2, -1))
    return total


def bernoulli_nats(model: Model, images: Array, eps: Array) -> Array:
    """-log p(x given z) where every posterior is left by the same noise."""
    mean, logvar = (part.astype(np.float64) for part in model.encode(images))
    made = model.decode(mean + eps * np.exp(0.5 * logvar)).astype(np.float64)
    terms = images * np.log(made) + (1 - images) * np.log1p(-made)
    return -terms.reshape(len(images), -1).sum(axis=1)


def same(score: Score, other: Score) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(score, other, strict=True))


@pytest.fixture(scope="module", params=LIKELIHOODS, ids=lambda likelihood: likelihood["name"])
def model(
    request: pytest.FixtureRequest, gray_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Model]:
    """The gray model under each likelihood."""
    bundle = with_cards(gray_bundle, tmp_path_factory.mktemp("likelihood") / "b", likelihood=request.param)
    with vae_runtime.load(bundle, provider="cpu") as opened:
        yield opened


# What a score is


def test_a_score_is_the_cross_entropy_at_a_point_of_the_posterior_and_the_divergence(gray: Model) -> None:
    images = images_for(gray, 70)
    score = gray.score(images)
    np.testing.assert_allclose(score.kl, exact_kl(*gray.encode(images)), rtol=1e-5)
    expected = bernoulli_nats(gray, images, noise(1, 3, seed=0))
    np.testing.assert_allclose(score.reconstruction, expected, rtol=1e-5)
    np.testing.assert_array_equal(score.total, score.reconstruction + score.kl)
    assert score.kl.min() > 0
    assert score.total.std() > 0.1


@pytest.mark.parametrize("samples", [2, 5, CHUNK, CHUNK + 3])
@pytest.mark.parametrize("count", [1, 3, CHUNK + 1])
def test_more_points_are_averaged(gray: Model, samples: int, count: int) -> None:
    images = images_for(gray, count)
    each = [bernoulli_nats(gray, images, eps) for eps in noise(samples, 3, seed=9)]
    score = gray.score(images, samples=samples, seed=9)
    np.testing.assert_allclose(score.reconstruction, np.mean(each, axis=0), rtol=1e-5)
    np.testing.assert_allclose(score.kl, gray.score(images).kl, rtol=1e-6)


def test_the_seed_chooses_the_points(model: Model) -> None:
    images = images_for(model, 5)
    assert same(model.score(images), model.score(images, samples=1, seed=0))
    assert not same(model.score(images, seed=1), model.score(images, seed=0))
    assert not same(model.score(images, seed=None), model.score(images, seed=None))


def test_of_a_learned_prior_the_score_knows_nothing(tmp_path: Path, gray: Model, gray_bundle: Path) -> None:
    prior = graph(
        inputs=[tensor_type("noise", ["batch", 3])],
        outputs=[tensor_type("latent", ["batch", 3])],
        nodes=[node("Neg", ["noise"], ["latent"])],
        card={**read_card((gray_bundle / "decoder.onnx").read_bytes()), "role": "prior"},
    )
    images = images_for(gray, 5)
    with vae_runtime.load(copy_bundle(gray_bundle, tmp_path / "b", {"prior.onnx": prior})) as with_prior:
        assert same(with_prior.score(images), gray.score(images))


# Types, batches, threads


@pytest.mark.parametrize("count", [0, 1, CHUNK, 2 * CHUNK + 5])
def test_a_score_is_three_arrays_of_a_number_for_each_image(model: Model, count: int) -> None:
    score = model.score(images_for(model, count))
    assert score._fields == ("total", "reconstruction", "kl")
    assert all((part.shape, part.dtype) == ((count,), np.float64) for part in score)


def test_pictures_score_as_the_images_that_they_stand_for(model: Model) -> None:
    pictures = to_uint8(images_for(model, 70))
    expected = model.score(vae_runtime.to_float(pictures))
    assert same(model.score(pictures), expected)
    assert same(model.score(pictures[..., None]), expected)


@given(order=st.permutations(range(12)), count=st.integers(1, 12))
@settings(max_examples=15)
def test_an_image_scores_the_same_whatever_stands_beside_it(
    model: Model, order: list[int], count: int
) -> None:
    """But for rounding: a graph may add up in another order in a batch of another size."""
    images = images_for(model, 12)
    whole, some = model.score(images, samples=3), model.score(images[order[:count]], samples=3)
    for part, found in zip(whole, some, strict=True):
        np.testing.assert_allclose(found, part[order[:count]], rtol=2e-5)


@pytest.mark.parametrize("threads", [2, 3, 8, None])
def test_the_number_of_threads_changes_no_bit_of_a_score(
    gray: Model, gray_bundle: Path, threads: int | None
) -> None:
    images = images_for(gray, 5 * CHUNK + 3)
    with vae_runtime.load(gray_bundle, provider="cpu", threads=1) as serial:
        expected = serial.score(images, samples=2)
    with vae_runtime.load(gray_bundle, provider="cpu", threads=threads) as parallel:
        assert same(parallel.score(images, samples=2), expected)


@pytest.mark.parametrize("batch", [CHUNK, 3 * CHUNK, None])
@pytest.mark.parametrize("as_pictures", [False, True])
def test_a_stream_gives_the_same_bits_batch_by_batch(
    model: Model, batch: int | None, as_pictures: bool
) -> None:
    images = images_for(model, 4 * CHUNK + 7)
    given_: Array = to_uint8(images) if as_pictures else images
    batches = list(model.score_stream(given_, samples=2, seed=3, batch=batch))
    assert [len(each.total) for each in batches[:-1]] == [batch] * (len(batches) - 1)
    joined = Score(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))
    assert same(joined, model.score(given_, samples=2, seed=3))


def test_a_stream_takes_arrays_one_after_the_other(gray: Model) -> None:
    images = images_for(gray, 9)
    batches = gray.score_stream(iter([images[:4], images[4:4], images[4:]]))
    assert [len(each.kl) for each in batches] == [4, 5]


# What is refused


@pytest.mark.parametrize("call", [Model.score, Model.score_stream])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "samples is 0; expected a whole number of at least 1"),
        ({"samples": 1.0}, "samples is 1.0; expected"),
        ({"samples": True}, "samples is True; expected"),
        ({"seed": -1}, "seed is -1; expected a whole number of at least 0, or None"),
        ({"images": np.zeros((2, 3, 3), np.uint8)}, r"pictures of shape \(2, 3, 3\)"),
        ({"images": np.zeros((2, 1, 8, 12), np.int64)}, "images of type int64"),
    ],
)
def test_what_cannot_be_scored_is_refused_at_once(
    gray: Model, call: Callable[..., Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(gray, **{"images": np.zeros((2, 8, 12), np.uint8), **arguments})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_that_is_no_number_is_refused_or_spoils_its_own_score_alone(
    gray: Model, gray_bundle: Path, value: float
) -> None:
    images = images_for(gray, 70)
    expected = gray.score(images)
    images[66, 0, 2, 3] = value
    with pytest.raises(InputError, match=r"images hold \S+ at index \(66, 0, 2, 3\)"):
        gray.score(images)
    with vae_runtime.load(gray_bundle, provider="cpu", check_finite=False) as unchecked:
        score = unchecked.score(images)
    assert not np.isfinite(score.total[66])
    for found, right in zip(score, expected, strict=True):
        np.testing.assert_array_equal(np.delete(found, 66), np.delete(right, 66))


def with_encoder(gray_bundle: Path, target: Path, gain: float) -> Path:
    """The gray bundle with an encoder that gives an image's brightness as mean, and `gain` times it as logvar."""
    card = read_card((gray_bundle / "encoder.onnx").read_bytes())
    encoder = graph(
        inputs=[tensor_type("image", ["batch", 1, 8, 12])],
        outputs=[tensor_type(name, ["batch", 3]) for name in ("mean", "logvar")],
        nodes=[
            node("GlobalAveragePool", ["image"], ["average"]),
            node("Flatten", ["average"], ["flat"]),
            node("MatMul", ["flat", "ones"], ["mean"]),
            node("Mul", ["mean", "gain"], ["logvar"]),
        ],
        constants=[
            constant("ones", np.ones((1, 3), np.float32)),
            constant("gain", np.array([gain], np.float32)),
        ],
        card=card,
    )
    return copy_bundle(gray_bundle, target, {"encoder.onnx": encoder})


@pytest.mark.parametrize("gain", [180, 720, 3e38])
def test_posteriors_too_wide_for_a_number_are_told(tmp_path: Path, gray_bundle: Path, gain: float) -> None:
    dark, bright = np.zeros((2, 1, 8, 12), np.float32), np.ones((1, 1, 8, 12), np.float32)
    with vae_runtime.load(with_encoder(gray_bundle, tmp_path / "b", gain)) as model:
        assert np.isfinite(model.score(dark).total).all()
        with pytest.raises(NonFiniteError, match=rf"log-variances of up to {gain:.3g}\)".replace("+", "[+]")):
            model.score(np.concatenate([dark, bright]))
        with pytest.raises(NonFiniteError, match="log-variances"):
            list(model.score_stream(bright))


@pytest.mark.parametrize("gain", [-200, -1e30, 100, 170])
def test_posteriors_that_are_narrow_or_only_wide_are_scored(
    tmp_path: Path, gray_bundle: Path, gain: float
) -> None:
    bright = np.ones((1, 1, 8, 12), np.float32)
    with vae_runtime.load(with_encoder(gray_bundle, tmp_path / "b", gain)) as model:
        expected = 1.5 * (np.exp(np.float64(np.float32(gain))) - np.float64(np.float32(gain)))
        np.testing.assert_allclose(model.score(bright).kl, expected, rtol=1e-6)


def test_a_decoder_that_makes_nan_is_told(tmp_path: Path, gray_bundle: Path) -> None:
    decoder = decoder_of_nan((gray_bundle / "decoder.onnx").read_bytes())
    bundle = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})
    with vae_runtime.load(bundle) as model, pytest.raises(NonFiniteError, match="decoder produced 96 NaN"):
        model.score(np.zeros((1, 8, 12), np.uint8))


def test_a_score_beyond_all_numbers_is_told(tmp_path: Path, gray_bundle: Path) -> None:
    """Of a decoder whose images are finite, and their squares are not."""
    decoder = decoder_of(
        (gray_bundle / "decoder.onnx").read_bytes(),
        lambda before, after: [node("Mul", [before, "large"], [after])],
        [constant("large", np.array([1e30], np.float32))],
    )
    changed = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})
    bundle = with_cards(changed, tmp_path / "c", likelihood=LIKELIHOODS[1])
    with (
        vae_runtime.load(bundle) as model,
        pytest.raises(NonFiniteError, match=r"no score that is a finite number \(their posteriors"),
    ):
        model.score(np.zeros((1, 8, 12), np.uint8))


def test_a_likelihood_that_is_not_known_is_refused_when_it_is_needed(
    tmp_path: Path, gray_bundle: Path
) -> None:
    bundle = with_cards(gray_bundle, tmp_path / "b", likelihood={"name": "laplace", "noise_scale": 1.0})
    with vae_runtime.load(bundle) as model:
        images = model.sample(2, seed=1)
        for call in (model.score, model.score_stream):
            with pytest.raises(BundleError, match="its card names the likelihood 'laplace'"):
                call(images)


def test_a_closed_model_scores_nothing(gray_bundle: Path) -> None:
    model = vae_runtime.load(gray_bundle, provider="cpu")
    images = images_for(model, 2)
    begun = model.score_stream(images)
    model.close()
    for call in (lambda: model.score(images), lambda: model.score(images[:0]), lambda: next(begun)):
        with pytest.raises(ClosedError, match="the model is closed"):
            call()


def test_more_than_memory_holds_is_refused_and_the_model_goes_on(gray: Model) -> None:
    images = images_for(gray, 2)
    expected = gray.score(images)
    calls: dict[str, Callable[[], object]] = {
        f"{1 << 44} scores": lambda: gray.score(np.broadcast_to(np.uint8(0), (1 << 44, 8, 12))),
        f"{1 << 50} points of a posterior": lambda: gray.score(images, samples=1 << 50),
        f"{1 << 44} images at a time": lambda: gray.score_stream(images, batch=1 << 44),
    }
    for what, call in calls.items():
        with pytest.raises(ResourceLimitError, match=rf"not enough memory \({what}.* would take"):
            call()
    assert same(gray.score(images), expected)


# Percentiles


@pytest.fixture(scope="module")
def calibrated(gray_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    bundle = with_cards(gray_bundle, tmp_path_factory.mktemp("calibrated") / "b", scores=CALIBRATION)
    with vae_runtime.load(bundle, provider="cpu") as opened:
        yield opened


@pytest.mark.parametrize(
    ("total", "percentile"),
    [(-20, 0), (-10, 5), (0, 10), (5, 30), (11, 70), (56, 95), (100, 100), (-1e9, 0), (1e300, 100)],
)
def test_between_two_quantiles_a_percentile_lies_on_a_line_and_beyond_the_last_it_stays(
    calibrated: Model, total: float, percentile: float
) -> None:
    assert calibrated.percentiles(total) == pytest.approx(percentile)


def test_percentiles_have_the_shape_of_the_totals(calibrated: Model) -> None:
    found = calibrated.percentiles([[0, 10], [np.nan, 100]])
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[10, 50], [np.nan, 100]])
    assert calibrated.percentiles(np.empty(0)).shape == (0,)


def test_many_images_that_score_alike_share_the_highest_percentile(tmp_path: Path, gray_bundle: Path) -> None:
    scores = {**CALIBRATION, "percentages": [0, 10, 90, 100], "quantiles": [5, 5, 5, 6]}
    with vae_runtime.load(with_cards(gray_bundle, tmp_path / "b", scores=scores)) as model:
        np.testing.assert_array_equal(model.percentiles([4.999, 5, 6]), [0, 90, 100])


def test_without_calibration_there_are_no_percentiles(gray: Model) -> None:
    with pytest.raises(BundleError, match="does not say what held-out images score; expected a bundle that"):
        gray.percentiles([1.0])


@pytest.mark.parametrize("totals", [["high"], [None], [[1.0], [1.0, 2.0]], [True], [1j]])
def test_what_is_no_total_has_no_percentile(calibrated: Model, totals: Any) -> None:
    with pytest.raises(InputError, match="totals"):
        calibrated.percentiles(totals)
