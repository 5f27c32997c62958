"""The proof: what it compares, and that it fails where it has to."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from processes import ROOT

import vae_runtime
from vae_export.bundle import Report
from vae_export.errors import ParityError
from vae_export.parity import BATCH_SIZES, TOLERANCES, Difference, Tolerances, compare, require_parity
from vae_export.source import Source
from vae_training.config import ModelConfig
from vae_training.data import ImageSet
from vae_training.model import VAE

Array = npt.NDArray[np.float32]
Vae = Callable[..., VAE]

PICTURES = np.random.default_rng(3).integers(0, 256, (10, 8, 8), np.uint8)


class Posterior(NamedTuple):
    """What a model's `encode` returns."""

    mean: Array
    logvar: Array


class Echo:
    """Computes with PyTorch what the reference computes, notes what it was asked, and lies on request."""

    def __init__(self, reference: VAE, lie: Callable[[str, Array], Array] = lambda _, x: x) -> None:
        self.reference = reference
        self.lie = lie
        self.encoded: list[Array] = []
        self.decoded: list[Array] = []
        self.reconstructed: list[Array] = []

    @torch.no_grad()
    def encode(self, images: Array) -> Posterior:
        self.encoded.append(images)
        mean, logvar = self.reference.encoder(torch.from_numpy(images))
        return Posterior(self.lie("mean", mean.numpy()), self.lie("logvar", logvar.numpy()))

    @torch.no_grad()
    def decode(self, latents: Array) -> Array:
        self.decoded.append(latents)
        return self.lie("image", self.reference.decoder(torch.from_numpy(latents)).numpy())

    @torch.no_grad()
    def reconstruct(self, images: Array) -> Array:
        self.reconstructed.append(images)
        mean, _ = self.reference.encoder(torch.from_numpy(images))
        return self.lie("both", self.reference.decoder(mean).numpy())


def measure(model: Any, reference: VAE, tolerances: Tolerances | None = None) -> list[Difference]:
    return compare(reference, model, PICTURES, tolerances or Tolerances())


@pytest.fixture
def reference(make_vae: Vae) -> VAE:
    return make_vae(ModelConfig(8, 8, 1, (3, 5), 2))


def test_the_limits_are_those_of_the_readme() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    *others, last = BATCH_SIZES
    assert f"at batch sizes {', '.join(map(str, others))} and {last}." in text
    promised = dict(re.findall(r"\| `(\w+)` \| ([^|]+) a mean or log-variance \|", text))
    assert promised.keys() == TOLERANCES.keys()
    for precision, limits in TOLERANCES.items():
        pictures, latents = re.findall(r"\d[\d.e-]*", promised[precision])
        assert float(pictures) == (limits.image if limits.psnr is None else limits.psnr)
        assert float(latents) == limits.latent
    assert Tolerances() == TOLERANCES["fp32"]


def test_a_written_bundle_is_within_the_limits(exported: Report, source: Source, make_images: Any) -> None:
    images: ImageSet = make_images()
    with vae_runtime.load(exported.path, provider="cpu") as model:
        differences = compare(source.model, model, images.images[..., 0], Tolerances())
    require_parity(differences)
    assert [(row.output, row.inputs) for row in differences] == [
        ("mean", "images"),
        ("logvar", "images"),
        ("image", "latents of the prior"),
        ("image", "latents of its tails"),
        ("image", "images, through both"),
    ]
    assert [row.limit for row in differences] == [1e-4, 1e-4, 1e-5, 1e-5, 1e-5]
    assert all(0 <= row.mean <= row.maximum <= row.limit for row in differences)
    assert differences == list(exported.differences)


def test_every_batch_size_is_compared_in_every_way(reference: VAE) -> None:
    echo = Echo(reference)
    assert all(row.maximum == 0.0 for row in measure(echo, reference))
    for asked in (echo.encoded, echo.decoded, echo.reconstructed):
        assert {len(batch) for batch in asked} == {1, 2, 7, 64}
    assert sorted(len(batch) for batch in echo.decoded) == [1, 1, 2, 2, 7, 7, 64, 64]


def test_the_images_are_real_ones_in_zero_to_one_repeated_where_there_are_few(reference: VAE) -> None:
    echo = Echo(reference)
    measure(echo, reference)
    known = {(picture / np.float32(255)).astype(np.float32).tobytes() for picture in PICTURES}
    for batch in echo.encoded + echo.reconstructed:
        assert (batch.dtype, batch.shape[1:]) == (np.dtype(np.float32), (1, 8, 8))
        assert {image.tobytes() for image in batch} <= known
    largest = max(echo.encoded, key=len)
    assert {image.tobytes() for image in largest} == known


def test_latents_come_from_the_prior_and_from_far_out_in_its_tails(reference: VAE) -> None:
    echo = Echo(reference)
    measure(echo, reference)
    near = np.concatenate([batch.ravel() for batch in echo.decoded if np.abs(batch).min() < 6])
    far = np.concatenate([batch.ravel() for batch in echo.decoded if np.abs(batch).min() >= 6])
    assert near.size == far.size == 2 * sum(BATCH_SIZES)
    assert abs(near.mean()) < 0.3
    assert 0.8 < near.std() < 1.2
    assert (far > 6).any()
    assert (far < -6).any()


def test_the_same_comparison_is_made_every_time(reference: VAE) -> None:
    first, second = Echo(reference), Echo(reference)
    measure(first, reference)
    torch.manual_seed(99)
    measure(second, reference)
    for a, b in zip(first.encoded + first.decoded, second.encoded + second.decoded, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("output", "size", "row"),
    [
        ("mean", 2e-4, "mean on images"),
        ("logvar", 2e-4, "logvar on images"),
        ("image", 2e-5, "image on latents of the prior"),
        ("both", 2e-5, "image on images, through both"),
    ],
)
@pytest.mark.parametrize("batch", BATCH_SIZES)
def test_a_single_number_that_is_off_fails_and_the_worst_case_is_told(
    reference: VAE, output: str, size: float, row: str, batch: int
) -> None:
    def lie(what: str, values: Array) -> Array:
        if what == output and len(values) == batch:
            values = values.copy()
            values.flat[-1] += size
        return values

    differences = measure(Echo(reference, lie), reference)
    with pytest.raises(ParityError) as failed:
        require_parity(differences)
    assert failed.value.exit_code == 5
    message = str(failed.value)
    assert f"PyTorch and the ONNX graphs disagree: {row} differs by " in message
    assert f"at batch size {batch}; expected at most {size / 2:g}. Nothing was written" in message
    assert sum(not difference.passed for difference in differences) == (2 if output == "image" else 1)


def test_a_difference_within_the_limit_is_let_through_and_told(reference: VAE) -> None:
    differences = measure(Echo(reference, lambda _, x: x + np.float32(5e-6)), reference)
    require_parity(differences)
    for row in differences:
        assert row.maximum == pytest.approx(5e-6, rel=0.2)
        assert row.mean == pytest.approx(5e-6, rel=0.2)


@pytest.mark.parametrize("what", ["mean", "logvar", "image", "both"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_nan_and_infinity_fail_even_beside_a_larger_difference(
    reference: VAE, what: str, number: float
) -> None:
    def lie(output: str, values: Array) -> Array:
        values = values + np.float32(1.0)
        if output == what and len(values) == 7:
            values.flat[3] = number
        return values

    differences = measure(Echo(reference, lie), reference)
    worst = next(row for row in differences if not np.isfinite(row.maximum))
    assert not worst.passed
    assert worst.worst_batch == 7
    with pytest.raises(ParityError, match="nan" if np.isnan(number) else "inf"):
        require_parity(differences)


def test_wider_tolerances_let_more_through(reference: VAE) -> None:
    echo = Echo(reference, lambda _, x: x + np.float32(0.01))
    require_parity(measure(echo, reference, Tolerances(image=0.02, latent=0.02)))
    with pytest.raises(ParityError):
        require_parity(measure(echo, reference, Tolerances(image=0.02, latent=0.005)))


def test_the_worst_is_the_one_furthest_beyond_its_own_limit() -> None:
    rows = [
        Difference("mean", "images", 2e-4, 0.0, 1e-4, 1),
        Difference("image", "latents of the prior", 9e-5, 0.0, 1e-5, 64),
        Difference("logvar", "images", 5e-5, 0.0, 1e-4, 7),
    ]
    with pytest.raises(ParityError, match="image on latents of the prior differs by 9e-05 at batch size 64"):
        require_parity(rows)


@pytest.mark.parametrize("part", ["encoder.fc_mu.bias", "encoder.conv2.weight", "decoder.trans_conv1.weight"])
def test_a_bundle_is_not_taken_for_that_of_slightly_other_weights(
    exported: Report, source: Source, make_vae: Vae, make_images: Any, part: str
) -> None:
    other = make_vae(source.model.config)
    other.load_state_dict(source.model.state_dict())
    other.state_dict()[part].view(-1)[0] += 0.01
    with vae_runtime.load(exported.path, provider="cpu") as model:
        differences = compare(other, model, make_images().images[..., 0], Tolerances())
    with pytest.raises(ParityError):
        require_parity(differences)
