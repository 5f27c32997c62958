"""The flow is one for one, its density is that of what it makes, and a fit finds distributions that are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from two_heaps import two_heaps

from vae_training import loop
from vae_training.checkpoint import newest_checkpoint
from vae_training.config import Config
from vae_training.data import ImageSet
from vae_training.errors import CheckpointError, ConfigError
from vae_training.interruption import Interrupted
from vae_training.loop import Trainer
from vae_training.priors import flow_fitting
from vae_training.priors.fitting import fit_prior
from vae_training.priors.flow import Flow
from vae_training.priors.posteriors import Posteriors
from vae_training.run_folder import RunFolder

Images = Callable[..., ImageSet]
Small = Callable[..., Config]


pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit flows that need not be good in two looks at what was held out."""
    monkeypatch.setattr(flow_fitting, "_STEPS", 100)


def covariance(size: int) -> Tensor:
    square = torch.randn(size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    return square @ square.t() + 0.5 * torch.eye(size)


def random_flow(size: int) -> Flow:
    """Return a flow that is far from doing nothing."""
    torch.manual_seed(size)
    flow = Flow(size).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    flow.begin_with(torch.randn(size).double(), covariance(size))
    return flow


@pytest.mark.parametrize("size", [2, 3, 8, 21])
def test_the_density_is_that_of_the_change_of_variables(size: int) -> None:
    flow = random_flow(size)
    noise = torch.randn(5, size, dtype=torch.float64)
    for one in noise:
        jacobian = torch.autograd.functional.jacobian(lambda e: flow(e[None])[0], one)
        normal = -0.5 * one.square().sum() - 0.5 * size * math.log(2 * math.pi)
        expected = normal - torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(flow.log_prob(flow(one[None]))[0], expected, rtol=1e-5, atol=1e-5)


def test_a_flow_that_was_not_trained_is_the_normal_distribution_that_it_began_with() -> None:
    flow = Flow(6).double()
    mean = torch.arange(6).double()
    flow.begin_with(mean, covariance(6))
    latents = torch.randn(20, 6, dtype=torch.float64)
    expected = MultivariateNormal(mean, covariance(6)).log_prob(latents)
    torch.testing.assert_close(flow.log_prob(latents), expected)
    drawn = flow(torch.randn(200_000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(drawn.t().cov(), covariance(6), rtol=0.05, atol=0.05)


def test_a_fit_finds_two_heaps_that_no_normal_distribution_could_be() -> None:
    model, images = two_heaps(bright_every=2)
    fitted = fit_prior("flow", model, images[:300], images[300:], seed=0)
    flow, nll, standard = fitted.prior, -fitted.reached, -fitted.standard
    # Two heaps of standard deviation 0.3 in three directions, either with probability one half.
    entropy = 1.5 * math.log(2 * math.pi * math.e * 0.09) + math.log(2)
    assert entropy - 0.2 < nll < entropy + 0.5
    second_moments = 4 + 1 + 3 * 0.09
    assert standard == pytest.approx(1.5 * math.log(2 * math.pi) + 0.5 * second_moments, rel=0.05)
    drawn = flow(torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)))
    near = torch.minimum(
        (drawn - torch.tensor([2.0, 1, 0])).norm(dim=1), (drawn - torch.tensor([-2.0, -1, 0])).norm(dim=1)
    )
    assert (near < 1.2).float().mean() > 0.9
    assert 0.35 < (drawn[:, 0] > 0).float().mean() < 0.65


@pytest.mark.usefixtures("few_steps")
def test_the_same_seed_fits_the_same_flow_and_leaves_other_randomness_alone() -> None:
    model, images = two_heaps(bright_every=2)

    def fitted_flow(seed: int) -> dict[str, Tensor]:
        return fit_prior("flow", model, images[:300], images[300:], seed).prior.state_dict()

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, other = (fitted_flow(3) for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[name], other[name]) for name in one)
    third = fitted_flow(4)
    assert not torch.equal(one["layers.0.network.0.weight"], third["layers.0.network.0.weight"])


def test_the_covariance_of_the_aggregated_posterior_is_that_of_what_is_drawn() -> None:
    model, images = two_heaps(bright_every=2)
    posteriors = Posteriors(model, images)
    many = torch.arange(400).repeat(300)
    drawn = posteriors.draw(many, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(posteriors.covariance(), np.cov(drawn.numpy().T), rtol=0.05, atol=0.02)


@pytest.mark.usefixtures("few_steps")
def test_a_latent_that_says_nothing_and_a_single_image_are_no_obstacle() -> None:
    model, images = two_heaps(bright_every=2)
    fitted = fit_prior("flow", model, images[:1], images[:0], seed=0)
    assert math.isfinite(fitted.reached)
    assert torch.isfinite(fitted.prior(torch.randn(10, 3))).all()


@pytest.mark.usefixtures("few_steps")
def test_a_run_ends_with_its_prior_and_goes_on_to_it_when_it_was_stopped_there(
    bars: Images, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(prior="flow")
    Trainer(config, bars(), RunFolder(tmp_path / "whole")).run()
    whole = newest_checkpoint(tmp_path / "whole/checkpoints")
    assert whole.prior is not None
    assert whole.is_complete(config)

    def stop_at_once(*arguments: Any) -> Any:
        import signal

        signal.raise_signal(signal.SIGINT)
        return fit_prior(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "fit_prior", stop_at_once)
        with pytest.raises(
            Interrupted, match=r"stopped by SIGINT in step 1 of 100 of the prior; all else is saved"
        ):
            Trainer(config, bars(), RunFolder(tmp_path / "parts")).run()
    folder = RunFolder(tmp_path / "parts")
    stopped = newest_checkpoint(folder.checkpoints)
    assert stopped.prior is None
    assert not stopped.is_complete(config)
    trainer = Trainer(config, bars(), folder)
    trainer.resume(stopped)
    trainer.run()
    ended = newest_checkpoint(folder.checkpoints).prior
    assert ended is not None
    assert all(torch.equal(ended[name], whole.prior[name]) for name in ended)


@pytest.mark.usefixtures("few_steps")
def test_more_epochs_make_a_new_prior(bars: Images, small: Small, tmp_path: Path) -> None:
    Trainer(small(prior="flow", epochs=1), bars(), RunFolder(tmp_path)).run()
    first = newest_checkpoint(tmp_path / "checkpoints")
    trainer = Trainer(small(prior="flow", epochs=2), bars(), RunFolder(tmp_path))
    trainer.resume(first)
    assert trainer.prior is None
    trainer.run()
    second = newest_checkpoint(tmp_path / "checkpoints")
    assert second.prior is not None
    assert first.prior is not None
    assert not torch.equal(first.prior["mean"], second.prior["mean"])


@pytest.mark.usefixtures("few_steps")
def test_a_prior_that_does_not_fit_is_refused(bars: Images, small: Small, tmp_path: Path) -> None:
    config = small(prior="flow", epochs=1)
    Trainer(config, bars(), RunFolder(tmp_path)).run()
    whole = newest_checkpoint(tmp_path / "checkpoints")
    assert whole.prior is not None
    less = {name: tensor for name, tensor in whole.prior.items() if name != "mean"}
    for weights, words in (
        (less, "mean is missing"),
        ({**whole.prior, "mean": whole.prior["mean"] * torch.nan}, "NaN"),
    ):
        trainer = Trainer(config, bars(), RunFolder(tmp_path))
        broken = type(whole)(**{**vars(whole), "prior": weights})
        with pytest.raises(CheckpointError, match=words):
            trainer.resume(broken)


@pytest.mark.parametrize("latent_size", [1, 1025])
def test_a_flow_needs_two_halves_and_a_covariance_that_can_be_held(latent_size: int) -> None:
    with pytest.raises(
        ConfigError, match=r"model\.latent_size is .*; expected 2 to 1024 with a flow as prior"
    ):
        Config.from_dict({"model": {"latent_size": latent_size}, "training": {"prior": "flow"}})
