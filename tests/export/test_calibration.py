"""What ranges are found with: the model's own latents, prior and posterior, and real images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vae_export import calibration, parity
from vae_export.calibration import calibration_inputs
from vae_export.errors import PrecisionError
from vae_training.config import ModelConfig
from vae_training.model import VAE

CONFIG = ModelConfig(8, 12, 1, (3, 5), 2)
PICTURES = np.random.default_rng(1).integers(0, 256, (2000, 8, 12), np.uint8)


@pytest.fixture
def model(make_vae: Callable[..., VAE]) -> VAE:
    return make_vae(CONFIG)


def test_images_are_real_ones_spread_over_the_set_each_once(model: VAE) -> None:
    images = calibration_inputs(model, PICTURES)["encoder"]
    assert (images.dtype, images.shape) == (np.float32, (1024, 1, 8, 12))
    position = {(picture / np.float32(255)).tobytes(): number for number, picture in enumerate(PICTURES)}
    places = [position[image.tobytes()] for image in images]
    assert (places[0], places[-1]) == (0, 1999)
    assert set(np.diff(places)) == {1, 2}


@torch.no_grad()
def test_latents_are_half_of_the_prior_half_of_the_posteriors_of_these_images(model: VAE) -> None:
    model.encoder.fc_mu.get_parameter("bias").copy_(torch.tensor([10.0, -20.0]))
    model.encoder.fc_logvar.get_parameter("bias").copy_(torch.tensor([2 * np.log(3.0), 2 * np.log(0.5)]))
    inputs = calibration_inputs(model, PICTURES)
    prior, posterior = np.split(inputs["decoder"], 2)
    assert (prior.dtype, prior.shape) == (np.float32, (1024, 2))
    assert np.abs(prior.mean(axis=0)).max() < 0.15
    assert np.abs(prior.std(axis=0) - 1).max() < 0.1
    mean, logvar = (output.numpy() for output in model.encoder(torch.from_numpy(inputs["encoder"])))
    drawn = (posterior - mean) / np.exp(logvar / 2)
    assert np.abs(posterior.mean(axis=0) - mean.mean(axis=0)).max() < 0.4
    assert np.abs(drawn.std(axis=0) - 1).max() < 0.1
    assert np.abs(np.corrcoef(drawn.T, prior.T) - np.eye(4)).max() < 0.15


def test_the_same_model_is_always_calibrated_with_the_same_and_proven_with_other_latents(model: VAE) -> None:
    first = calibration_inputs(model, PICTURES)
    torch.manual_seed(77)
    second = calibration_inputs(model, PICTURES)
    for role, values in first.items():
        np.testing.assert_array_equal(values, second[role])
    assert calibration._SEED not in {parity._SEED + size for size in parity.BATCH_SIZES}


def test_a_few_pictures_are_enough_and_large_ones_are_fewer(
    model: VAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = calibration_inputs(model, PICTURES[:3])
    assert (len(few["encoder"]), len(few["decoder"])) == (3, 1024 + 3)
    monkeypatch.setattr(calibration, "_MOST_PIXELS", 96 * 40)
    assert len(calibration_inputs(model, PICTURES)["encoder"]) == 40
    monkeypatch.setattr(calibration, "_MOST_PIXELS", 96)
    assert len(calibration_inputs(model, PICTURES)["encoder"]) == 16


@pytest.mark.parametrize(("layer", "bias"), [("fc_logvar", 200.0), ("fc_mu", np.inf)])
def test_posteriors_beyond_float32_are_refused(model: VAE, layer: str, bias: float) -> None:
    model.encoder.get_parameter(f"{layer}.bias").fill_(bias)
    with pytest.raises(PrecisionError, match=r"latents beyond float32.*export with --precision fp32"):
        calibration_inputs(model, PICTURES)
