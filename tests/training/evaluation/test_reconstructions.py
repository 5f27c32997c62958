"""PSNR and SSIM, against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest

from vae_training.evaluation import reconstructions
from vae_training.evaluation.reconstructions import measure_nearness


@pytest.mark.parametrize(("side", "channels", "sigma"), [(24, 1, 1.5), (24, 3, 1.5), (8, 1, 0.8)])
def test_both_are_what_scikit_image_finds(side: int, channels: int, sigma: float) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    draws = np.random.default_rng(0)
    images = draws.uniform(0, 1, (4, channels, side, side)).astype(np.float32)
    others = np.clip(images + draws.normal(0, 0.1, images.shape), 0, 1).astype(np.float32)
    nearness = measure_nearness(images, others)
    similar = [
        metrics.structural_similarity(
            image, other, channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=sigma,
            use_sample_covariance=False,
        )
        for image, other in zip(images.astype(float), others.astype(float), strict=True)
    ]  # fmt: skip
    ratios = [
        metrics.peak_signal_noise_ratio(image, other, data_range=1.0)
        for image, other in zip(images, others, strict=True)
    ]
    assert nearness.ssim == pytest.approx(np.mean(similar), abs=1e-5)
    assert nearness.psnr == pytest.approx(np.mean(ratios), abs=1e-4)


def test_equal_images_have_similarity_one_and_a_finite_ratio() -> None:
    images = np.random.default_rng(0).uniform(0, 1, (3, 1, 16, 12)).astype(np.float32)
    nearness = measure_nearness(images, images)
    assert (nearness.psnr, nearness.ssim) == (100.0, pytest.approx(1.0))


def test_one_equal_image_among_others_does_not_drown_them() -> None:
    images = np.zeros((2, 1, 8, 8), np.float32)
    others = images.copy()
    others[1] += 0.1  # 20 dB
    assert measure_nearness(images, others).psnr == pytest.approx(60.0, abs=1e-3)


def test_images_are_compared_a_few_at_a_time_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.random.default_rng(0)
    images = draws.uniform(0, 1, (7, 3, 16, 12)).astype(np.float32)
    others = np.clip(images + draws.normal(0, 0.1, images.shape), 0, 1).astype(np.float32)
    whole, largest = measure_nearness(images, others), []
    of_each = reconstructions._of_each
    monkeypatch.setattr(reconstructions, "_AT_ONCE", 2 * images[0].size + 1)
    monkeypatch.setattr(
        reconstructions, "_of_each", lambda *pair: largest.append(len(pair[0])) or of_each(*pair)
    )
    assert measure_nearness(images, others) == pytest.approx(whole)
    assert largest == [2, 2, 2, 1]
