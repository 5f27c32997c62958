"""The figures of the card."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vae_runtime
from vae_export.bundle import Report
from vae_export.quality import mean_psnr, measure_quality
from vae_export.source import Source


@given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from([1, 3]))
def test_psnr_is_ten_log_ten_of_one_over_the_mean_squared_error(seed: int, count: int, channels: int) -> None:
    a, b = np.random.default_rng(seed).random((2, count, channels, 4, 8), dtype=np.float32)
    expected = 0.0
    for x, y in zip(a, b, strict=True):
        squares = [(float(p) - float(q)) ** 2 for p, q in zip(x.ravel(), y.ravel(), strict=True)]
        expected += 10 * math.log10(1 / (sum(squares) / len(squares))) / count
    assert mean_psnr(a, b) == pytest.approx(expected, rel=1e-9)


def test_an_error_of_a_tenth_everywhere_is_twenty_decibels() -> None:
    assert mean_psnr(
        np.zeros((2, 1, 4, 4), np.float32), np.full((2, 1, 4, 4), 0.1, np.float32)
    ) == pytest.approx(20)


def test_equal_images_count_as_a_hundred_decibels() -> None:
    assert mean_psnr(np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 4, 4), np.float32)) == pytest.approx(
        100
    )


def test_the_figures_are_the_last_validation_losses_and_the_psnr(
    source: Source, exported: Report, make_images: Any
) -> None:
    pictures = make_images().images[..., 0]
    with vae_runtime.load(exported.path, provider="cpu") as model:
        quality = measure_quality(source, model, pictures)
        found = model.reconstruct(pictures)
    mse = np.square(found[:, 0] - pictures / 255.0).mean(axis=(1, 2))
    assert quality.pop("validation_psnr_db") == pytest.approx(np.mean(10 * np.log10(1 / mse)), abs=1e-3)
    assert quality == {
        name: pytest.approx(source.metrics[name], abs=1e-4)
        for name in ("validation_loss", "validation_reconstruction", "validation_kl")
    }


def test_without_held_out_images_only_what_the_run_measured_is_told(source: Source, exported: Report) -> None:
    with vae_runtime.load(exported.path, provider="cpu") as model:
        quality = measure_quality(source, model, np.zeros((0, 8, 8), np.uint8))
    assert set(quality) == {"validation_loss", "validation_reconstruction", "validation_kl"}
