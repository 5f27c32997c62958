"""Arguments that make no sense: every public call refuses them in one short line, and does nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime
from vae_runtime import InputError, Model, ResourceLimitError, errors


class Unspeakable:
    """Has no text of its own."""

    def __repr__(self) -> str:
        raise ValueError("no")


WHOLE_NUMBERS: dict[str, Callable[[Model, Any], object]] = {
    "n": lambda model, bad: model.sample(bad),
    "n of a stream": lambda model, bad: model.sample_stream(bad, batch=0),
    "batch": lambda model, bad: model.sample_stream(3, batch=bad),
    "seed": lambda model, bad: model.sample(1, seed=bad),
    "steps": lambda model, bad: model.latent_path(np.eye(3), bad),
    "steps of a path": lambda _, bad: vae_runtime.latent_path(np.eye(3), bad),
    "steps of inpainting": lambda model, bad: model.inpaint(
        model.sample(1), np.ones((8, 12), bool), steps=bad
    ),
    "samples": lambda model, bad: model.score(model.sample(1), samples=bad),
    "points of noise": lambda _, bad: vae_runtime.noise(bad, 3),
    "size of noise": lambda _, bad: vae_runtime.noise(3, bad),
    "rows": lambda model, bad: vae_runtime.grid(model.sample(1), rows=bad),
    "padding": lambda model, bad: vae_runtime.grid(model.sample(1), padding=bad),
    "threads": lambda model, bad: vae_runtime.load(model.bundle, threads=bad),
    "max_model_bytes": lambda model, bad: vae_runtime.load(model.bundle, max_model_bytes=bad),
}
OTHERS: dict[str, Callable[[Model, Any], object]] = {
    "temperature": lambda model, bad: model.sample(1, temperature=bad),
    "strength": lambda model, bad: model.edit(model.sample(1), np.ones(3), bad),
    "noise_scale": lambda model, bad: model.denoise(model.sample(1), bad),
    "method": lambda _, bad: vae_runtime.latent_path(np.eye(3), 5, bad),
    "dtype": lambda model, bad: model.sample(1, dtype=bad),
    "provider": lambda model, bad: vae_runtime.load(model.bundle, provider=bad),
    "expect_sha256": lambda model, bad: vae_runtime.load(model.bundle, expect_sha256=bad),
    "points": lambda model, bad: model.latent_path(bad, 5),
    "fraction": lambda _, bad: vae_runtime.slerp([1.0, 2.0], [2.0, 1.0], bad),
    "end": lambda _, bad: vae_runtime.lerp(bad, [2.0, 1.0], 0.5),
    "images": lambda model, bad: model.encode(bad),
    "images to round": lambda _, bad: vae_runtime.to_uint8(bad),
    "pictures": lambda _, bad: vae_runtime.to_float(bad),
}
BAD = {
    "digits without end": -(10**5000),
    "a word without end": "x" * 5000,
    "a long list": [-1] * 5000,
    "an array": np.full((40, 3), -1.0)[None],
    "what has no text": Unspeakable(),
}


@pytest.fixture
def model(gray: Model, gray_bundle: Path) -> Model:
    gray.bundle = gray_bundle  # type: ignore[attr-defined]  # for calls that open it again
    return gray


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("call", [*WHOLE_NUMBERS.values(), *OTHERS.values()], ids=[*WHOLE_NUMBERS, *OTHERS])
def test_what_makes_no_sense_is_refused_in_one_short_line(
    model: Model, call: Callable[[Model, Any], object], bad: object
) -> None:
    with pytest.raises(InputError) as refused:
        call(model, bad)
    said = str(refused.value)
    assert len(said) < 400
    assert "\n" not in said
    assert "expected" in said or "cannot be made an array" in said


@pytest.mark.parametrize("huge", [10**5000, 10**19, np.int64(2**62), np.uint64(2**63)], ids=lambda n: f"{n:.0e}"
                         if n < 10**300 else "more digits than Python prints")  # fmt: skip
@pytest.mark.parametrize(
    "name",
    ["n", "steps", "steps of a path", "samples", "points of noise", "size of noise", "batch", "padding"],
)
def test_more_than_any_memory_holds_is_refused_whatever_kind_of_number_says_it(
    model: Model, name: str, huge: int
) -> None:
    with pytest.raises((ResourceLimitError, InputError), match=r"not enough memory|a sheet of") as refused:
        WHOLE_NUMBERS[name](model, huge)
    assert len(str(refused.value)) < 400


def test_small_numbers_of_numpy_do_not_overflow(model: Model) -> None:
    pictures = np.arange(250, dtype=np.uint8)[:, None, None] * np.ones((2, 30), np.uint8)
    sheet = vae_runtime.grid(pictures, rows=np.uint8(50), columns=np.uint8(20), padding=np.uint8(1))
    np.testing.assert_array_equal(sheet, vae_runtime.grid(pictures, rows=50, columns=20, padding=1))
    np.testing.assert_array_equal(
        model.sample(2, seed=1, temperature=np.float16(0.5)), model.sample(2, seed=1, temperature=0.5)
    )
    with vae_runtime.load(model.bundle, threads=np.int64(2)) as same:  # type: ignore[attr-defined]
        np.testing.assert_array_equal(same.sample(200, seed=1), model.sample(200, seed=1))


def test_more_threads_than_anybody_has_take_no_memory_and_no_time(model: Model) -> None:
    with vae_runtime.load(model.bundle, threads=10**15) as many:  # type: ignore[attr-defined]
        np.testing.assert_array_equal(next(many.sample_stream(300, seed=1)), model.sample(300, seed=1))


def test_streams_take_for_one_array_whatever_lays_its_numbers_open(model: Model) -> None:
    class Picture:  # as Pillow has it
        def __init__(self, array: Any) -> None:
            self.__array_interface__ = array.__array_interface__

    pictures = model.sample(5, seed=1, dtype="uint8")
    for given in (memoryview(pictures), Picture(pictures)):
        (posterior,) = model.encode_stream(given)  # type: ignore[arg-type]
        np.testing.assert_array_equal(posterior.mean, model.encode(pictures).mean)


def test_images_are_no_pictures_and_pictures_are_no_images(model: Model) -> None:
    images, pictures = model.sample(2, seed=1), model.sample(2, seed=1, dtype="uint8")
    with pytest.raises(
        InputError, match=r"uint8 of shape \(2, 8, 12\) given; expected images \(N, C, H, W\)"
    ):
        vae_runtime.to_uint8(pictures)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"float32 of shape \(2, 1, 8, 12\) given; expected pictures"):
        vae_runtime.to_float(images)  # type: ignore[arg-type]


def test_what_is_missing_of_a_masked_array_is_not_taken_for_pixels(model: Model) -> None:
    images = model.sample(2, seed=1)
    whole = np.ma.masked_array(images, np.zeros(images.shape, bool))
    np.testing.assert_array_equal(model.encode(whole).mean, model.encode(images).mean)
    whole[0, 0, 0, 0] = np.ma.masked
    for call in (model.encode, model.score, lambda given: next(model.encode_stream(given))):
        with pytest.raises(InputError, match=r"a masked array with numbers missing; .*\.filled\(0\)"):
            call(whole)


class Tensor:
    """As PyTorch has one that takes gradients."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise RuntimeError(
            "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
        )


def test_what_refuses_to_be_an_array_says_why(model: Model) -> None:
    for call in (model.encode, model.decode, model.encode_stream, model.decode_stream, vae_runtime.grid):
        with pytest.raises(
            InputError, match=r"cannot be made an array \(.* Use tensor\.detach\(\)\.numpy\(\)"
        ):
            call(Tensor())  # type: ignore[operator]


def test_a_value_is_shown_on_one_line_and_cut_short() -> None:
    assert errors.shown("a") == "'a'"
    assert errors.shown("x" * 98) == f"'{'x' * 98}'"
    assert errors.shown("x" * 99) == f"'{'x' * 99}..."
    assert errors.shown(np.zeros((2, 2))) == "array([[0., 0.],        [0., 0.]])"
    assert errors.shown(10**5000) == "<int>"
    assert errors.shown(Unspeakable()) == "<Unspeakable>"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (f"'{'1' * 5000}' is no number", f"'{'1' * 100}...' is no number"),
        (f"/{'a' * 255}/{'b' * 255}: gone", f"/{'a' * 255}/{'b' * 255}: gone"),
        (f"/a/{'b' * 256}/c: gone", f"/a/{'b' * 100}.../c: gone"),
        ("1 " * 5000 + "is no number", "1 " * 1500 + "..." + "1 " * 1494 + "is no number"),
    ],
)
def test_of_a_message_without_end_both_ends_are_told(message: str, said: str) -> None:
    assert errors.shortened(message) == said
