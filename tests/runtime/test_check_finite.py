"""NaN and infinity are refused, unless who opens the model would rather have speed or sees to them himself."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251 - of our own objects, to be sure that worker processes get them
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx_bytes import copy_bundle, decoder_of, decoder_of_nan, node

import vae_runtime
from vae_runtime import InputError, Model, NonFiniteError, latent_path, to_uint8

Array = npt.NDArray[Any]

BAD = [np.nan, np.inf, -np.inf]
SPOILT = 66  # the row that is, of 70: in the second chunk


@pytest.fixture(scope="module")
def unchecked(gray_bundle: Path) -> Iterator[Model]:
    with vae_runtime.load(gray_bundle, provider="cpu", check_finite=False) as model:
        yield model


def others(array: Array) -> Array:
    return np.delete(array, SPOILT, axis=0)


def spoilt(array: Array, value: float) -> Array:
    bad = array.copy()
    bad[SPOILT].flat[1] = value
    return bad


@pytest.mark.parametrize("value", BAD)
def test_a_latent_that_is_no_number_spoils_its_own_image_alone(
    unchecked: Model, gray: Model, value: float
) -> None:
    latents = gray.sample_latents(70, seed=1)
    images = unchecked.decode(spoilt(latents, value))
    assert np.isnan(images[SPOILT]).any()
    np.testing.assert_array_equal(others(images), others(gray.decode(latents)))
    with pytest.raises(InputError, match=r"latents hold \S+ at index \(66, 1\)"):
        gray.decode(spoilt(latents, value))


@pytest.mark.parametrize("value", BAD)
def test_a_pixel_that_is_no_number_spoils_the_latent_of_its_own_image_alone(
    unchecked: Model, gray: Model, value: float
) -> None:
    images = gray.sample(70, seed=1)
    bad = spoilt(images, value)
    given, expected = unchecked.encode(bad), gray.encode(images)
    for found, right in zip(given, expected, strict=True):
        assert not np.isfinite(found[SPOILT]).all()
        np.testing.assert_array_equal(others(found), others(right))
    again = unchecked.reconstruct(bad)
    assert np.isnan(again[SPOILT]).any()
    np.testing.assert_array_equal(others(again), others(gray.reconstruct(images)))
    for call in (gray.encode, gray.reconstruct):
        with pytest.raises(InputError, match=r"images hold \S+ at index \(66, 0, 0, 1\)"):
            call(bad)


def test_pictures_are_black_where_they_are_no_numbers_and_nobody_is_warned(
    unchecked: Model, gray: Model
) -> None:
    """Warnings are errors here: numpy gives one for NaN that becomes a whole number."""
    latents = gray.sample_latents(70, seed=1)
    bad = spoilt(latents, np.nan)
    lost = np.isnan(unchecked.decode(bad)[SPOILT, 0])
    pictures = unchecked.decode(bad, dtype="uint8")
    assert lost.any()
    assert not pictures[SPOILT][lost].any()
    np.testing.assert_array_equal(others(pictures), others(gray.decode(latents, dtype="uint8")))


@pytest.mark.parametrize("channels", [1, 3])
def test_nan_becomes_0_and_infinity_the_nearest_that_a_picture_can_hold(channels: int) -> None:
    images = np.full((2, channels, 2, 2), 0.5, np.float32)
    images[1, 0] = [[np.nan, np.inf], [-np.inf, 1]]
    pictures = to_uint8(images)
    assert (pictures[0] == 128).all()
    first = pictures[1] if channels == 1 else pictures[1, ..., 0]
    np.testing.assert_array_equal(first, [[0, 255], [0, 255]])


@pytest.mark.parametrize("value", [*BAD, 0.5])
@pytest.mark.parametrize(("pixel", "said"), [(255.0, "to 255; expected"), (-1.0, "from -1 to")])
def test_pixels_that_are_numbers_must_be_in_range_still(
    unchecked: Model, value: float, pixel: float, said: str
) -> None:
    images = np.full((2, 1, 8, 12), 0.5, np.float32)
    images[0, 0, 0, :2] = value, pixel
    with pytest.raises(InputError, match=said):
        unchecked.encode(images)


@pytest.mark.parametrize("value", BAD)
def test_images_without_any_number_pass(unchecked: Model, value: float) -> None:
    assert unchecked.encode(np.full((2, 1, 8, 12), value, np.float32)).mean.shape == (2, 3)


def test_a_model_that_makes_nan_is_let_make_it(tmp_path: Path, gray_bundle: Path) -> None:
    decoder = decoder_of(
        (gray_bundle / "decoder.onnx").read_bytes(), lambda before, after: [node("Log", [before], [after])]
    )
    bundle = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})
    latents = np.array([[-1.0, 0, 0], [1.0, 0, 0]], np.float32)
    with vae_runtime.load(bundle, check_finite=False) as model:
        images = model.decode(latents)
        assert np.isnan(images[0]).all()
        assert not images[1].any()
        assert not model.decode(latents, dtype="uint8").any()
    with vae_runtime.load(bundle) as model, pytest.raises(NonFiniteError, match="produced 96 NaN"):
        model.decode(latents)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("method", ["slerp", "lerp"])
def test_a_way_that_leads_through_no_number_is_lost_there(
    unchecked: Model, value: float, method: str
) -> None:
    corners = np.array([[1.0, 0, 0], [0, 1, 0], [value, 0, 0]], np.float32)
    path = latent_path(corners, 9, method, check_finite=False)
    assert np.isfinite(path[:4]).all()
    assert not np.isfinite(path[4:]).all(axis=1).any()
    assert np.isnan(unchecked.interpolate(corners[1], corners[2], 3, method)[1]).any()
    with pytest.raises(InputError, match=r"points hold \S+ at index \(2, 0\)"):
        latent_path(corners, 9, method)


COPIES: dict[str, Callable[[Model], Model]] = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),  # noqa: S301 - our own
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_copies_look_as_closely_as_the_model_itself(
    unchecked: Model, gray: Model, duplicate: Callable[[Model], Model]
) -> None:
    bad = np.full((1, 3), np.nan, np.float32)
    assert np.isnan(duplicate(unchecked).decode(bad)).any()
    with pytest.raises(InputError, match="latents hold nan"):
        duplicate(gray).decode(bad)


@pytest.mark.parametrize(
    ("line", "given_"),
    [
        (["encode", "in.npy", "-o", "out.npy"], np.full((2, 1, 8, 12), np.nan, np.float32)),
        (["reconstruct", "in.npy", "-o", "out.npy", "--float"], np.full((2, 1, 8, 12), np.nan, np.float32)),
        (["score", "in.npy", "-o", "out.npy"], np.full((2, 1, 8, 12), np.nan, np.float32)),
        (["decode", "in.npy", "-o", "out.npy", "--float"], np.full((2, 3), np.nan, np.float32)),
        (["decode", "in.npy", "-o", "out.png"], np.full((2, 3), np.nan, np.float32)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_does_not_look_when_told_not_to(
    vae_run: Any, gray_bundle: Path, line: list[str], given_: Array
) -> None:
    np.save("in.npy", given_)
    refused = vae_run(*line, "--model", gray_bundle)
    assert (refused.code, refused.err.count("\n")) == (3, 1)
    assert " hold nan at index (0, " in refused.err
    done = vae_run(*line, "--model", gray_bundle, "--provider", "cpu", "--no-check-finite")
    assert (done.code, done.err.count("\n")) == (0, 1), done.err
    if line[3].endswith(".npy"):
        assert np.isnan(np.load("out.npy")).any()


@pytest.mark.parametrize("line", [["sample", "-n", "2"], ["interpolate", "1", "2"]])
def test_a_command_lets_a_model_make_nan_when_told_so(
    vae_run: Any, tmp_path: Path, gray_bundle: Path, line: list[str]
) -> None:
    decoder = decoder_of_nan((gray_bundle / "decoder.onnx").read_bytes())
    bundle = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})
    command = (*line, "--model", bundle, "-o", "a.npy", "--float")
    assert vae_run(*command).code == 5
    assert vae_run(*command, "--no-check-finite").code == 0
    assert np.isnan(np.load("a.npy")).all()
