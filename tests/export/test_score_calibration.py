"""What the card says of scores is what held-out images score, and scores are what PyTorch says they are."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor
from torch.distributions import Normal, kl_divergence

import vae_runtime
from vae_export.bundle import Report, Settings, export_bundle
from vae_export.score_calibration import FEWEST, PERCENTAGES, calibrate_scores
from vae_export.source import Source
from vae_export.sources import load_source
from vae_runtime import Likelihood, NonFiniteError
from vae_training.data import ImageSet, split
from vae_training.likelihood import discretized_logistic_nll, gaussian_nll

Images = Callable[..., ImageSet]

SETTINGS = Settings(17, "made")
SCALE = 0.2


def bernoulli(mean: Tensor, image: Tensor) -> Tensor:
    return F.binary_cross_entropy(mean, image, reduction="none").flatten(1).sum(1)


def gaussian(mean: Tensor, image: Tensor) -> Tensor:
    return gaussian_nll((mean - image).square().flatten(1), torch.tensor(math.log(SCALE)))


def discretized_logistic(mean: Tensor, image: Tensor) -> Tensor:
    return discretized_logistic_nll(mean, image, torch.tensor(math.log(SCALE * math.sqrt(3) / math.pi)))


NLLS = {"bernoulli": bernoulli, "gaussian": gaussian, "discretized-logistic": discretized_logistic}


def held_out(source: Source, images: ImageSet) -> npt.NDArray[np.uint8]:
    assert source.config is not None
    return images.images[split(images, source.config.data.validation, source.config.training.seed)[1]][..., 0]


@pytest.mark.parametrize("name", NLLS)
@torch.no_grad()
def test_scores_are_those_of_pytorch(source: Source, make_images: Images, tmp_path: Path, name: str) -> None:
    scale = None if name == "bernoulli" else SCALE
    report = export_bundle(
        dataclasses.replace(source, likelihood=Likelihood(name, scale)),
        make_images(),
        tmp_path / "b",
        SETTINGS,
    )
    pictures = make_images(70).images[..., 0]
    image = torch.from_numpy(pictures[:, None] / np.float32(255))
    mean, logvar = source.model.encoder(image)
    deviation = torch.exp(0.5 * logvar)
    kl = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum(1)
    points = [mean + deviation * torch.from_numpy(eps) for eps in vae_runtime.noise(3, 2, seed=5)]
    nll = torch.stack([NLLS[name](source.model.decoder(point), image) for point in points]).mean(0)

    with vae_runtime.load(report.path, provider="cpu") as model:
        score = model.score(pictures, samples=3, seed=5)
    for found, expected in zip(score, (nll + kl, nll, kl), strict=True):
        np.testing.assert_allclose(found, expected.numpy(), rtol=2e-5, atol=1e-4)


def test_the_mean_score_of_held_out_images_is_the_loss_that_training_measured(
    source: Source, exported: Report, make_images: Images
) -> None:
    with vae_runtime.load(exported.path, provider="cpu") as model:
        score = model.score(held_out(source, make_images()), samples=100)
    assert score.kl.mean() == pytest.approx(source.metrics["validation_kl"], rel=1e-4)
    # That of training is of one point of each posterior.
    assert score.reconstruction.mean() == pytest.approx(source.metrics["validation_reconstruction"], rel=0.02)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_card_tells_the_quantiles_of_what_its_own_graphs_score(
    source: Source, make_images: Images, tmp_path: Path, precision: str
) -> None:
    settings = dataclasses.replace(SETTINGS, precision=precision)
    report = export_bundle(source, make_images(), tmp_path / "b", settings)
    pictures = held_out(source, make_images())
    with vae_runtime.load(report.path, provider="cpu") as model:
        scores, totals = model.card.scores, model.score(pictures).total
        percentiles = model.percentiles(totals)
    assert scores is not None
    assert (scores.images, scores.samples, scores.seed) == (len(pictures), 1, 0)
    assert scores.percentages == PERCENTAGES
    np.testing.assert_allclose(scores.quantiles, np.percentile(totals, PERCENTAGES), atol=1e-3)
    assert (percentiles.min(), percentiles.max()) == pytest.approx((0, 100), abs=0.1)
    assert report.card.scores == scores
    assert f"of {len(pictures)} held-out images half score below" in (report.path / "README.md").read_text()


def test_images_that_the_model_may_have_been_trained_on_calibrate_nothing(
    source: Source, make_images: Images, tmp_path: Path
) -> None:
    report = export_bundle(source, make_images(47), tmp_path / "b", SETTINGS)
    assert report.card.scores is None
    assert "held-out images half" not in (report.path / "README.md").read_text()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_bundle_made_from_a_bundle_keeps_what_holds_for_its_graphs_too(
    exported: Report, make_images: Images, tmp_path: Path, precision: str
) -> None:
    settings = dataclasses.replace(SETTINGS, precision=precision)
    made = export_bundle(load_source(exported.path), make_images(), tmp_path / "made", settings)
    assert exported.card.scores is not None
    assert made.card.scores == (exported.card.scores if precision == "fp32" else None)


def test_of_few_images_percentiles_would_say_nothing(exported: Report, make_images: Images) -> None:
    pictures = make_images(FEWEST).images[..., 0]
    with vae_runtime.load(exported.path, provider="cpu") as model:
        assert calibrate_scores(model, pictures[:-1]) is None
        assert calibrate_scores(model, pictures) is not None


def test_a_model_that_cannot_score_is_written_without_calibration(
    source: Source, make_images: Images, tmp_path: Path
) -> None:
    """With posteriors that are too wide for float32, which takes nothing from what it samples."""
    wide = copy.deepcopy(source.model)
    wide.encoder.fc_logvar.bias.fill_(256.0)
    report = export_bundle(dataclasses.replace(source, model=wide), make_images(), tmp_path / "b", SETTINGS)
    assert report.card.scores is None
    with (
        vae_runtime.load(report.path, provider="cpu") as model,
        pytest.raises(NonFiniteError, match="log-variances of up to 25"),
    ):
        model.score(make_images().images[..., 0])
