"""A mixture draws what it is, its density is that of its components, and a fit finds mixtures that are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture as Reference
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from two_heaps import two_heaps

from vae_training.checkpoint import newest_checkpoint, prior_from_weights
from vae_training.config import Config, ModelConfig
from vae_training.data import ImageSet
from vae_training.errors import CheckpointError, ConfigError, DivergedError
from vae_training.loop import Trainer
from vae_training.priors import build_prior, flow_fitting
from vae_training.priors.fitting import fit_prior
from vae_training.priors.mixture import GaussianMixture
from vae_training.priors.mixture_fitting import COMPONENTS, fit_mixture
from vae_training.run_folder import RunFolder

Images = Callable[..., ImageSet]
Small = Callable[..., Config]

pytestmark = pytest.mark.usefixtures("no_pictures")

WEIGHTS = torch.tensor([0.5, 0.3, 0.2]).double()
MEANS = torch.tensor([[0.0, 0.0, 0.0], [3.0, -2.0, 1.0], [-4.0, 0.5, 2.0]]).double()


def covariances(count: int = 3, size: int = 3) -> Tensor:
    squares = torch.randn(count, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return 0.3 * squares @ squares.transpose(1, 2) + 0.1 * torch.eye(size)


@pytest.fixture
def mixture() -> GaussianMixture:
    return GaussianMixture.of(WEIGHTS, MEANS, covariances())


@pytest.fixture
def reference() -> MixtureSameFamily:
    return MixtureSameFamily(Categorical(WEIGHTS), MultivariateNormal(MEANS, covariances()))


def draw(mixture: GaussianMixture, n: int, seed: int = 0) -> Tensor:
    size = mixture.means.shape[1]
    return mixture(torch.randn(n, size, generator=torch.Generator().manual_seed(seed)))


def test_what_is_drawn_has_the_moments_of_the_mixture(
    mixture: GaussianMixture, reference: MixtureSameFamily
) -> None:
    drawn = draw(mixture, 400_000).double()
    mean = WEIGHTS @ MEANS
    centred = MEANS - mean
    covariance = (WEIGHTS[:, None, None] * (covariances() + centred[:, :, None] * centred[:, None, :])).sum(0)
    torch.testing.assert_close(reference.mean, mean)
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(drawn.t().cov(), covariance, rtol=0.02, atol=0.03)


def test_every_coordinate_is_distributed_as_samples_of_the_mixture_are(
    mixture: GaussianMixture, reference: MixtureSameFamily
) -> None:
    torch.manual_seed(3)
    count = 50_000
    ours, theirs = draw(mixture, count).double().numpy(), reference.sample((count,)).numpy()
    for one, other in zip(ours.T, theirs.T, strict=True):
        both = np.sort(np.concatenate([one, other]))
        distance = np.abs(
            np.searchsorted(np.sort(one), both, side="right")
            - np.searchsorted(np.sort(other), both, side="right")
        ).max()
        assert distance / count < 1.95 * math.sqrt(2 / count)  # Kolmogorov and Smirnov: one in a thousand is


def test_the_density_is_that_of_the_mixture_far_out_as_well(
    mixture: GaussianMixture, reference: MixtureSameFamily
) -> None:
    latents = torch.cat([draw(mixture, 500).double(), torch.randn(50, 3).double() * 30])
    expected = reference.log_prob(latents)
    torch.testing.assert_close(mixture.log_prob(latents.float()).double(), expected, rtol=1e-4, atol=1e-4)


def test_a_single_component_is_a_normal_distribution_and_can_be_kept() -> None:
    single = GaussianMixture.of(torch.ones(1).double(), MEANS[1:2], covariances(1))
    latents = draw(single, 2000)
    expected = MultivariateNormal(MEANS[1], covariances(1)[0]).log_prob(latents.double())
    np.testing.assert_allclose(single.log_prob(latents), expected, atol=1e-4)
    np.testing.assert_allclose(latents.mean(0), MEANS[1], atol=0.15)
    assert torch.equal(draw(build_prior(3, single.state_dict()), 2000), latents)  # which takes two or more


def test_noise_of_temperature_zero_is_sent_to_the_component_nearest_to_the_mean(
    mixture: GaussianMixture,
) -> None:
    at = mixture(torch.zeros(1, 3))[0].double()
    distances = (at - MEANS).norm(dim=1)
    assert int(distances.argmin()) == int((MEANS - WEIGHTS @ MEANS).norm(dim=1).argmin())


def test_a_fit_is_as_good_as_that_of_scikit_learn(reference: MixtureSameFamily) -> None:
    torch.manual_seed(0)
    held_out, given = reference.sample((4000,)), iter(reference.sample((100, 2000)).repeat(6, 1, 1))
    steps: list[tuple[int, int]] = []
    fitted = fit_mixture(
        lambda: next(given), held_out, torch.Generator().manual_seed(0), lambda *step: steps.append(step)
    )
    theirs = Reference(3, random_state=0, n_init=3).fit(reference.sample((20_000,)).numpy())
    reached = float(fitted.log_prob(held_out.float()).mean())
    assert reached > theirs.score(held_out.numpy()) - 0.03
    assert len(fitted.means) == 4  # of the numbers that are tried the first that holds three
    assert steps[-1][0] == steps[-1][1]
    assert steps == sorted(steps)


@pytest.mark.parametrize("held_out", [100, 0])
def test_two_heaps_are_found_with_their_posteriors_spread_and_two_components_are_enough(
    held_out: int,
) -> None:
    model, images = two_heaps(bright_every=4)
    fitted = fit_prior("mixture", model, images[: 400 - held_out], images[400 - held_out :], seed=0)
    entropy = 1.5 * math.log(2 * math.pi * math.e * 0.09) - 0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert fitted.reached == pytest.approx(-entropy, abs=0.25)
    assert fitted.normal < fitted.reached - 0.3
    assert isinstance(fitted.prior, GaussianMixture)
    assert len(fitted.prior.means) == COMPONENTS[0]
    drawn = draw(fitted.prior, 4000)
    bright = drawn[:, 0] > 0
    assert float(bright.float().mean()) == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(drawn[bright].mean(0), torch.tensor([2.0, 1.0, 0.0]), rtol=0, atol=0.1)
    torch.testing.assert_close(drawn[bright].std(0), torch.full((3,), 0.3), rtol=0.15, atol=0)
    assert str(fitted).startswith("a mixture of 2 normal distributions; log density of held-out latents ")
    assert f"{fitted.normal:.2f} under a single normal distribution, {fitted.standard:.2f} under" in str(
        fitted
    )


def test_the_best_is_whichever_makes_held_out_latents_more_probable_and_the_other_is_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flow_fitting, "_STEPS", 100)  # enough to be something
    model, images = two_heaps(bright_every=4)
    split = images[:300], images[300:]
    flow, mixture, best = (fit_prior(kind, model, *split, seed=0) for kind in ("flow", "mixture", "best"))
    names = {flow.reached: "a flow", mixture.reached: "a mixture of 2 normal distributions"}
    worse, better = sorted(names)
    assert better > worse
    assert best.reached == better
    same = {flow.reached: flow, mixture.reached: mixture}[better].prior.state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in best.prior.state_dict().items())
    assert best.passed_over == ((names[worse], worse),)
    assert str(best).startswith(f"{names[better]}; log density of held-out latents {better:.2f} nats, ")
    assert f" nats, {worse:.2f} under {names[worse]}, {best.normal:.2f} under a single" in str(best)


def test_the_same_seed_fits_the_same_mixture_and_leaves_other_randomness_alone() -> None:
    model, images = two_heaps(bright_every=4)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, other, third = (
        fit_prior("mixture", model, images[:300], images[300:], seed).prior.state_dict() for seed in (3, 3, 4)
    )
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["means"], third["means"])


def test_a_single_image_is_no_obstacle_and_its_mixture_is_its_posterior() -> None:
    model, images = two_heaps(bright_every=4)
    fitted = fit_prior("mixture", model, images[:1], images[:0], seed=0)
    drawn = draw(fitted.prior, 2000)  # type: ignore[arg-type]
    torch.testing.assert_close(drawn.mean(0), torch.tensor([2.0, 1.0, 0.0]), rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.std(0), torch.full((3,), 0.3), rtol=0.1, atol=0)


class Nowhere(torch.nn.Module):
    """An encoder whose log-variances are beyond what can be raised to a power."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.zeros(len(image), 3)
        return mean, mean + 500


@pytest.mark.parametrize("kind", ["flow", "mixture"])
def test_posteriors_that_are_not_finite_are_said_to_be(kind: str) -> None:
    model, images = two_heaps(bright_every=4)
    model.encoder = Nowhere()
    with pytest.raises(DivergedError, match="posteriors that are not finite"):
        fit_prior(kind, model, images[:300], images[300:], seed=0)


class OneLine(torch.nn.Module):
    """An encoder that says the same thing, far out and very surely, by two latents."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mean = 1e5 * image.mean((1, 2, 3))[:, None].expand(-1, 3)
        return mean, torch.full_like(mean, -40.0)


@pytest.mark.parametrize("kind", ["flow", "mixture"])
def test_posteriors_without_a_covariance_to_compute_with_are_said_to_be(kind: str) -> None:
    model, images = two_heaps(bright_every=4)
    model.encoder = OneLine()
    with pytest.raises(
        DivergedError, match="no prior can be fitted to the encoder's posteriors, whose covar"
    ):
        fit_prior(kind, model, images[:300], images[300:], seed=0)


def test_a_run_ends_with_its_mixture_and_its_checkpoint_gives_it_back(
    bars: Images, small: Small, tmp_path: Path
) -> None:
    config = small(prior="mixture", epochs=1)
    trainer = Trainer(config, bars(), RunFolder(tmp_path))
    trainer.run()
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint.is_complete(config)
    assert checkpoint.prior is not None
    again = prior_from_weights(config.model, checkpoint.prior, "the checkpoint")
    assert isinstance(again, GaussianMixture)
    assert isinstance(trainer.prior, GaussianMixture)
    assert torch.equal(draw(again, 100), draw(trainer.prior, 100))


def test_weights_that_are_no_mixture_are_refused(mixture: GaussianMixture) -> None:
    state, config = mixture.state_dict(), ModelConfig(latent_size=3)
    thresholds, factors = state["strata.thresholds"], state["factors"]
    for change, words in (
        ({"strata.thresholds": thresholds.flip(0)}, "thresholds do not ascend"),
        ({"strata.thresholds": thresholds[:1]}, r"means is \(3, 3\), expected \(2, 3\)"),
        ({"strata.thresholds": thresholds[:0]}, r"means is \(3, 3\), expected \(1, 3\)"),
        ({"factors": -factors}, "diagonal that is not positive"),
        ({"means": state["means"] * torch.nan}, "NaN"),
    ):
        with pytest.raises(CheckpointError, match=words):
            prior_from_weights(config, {**state, **change}, "weights")


@pytest.mark.parametrize("latent_size", [1, 513])
def test_a_mixture_needs_two_latents_and_covariances_that_can_be_held(latent_size: int) -> None:
    with pytest.raises(
        ConfigError, match=r"model\.latent_size is .*; expected 2 to 512 with a mixture as prior"
    ):
        Config.from_dict({"model": {"latent_size": latent_size}, "training": {"prior": "mixture"}})
