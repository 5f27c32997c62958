"""The figures of a lower precision are what they are said to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch

from vae_export import calibration
from vae_export.fidelity import ROWS, measure_fidelity
from vae_export.parity import BATCH_SIZES
from vae_runtime.latent import noise
from vae_training.config import ModelConfig
from vae_training.model import VAE

Array = npt.NDArray[np.float32]
PICTURES = np.random.default_rng(3).integers(0, 256, (10, 8, 8), np.uint8)


class Posterior(NamedTuple):
    """What a model's `encode` returns."""

    mean: Array
    logvar: Array


class Off:
    """Computes what the reference computes, and is off by known amounts."""

    def __init__(self, reference: VAE) -> None:
        self.reference = reference
        self.latents: list[Array] = []

    def sample_latents(self, n: int, seed: int) -> Array:
        return noise(n, self.reference.config.latent_size, seed)

    @torch.no_grad()
    def encode(self, images: Array) -> Posterior:
        mean, logvar = (output.numpy().copy() for output in self.reference.encoder(torch.from_numpy(images)))
        mean[3, 1] += 0.5
        return Posterior(mean, logvar - np.float32(0.25))

    @torch.no_grad()
    def decode(self, latents: Array) -> Array:
        self.latents.append(latents)
        images = self.reference.decoder(torch.from_numpy(latents)).numpy().copy()
        images += np.float32(0.01)
        images[7] += np.float32(0.09)
        return images


def test_the_figures_are_those_of_the_errors_that_are_there(make_vae: Callable[..., VAE]) -> None:
    model = make_vae(ModelConfig(8, 8, 1, (3, 5), 2))
    off = Off(model)
    figures = measure_fidelity(model, off, PICTURES)  # type: ignore[arg-type]
    assert figures == {
        "psnr_db": pytest.approx((40.0 * (ROWS - 1) + 20.0) / ROWS, abs=0.01),
        "lowest_psnr_db": pytest.approx(20.0, abs=0.01),
        "mean_largest": pytest.approx(0.5, rel=1e-3),
        "mean_average": pytest.approx(0.5 / 20, rel=1e-3),
        "logvar_largest": pytest.approx(0.25, rel=1e-3),
        "logvar_average": pytest.approx(0.25, rel=1e-3),
    }
    (latents,) = off.latents
    assert latents.shape == (256, 2)
    assert np.abs(latents.std() - 1) < 0.1


def test_what_is_off_in_the_prior_counts(make_vae: Callable[..., VAE]) -> None:
    model = make_vae(ModelConfig(8, 8, 1, (3, 5), 2))
    prior = torch.nn.Linear(2, 2).requires_grad_(requires_grad=False)

    class Moved(Off):
        """Off in its prior, and the more the further from the middle."""

        def sample_latents(self, n: int, seed: int) -> Array:
            latents: Array = prior(torch.from_numpy(super().sample_latents(n, seed))).numpy()
            return np.float32(1.5) * latents

        def decode(self, latents: Array) -> Array:
            self.latents.append(latents)
            images: Array = self.reference.decoder(torch.from_numpy(latents)).numpy()
            return images

    moved = Moved(model)
    figures = measure_fidelity(model, moved, PICTURES, prior)  # type: ignore[arg-type]
    (latents,) = moved.latents
    gaps = model.decoder(torch.from_numpy(latents)) - model.decoder(
        torch.from_numpy(latents / np.float32(1.5))
    )
    ratios = -10 * gaps.square().mean((1, 2, 3)).log10()
    assert figures["psnr_db"] == pytest.approx(float(ratios.mean()), rel=1e-3)
    assert figures["lowest_psnr_db"] == pytest.approx(float(ratios.min()), rel=1e-3)


def test_it_is_measured_on_other_latents_than_the_ranges_and_the_proof(make_vae: Callable[..., VAE]) -> None:
    model = make_vae(ModelConfig(8, 8, 1, (3, 5), 2))
    off = Off(model)
    measure_fidelity(model, off, PICTURES)  # type: ignore[arg-type]
    calibrated = {row.tobytes() for row in calibration.calibration_inputs(model, PICTURES)["decoder"]}
    assert not calibrated & {row.tobytes() for row in off.latents[0]}
    assert ROWS not in BATCH_SIZES
