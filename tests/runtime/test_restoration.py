"""Inpainting and denoising: what stays, what comes, and how near it is to what was there before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx_bytes import constant, copy_bundle, graph, node, read_card, tensor_type, with_cards

import vae_runtime
from vae_runtime import ClosedError, InputError, Model, NonFiniteError, to_float, to_uint8
from vae_runtime.errors import ResourceLimitError
from vae_runtime.restoration import Fit

Array = npt.NDArray[Any]

FACES = Path(__file__).resolve().parents[2] / "data" / "faces24.npz"
GRAY = (8, 12)
HELD_OUT = np.sort(np.random.default_rng(0).permutation(6000)[:600])[:100]


def some_mask(count: int | None = None, shape: tuple[int, ...] = GRAY, share: float = 0.4) -> Array:
    drawn = np.random.default_rng(5).random(shape if count is None else (count, *shape))
    mask: Array = drawn < share
    return mask


def images_for(model: Model, count: int) -> Array:
    """Not from the model: nothing of them fits exactly."""
    numbers = np.random.default_rng(2)
    return 0.5 * model.sample(count, 1) + 0.5 * numbers.random(
        (count, *model.card.image_shape), dtype=np.float32
    )


# What stays and what comes


@pytest.mark.parametrize("name", ["gray", "colour"])
@pytest.mark.parametrize("kind", ["float32", "uint8"])
@pytest.mark.parametrize("seed", [None, 3])
def test_known_pixels_stay_as_they_are_and_missing_ones_come_from_the_decoder(
    request: pytest.FixtureRequest, name: str, kind: str, seed: int | None
) -> None:
    model: Model = request.getfixturevalue(name)
    images = images_for(model, 9)
    given = to_uint8(images) if kind == "uint8" else images
    mask = some_mask(9, model.card.image_shape[1:])
    over_channels = np.broadcast_to(mask[:, None], images.shape)
    as_floats = to_float(given) if kind == "uint8" else given
    filled = model.inpaint(given, mask, seed=seed)
    np.testing.assert_array_equal(filled[~over_channels], as_floats[~over_channels])
    assert not np.any(filled[over_channels] == as_floats[over_channels])
    pictures = model.inpaint(given, mask, seed=seed, dtype="uint8")
    np.testing.assert_array_equal(pictures, to_uint8(filled))
    if kind == "uint8":
        np.testing.assert_array_equal(pictures[~mask], given[~mask])


def test_with_everything_missing_comes_the_middle_of_the_prior_and_with_nothing_what_was_given(
    gray: Model,
) -> None:
    images = images_for(gray, 5)
    np.testing.assert_array_equal(gray.inpaint(images, np.zeros(GRAY, bool)), images)
    middle = np.repeat(gray.decode(np.zeros((1, 3))), 5, axis=0)
    np.testing.assert_allclose(gray.inpaint(images, np.ones(GRAY, bool)), middle, atol=0.02)
    assert gray.inpaint(images[:0], np.ones(GRAY, bool)).shape == (0, 1, *GRAY)
    assert gray.denoise(images[:0], 0.1, dtype="uint8").shape == (0, *GRAY)


def test_what_stands_where_a_pixel_is_missing_does_not_matter(gray: Model, colour: Model) -> None:
    for model in (gray, colour):
        images, mask = images_for(model, 6), some_mask(6, model.card.image_shape[1:])
        expected = model.inpaint(images, mask)
        over_channels = np.broadcast_to(mask[:, None], images.shape)
        for other in (0.0, np.nan, np.inf, -7.0):
            given = np.where(over_channels, np.float32(other), images)
            np.testing.assert_array_equal(model.inpaint(given, mask), expected)
        pictures = to_uint8(images)
        changed = pictures.copy()
        changed[mask] = 255 - changed[mask]
        np.testing.assert_array_equal(model.inpaint(changed, mask), model.inpaint(pictures, mask))


def test_one_mask_for_all_is_that_mask_for_each(gray: Model) -> None:
    images, mask = images_for(gray, 70), some_mask()
    for_each = np.repeat(mask[None], 70, axis=0)
    np.testing.assert_array_equal(gray.inpaint(images, mask), gray.inpaint(images, for_each))


def test_an_image_is_restored_for_itself_whatever_stands_beside_it(gray_bundle: Path) -> None:
    """In any number, in any order, by any number of threads."""
    with vae_runtime.load(gray_bundle, threads=1) as one, vae_runtime.load(gray_bundle, threads=3) as three:
        images, mask = images_for(one, 200), some_mask(200)
        order = np.random.default_rng(0).permutation(200)
        calls: tuple[Callable[[Model, Array, Array], Array], ...] = (
            lambda model, images, mask: model.inpaint(images, mask),
            lambda model, images, _: model.denoise(images, 0.2),
        )
        for call in calls:
            whole = call(one, images, mask)
            np.testing.assert_array_equal(call(three, images, mask), whole)
            np.testing.assert_allclose(call(three, images[order], mask[order]), whole[order], atol=2e-3)
            for index in (0, 63, 64, 199):
                alone = call(one, images[index : index + 1], mask[index : index + 1])
                np.testing.assert_allclose(alone[0], whole[index], atol=2e-3)


# What is probable


def linear_decoder(gray_bundle: Path, folder: Path, noise_scale: float) -> tuple[Path, Array, Array]:
    """A bundle whose decoder is the straight map z A + b: there the most probable latent has a formula."""
    card = read_card((gray_bundle / "decoder.onnx").read_bytes())
    numbers = np.random.default_rng(4)
    mixed = np.array([[1.0, 0, 0], [1.0, 0.3, 0], [0.5, -0.5, 0.7]])  # latents that depend on each other
    matrix = (mixed @ (0.05 * numbers.standard_normal((3, 96)))).astype(np.float32)
    offset = (0.5 + 0.05 * numbers.standard_normal(96)).astype(np.float32)
    decoder = graph(
        inputs=[tensor_type("latent", ["batch", 3])],
        outputs=[tensor_type("image", ["batch", 1, *GRAY])],
        nodes=[node("Gemm", ["latent", "matrix", "offset"], ["flat"]), node("Reshape", ["flat", "shape"], ["image"])],
        constants=[
            constant("matrix", matrix),
            constant("offset", offset),
            constant("shape", np.array([-1, 1, *GRAY], np.int64)),
        ],
        card=card,
    )  # fmt: skip
    plain = copy_bundle(gray_bundle, folder / "plain", {"decoder.onnx": decoder})
    likelihood = {"name": "gaussian", "noise_scale": noise_scale}
    return with_cards(plain, folder / "linear", likelihood=likelihood), matrix, offset


def test_of_a_linear_decoder_it_is_ridge_regression(tmp_path: Path, gray_bundle: Path) -> None:
    """z = (A W A' + 1)^-1 A W (x - b) with W = 1 / (2 s)^2 at known pixels: exact, and in float64."""
    bundle, matrix, offset = linear_decoder(gray_bundle, tmp_path, 0.03)
    images = np.random.default_rng(3).uniform(0.3, 0.7, (20, 1, *GRAY)).astype(np.float32)
    mask = some_mask(20)
    exact, ways = [], matrix.astype(np.float64)
    for image, missing in zip(images.reshape(20, 96), mask.reshape(20, 96), strict=True):
        weights = np.where(missing, 0, 1 / 0.06**2)
        normal = (ways * weights) @ ways.T + np.eye(3)
        latent = np.linalg.solve(normal, (ways * weights) @ (image - offset))
        exact.append(np.where(missing, latent @ ways + offset, image))
    with vae_runtime.load(bundle) as model:
        filled = model.inpaint(images, mask)
        np.testing.assert_allclose(filled.reshape(20, 96), exact, atol=2e-3)
        # Noise adds to what is not believed; what is left of it stands against what the decoder draws.
        sigma = 0.1
        cleaned = model.denoise(images, sigma).reshape(20, 96)
    normal = ways @ ways.T / (0.06**2 + sigma**2) + np.eye(3)
    latents = np.linalg.solve(normal, ways @ (images.reshape(20, 96) - offset).T / (0.06**2 + sigma**2)).T
    made, kept = latents @ ways + offset, 0.03**2 / (0.03**2 + sigma**2)
    np.testing.assert_allclose(cleaned, made + kept * (images.reshape(20, 96) - made), atol=2e-3)


def test_seeds_draw_from_what_is_probable(tmp_path: Path, gray_bundle: Path) -> None:
    """Of a linear decoder: with the mean and the covariance that the posterior has."""
    bundle, matrix, _ = linear_decoder(gray_bundle, tmp_path, 0.03)
    image = np.random.default_rng(3).uniform(0.3, 0.7, (1, 1, *GRAY)).astype(np.float32)
    mask = some_mask(share=0.8)
    with vae_runtime.load(bundle) as model:
        drawn = model.inpaint(np.repeat(image, 6000, axis=0), mask, seed=7)[:, 0, mask].astype(np.float64)
        middle = model.inpaint(image, mask)[0, 0, mask]
    ways = matrix.astype(np.float64).reshape(3, *GRAY)
    normal = ways[:, ~mask] @ ways[:, ~mask].T / 0.06**2 + np.eye(3)
    covariance = ways[:, mask].T @ np.linalg.inv(normal) @ ways[:, mask]
    deviation = np.sqrt(np.diag(covariance))
    assert np.abs((drawn.mean(axis=0) - middle) / deviation).max() < 0.1
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.1 * deviation.max() ** 2)


def test_a_step_that_leads_astray_is_not_gone() -> None:
    """Of a decoder so crooked that its slope says little of the way."""

    def crooked(latents: Array) -> Array:
        pixels: Array = 0.5 + 0.5 * np.sin(4 * latents @ np.array([[1, 2, 3, 5]], np.float32))
        return pixels

    def nats(fit: Fit) -> Array:
        found: Array = 0.5 * (100 * np.square(fit.made - images).sum(1) + np.square(fit.latents).sum(1))
        return found

    starts = np.random.default_rng(0).standard_normal((300, 1), dtype=np.float32)
    images = crooked(np.random.default_rng(1).standard_normal((300, 1), dtype=np.float32))
    fit = Fit(crooked, starts.copy(), images, np.full_like(images, 100))
    first = before = nats(fit)
    while fit.step():
        assert (nats(fit) <= before + 1e-3).all()
        before = nats(fit)
    assert before.mean() < 0.7 * first.mean()


def test_a_seed_gives_the_same_and_another_seed_something_else(gray: Model) -> None:
    images, mask = images_for(gray, 70), some_mask()
    first = gray.inpaint(images, mask, seed=1)
    np.testing.assert_array_equal(gray.inpaint(images, mask, seed=1), first)
    np.testing.assert_allclose(gray.inpaint(images[:5], mask, seed=1), first[:5], atol=2e-3)
    assert np.abs(gray.inpaint(images, mask, seed=2) - first).max() > 0.01


def test_how_far_pixels_lie_from_what_is_drawn_is_read_off_the_card(
    tmp_path: Path, gray_bundle: Path
) -> None:
    cards: dict[str, dict[str, Any]] = {
        "told": {"likelihood": {"name": "gaussian", "noise_scale": 0.05}},
        "measured": {"quality": {"validation_psnr_db": -20 * np.log10(0.05)}},
        "wider": {"quality": {"validation_psnr_db": 3.0}},
        "nonsense": {"likelihood": {"name": "gaussian", "noise_scale": -1.0}},
        "unknown": {},
    }
    found = {}
    for name, changes in cards.items():
        with vae_runtime.load(with_cards(gray_bundle, tmp_path / name, **changes)) as model:
            found[name] = model.denoise(images_for(model, 5), 0.1)
    np.testing.assert_allclose(found["told"], found["measured"], atol=1e-5)
    np.testing.assert_array_equal(found["nonsense"], found["unknown"])
    for name in ("wider", "unknown"):
        assert np.abs(found["told"] - found[name]).max() > 0.01


# How good it is


@pytest.fixture(scope="module")
def drawn_faces() -> Iterator[Model]:
    with vae_runtime.load("drawn24") as model:
        yield model


@pytest.fixture(scope="module")
def unseen() -> Array:
    """Faces that the training of `drawn24` held out: as `vae_training.data.splitting` draws them for its seed."""
    with np.load(FACES) as arrays:
        pictures: Array = arrays["images"][HELD_OUT]
    return pictures


def psnr(images: Array, originals: Array, mask: Array | None = None) -> float:
    squares = np.square(images.astype(np.float64) - originals)
    if mask is None:
        return float(-10 * np.log10(squares.mean(axis=(1, 2, 3))).mean())
    return float(-10 * np.log10(squares[:, :, mask].mean(axis=(1, 2))).mean())


def box(top: int, left: int, height: int, width: int) -> Array:
    mask = np.zeros((24, 24), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def smooth_fill(images: Array, mask: Array) -> Array:
    """The membrane over the hole: every missing pixel the mean of its four neighbours."""
    filled = np.where(mask, 0.5, images.astype(np.float64))
    for _ in range(600):
        padded = np.pad(filled, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
        around = (
            padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
        )
        filled = np.where(mask, around / 4, images)
    return filled


HOLES = {"the middle": box(8, 8, 8, 8), "the eyes": box(6, 4, 8, 16), "the right half": box(0, 12, 24, 12)}


@pytest.mark.parametrize("mask", HOLES.values(), ids=HOLES)
def test_holes_in_faces_are_filled_better_than_by_means_and_neighbours(
    drawn_faces: Model, unseen: Array, mask: Array
) -> None:
    originals = to_float(unseen)
    filled = psnr(drawn_faces.inpaint(unseen, mask), originals, mask)
    known = np.where(mask, np.nan, originals)
    with np.load(FACES) as arrays:
        mean_face = to_float(arrays["images"][:5000]).mean(axis=0)
    baselines = {
        "the mean of what is known": np.nanmean(known, axis=(1, 2, 3), keepdims=True)
        * np.ones_like(originals),
        "the mean face": np.repeat(mean_face[None], len(originals), axis=0),
        "its neighbours": smooth_fill(originals, mask),
        "one look by the encoder": drawn_faces.reconstruct(np.where(mask, mean_face, originals)),
    }
    for name, image in baselines.items():
        assert filled > psnr(image, originals, mask) + 0.5, name


def test_half_of_a_larger_face_is_no_wild_guess() -> None:
    """Of what lies in patches the known half has the more pixels, and says no more for that."""
    with np.load(FACES) as arrays:
        pictures = arrays["images"][:8].repeat(3, axis=1).repeat(3, axis=2)[:, 4:68, 4:68]
    mask = np.arange(64) >= np.full((64, 1), 32)
    with vae_runtime.load("faces64") as model:
        filled = model.inpaint(pictures, mask)
    assert psnr(filled, to_float(pictures), mask) > 18.0


def blurred(images: Array, width: float) -> Array:
    at = np.arange(-4, 5)
    kernel = np.exp(-0.5 * (at / width) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(images, ((0, 0), (0, 0), (4, 4), (4, 4)), mode="reflect")
    rows = sum(weight * padded[..., shift : shift + 24, :] for shift, weight in enumerate(kernel))
    result: Array = sum(weight * rows[..., shift : shift + 24] for shift, weight in enumerate(kernel))
    return result


@pytest.mark.parametrize(("noise_scale", "at_least"), [(0.05, 1.0), (0.1, 4.0), (0.2, 7.0)])
def test_noise_is_taken_away_better_than_by_reconstruct_and_by_the_best_blur(
    drawn_faces: Model, unseen: Array, noise_scale: float, at_least: float
) -> None:
    originals = to_float(unseen)
    noise = noise_scale * np.random.default_rng(1).standard_normal(originals.shape)
    noisy = np.clip(originals + noise, 0, 1).astype(np.float32)
    cleaned = psnr(drawn_faces.denoise(noisy, noise_scale), originals)
    assert cleaned > psnr(noisy, originals) + at_least
    assert cleaned > psnr(drawn_faces.reconstruct(noisy), originals) + 0.5
    if noise_scale >= 0.1:  # of less, a blur of just the right width takes as much away
        assert cleaned > max(psnr(blurred(noisy, width), originals) for width in (0.4, 0.55, 0.7, 0.85, 1.0))


def test_little_noise_leaves_an_image_nearly_as_it_is_and_much_what_the_model_draws(
    drawn_faces: Model, unseen: Array
) -> None:
    originals = to_float(unseen[:20])
    assert np.abs(drawn_faces.denoise(originals, 0.001) - originals).max() < 0.002
    strong = drawn_faces.denoise(originals, 10)
    np.testing.assert_allclose(
        strong, np.repeat(drawn_faces.decode(np.zeros((1, 24))), 20, axis=0), atol=0.05
    )


# What is refused


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros(GRAY, np.uint8), r"a mask of type uint8; expected bool, True where a pixel is missing"),
        (
            np.zeros((12, 8), bool),
            r"a mask of shape \(12, 8\); expected \(8, 12\) for all images, or \(3, 8, 12\)",
        ),
        (np.zeros((2, *GRAY), bool), r"a mask of shape \(2, 8, 12\)"),
        ([[True], [True, False]], "mask: cannot be made an array"),
    ],
)
def test_what_is_no_mask_is_refused(gray: Model, mask: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        gray.inpaint(np.zeros((3, *GRAY), np.uint8), mask)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, None])
def test_steps_are_a_whole_number(gray: Model, steps: Any) -> None:
    for call in (
        lambda: gray.inpaint(gray.sample(1), some_mask(), steps=steps),
        lambda: gray.denoise(gray.sample(1), 0.1, steps=steps),
    ):
        with pytest.raises(InputError, match=r"steps is .*; expected a whole number of at least 1"):
            call()


@pytest.mark.parametrize("noise_scale", [0, -0.1, np.nan, np.inf, "much", None, [0.1]])
def test_a_noise_scale_is_a_number_above_0(gray: Model, noise_scale: Any) -> None:
    with pytest.raises(InputError, match=r"noise_scale is .*; expected the standard deviation of the noise"):
        gray.denoise(gray.sample(1), noise_scale)


def test_images_that_are_none_are_refused(gray: Model) -> None:
    images = images_for(gray, 3)
    images[1, 0, 2, 3] = np.nan
    with pytest.raises(InputError, match=r"images hold nan at index \(1, 0, 2, 3\)"):
        gray.inpaint(images, np.zeros(GRAY, bool))
    with pytest.raises(InputError, match=r"images hold nan"):
        gray.denoise(images, 0.1)
    with pytest.raises(InputError, match=r"shape \(3, 12, 8\); expected \(N, 8, 12\)"):
        gray.inpaint(np.zeros((3, 12, 8), np.uint8), some_mask())
    with pytest.raises(InputError, match="dtype float64"):
        gray.inpaint(gray.sample(1), some_mask(), dtype="float64")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="seed is -1"):
        gray.inpaint(gray.sample(1), some_mask(), seed=-1)


def test_a_closed_model_restores_nothing(gray_bundle: Path) -> None:
    model = vae_runtime.load(gray_bundle)
    images = model.sample(2, 1)
    model.close()
    for count in (0, 2):
        with pytest.raises(ClosedError):
            model.inpaint(images[:count], some_mask())
        with pytest.raises(ClosedError):
            model.denoise(images[:count], 0.1)


def test_a_model_that_makes_nan_is_told_on(tmp_path: Path, gray_bundle: Path) -> None:
    broken, _, offset = linear_decoder(gray_bundle, tmp_path, 0.05)
    data = (broken / "decoder.onnx").read_bytes()
    assert data.count(offset.tobytes()) == 1
    nan = data.replace(offset.tobytes(), np.full(96, np.nan, np.float32).tobytes())
    bundle = copy_bundle(broken, tmp_path / "nan", {"decoder.onnx": nan})
    with vae_runtime.load(bundle) as model, pytest.raises(NonFiniteError, match="the decoder produced"):
        model.inpaint(np.zeros((2, *GRAY), np.uint8), some_mask())
    with vae_runtime.load(bundle, check_finite=False) as model:
        filled = model.inpaint(np.zeros((2, *GRAY), np.uint8), some_mask())
        assert np.isnan(filled[:, 0, some_mask()]).all()
        assert (filled[:, 0, ~some_mask()] == 0).all()


def test_more_than_memory_holds_is_refused_before_it_is_tried(
    gray: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae_runtime.memory.ALWAYS_TRIED", 0)
    monkeypatch.setattr("vae_runtime.memory.memory_left", lambda: 1000)
    monkeypatch.setattr(gray._engine, "_surely_fit", 0)
    with pytest.raises(ResourceLimitError, match="images' derivatives would take"):
        gray.denoise(np.zeros((1, *GRAY), np.uint8), 0.1)
