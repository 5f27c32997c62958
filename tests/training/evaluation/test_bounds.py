"""Bounds of the likelihood, against models whose likelihood is known exactly."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, LowRankMultivariateNormal, Normal

from vae_runtime.errors import NonFiniteError
from vae_runtime.images import Images
from vae_runtime.latent import Latents
from vae_training.config import TrainingConfig
from vae_training.evaluation.bounds import bits_per_dimension, measure_bounds, nll
from vae_training.likelihood import Likelihood

SHAPE = (1, 2, 3)
PIXELS = math.prod(SHAPE)


def likelihood_of(name: str, noise_scale: str = "auto") -> Likelihood:
    return Likelihood(replace(TrainingConfig(), likelihood=name, noise_scale=noise_scale)).eval()


class LinearModel:
    """x = W z + b + noise: a VAE whose marginal likelihood and posterior are known.

    With columns of W at right angles the true posterior is diagonal, as an encoder's is.
    """

    name, kind, config, data_fingerprint, learned_prior = "linear", "run", None, None, False
    image_shape, latent_size = SHAPE, 2

    def __init__(self, *, shift: float = 0.0, stretch: float = 1.0) -> None:
        draws = np.random.default_rng(3)
        directions, _ = np.linalg.qr(draws.standard_normal((PIXELS, 2)))
        self.weights = directions * [0.15, 0.08]
        self.bias = draws.uniform(0.3, 0.7, PIXELS)
        self.scale = 0.1
        self.likelihood = likelihood_of("gaussian", str(self.scale))
        self.shift, self.stretch = shift, stretch

    def encode(self, images: Images) -> tuple[Latents, Latents]:
        precision = 1.0 + np.square(self.weights).sum(0) / self.scale**2
        centred = images.reshape(len(images), -1) - self.bias
        mean = centred @ self.weights / self.scale**2 / precision
        logvar = np.broadcast_to(np.log(self.stretch**2 / precision), mean.shape)
        return (mean + self.shift).astype(np.float32), logvar.astype(np.float32)

    def decode(self, latents: Latents) -> Images:
        return (latents @ self.weights.T + self.bias).reshape(-1, *SHAPE).astype(np.float32)

    def sample_latents(self, n: int, seed: int) -> Latents:
        return np.random.default_rng(seed).standard_normal((n, 2), dtype=np.float32)

    def prior_gain(self, latents: Latents) -> np.ndarray | None:
        return np.zeros(len(latents))

    def images(self, n: int) -> Images:
        draws = np.random.default_rng(4)
        noise = self.scale * draws.standard_normal((n, *SHAPE))
        return (self.decode(self.sample_latents(n, 5)) + noise).astype(np.float32)

    def log_likelihood(self, images: Images) -> float:
        exact = LowRankMultivariateNormal(
            torch.from_numpy(self.bias),
            torch.from_numpy(self.weights),
            torch.full((PIXELS,), self.scale**2, dtype=torch.float64),
        )
        return float(exact.log_prob(torch.from_numpy(images).double().flatten(1)).mean())


def test_with_the_true_posterior_both_bounds_are_the_likelihood_itself() -> None:
    model = LinearModel()
    images = model.images(12)
    bounds = measure_bounds(model, images, samples=2000, seed=0)
    exact = model.log_likelihood(images)
    assert bounds.importance_weighted == pytest.approx(exact, abs=1e-4)
    assert bounds.elbo == pytest.approx(exact, abs=0.05)  # its expectation under 2000 draws
    assert bounds.effective_samples == pytest.approx(2000, rel=1e-4)


@pytest.mark.parametrize("wrong", [{"shift": 0.5}, {"stretch": 1.6}])
def test_with_another_posterior_the_weighted_bound_still_reaches_the_likelihood_and_the_elbo_does_not(
    wrong: dict[str, float],
) -> None:
    model = LinearModel(**wrong)
    images = model.images(12)
    exact = model.log_likelihood(images)
    loose, tight = (measure_bounds(model, images, samples=k, seed=0) for k in (1, 20_000))
    assert tight.elbo < exact - 0.2
    assert tight.importance_weighted == pytest.approx(exact, abs=0.02)
    assert loose.importance_weighted < tight.importance_weighted
    assert tight.effective_samples < 15_000


def test_the_elbo_is_the_likelihood_less_the_divergence_of_the_posteriors() -> None:
    model = LinearModel(shift=0.5, stretch=1.6)
    images = model.images(12)
    exact_posteriors = LinearModel()
    (mean, logvar), (ours, our_logvar) = exact_posteriors.encode(images), model.encode(images)
    gap = torch.distributions.kl_divergence(
        Normal(torch.from_numpy(ours), torch.from_numpy(our_logvar).mul(0.5).exp()),
        Normal(torch.from_numpy(mean), torch.from_numpy(logvar).mul(0.5).exp()),
    ).sum(1)
    bounds = measure_bounds(model, images, samples=20_000, seed=0)
    assert bounds.elbo == pytest.approx(model.log_likelihood(images) - float(gap.mean()), abs=0.02)


class WithAnotherPrior(LinearModel):
    """The same decoder, fed with latents of mean 1 and standard deviation 1/2: again all is known."""

    learned_prior = True

    def prior_gain(self, latents: Latents) -> np.ndarray | None:
        points = torch.from_numpy(latents).double()
        return (Normal(1.0, 0.5).log_prob(points) - Normal(0.0, 1.0).log_prob(points)).sum(1).numpy()


def test_with_a_learned_prior_the_bound_is_also_that_of_what_is_sampled() -> None:
    model = WithAnotherPrior(stretch=1.3)
    images = model.images(12)
    bounds = measure_bounds(model, images, samples=20_000, seed=0)
    exact = LowRankMultivariateNormal(
        torch.from_numpy(model.bias + model.weights.sum(1)),
        torch.from_numpy(0.5 * model.weights),
        torch.full((PIXELS,), model.scale**2, dtype=torch.float64),
    )
    expected = float(exact.log_prob(torch.from_numpy(images).double().flatten(1)).mean())
    assert bounds.with_learned_prior == pytest.approx(expected, abs=0.02)
    assert bounds.importance_weighted == pytest.approx(model.log_likelihood(images), abs=0.02)
    assert abs(expected - bounds.importance_weighted) > 0.2


def test_the_elbo_with_a_learned_prior_is_the_likelihood_less_the_divergence_from_its_posteriors() -> None:
    model = WithAnotherPrior(stretch=1.3)
    images = model.images(12)
    # Latents of mean 1 and variance 1/4 add their precision, 4, to that of what is seen.
    seen = np.square(model.weights).sum(0) / model.scale**2
    told = (images.reshape(12, -1) - model.bias) @ model.weights / model.scale**2
    exact_posteriors = Normal(
        torch.from_numpy((told + 4.0) / (seen + 4.0)), torch.from_numpy((seen + 4.0) ** -0.5)
    )
    ours, our_logvar = (torch.from_numpy(of).double() for of in model.encode(images))
    gap = torch.distributions.kl_divergence(Normal(ours, our_logvar.mul(0.5).exp()), exact_posteriors).sum(1)
    bounds = measure_bounds(model, images, samples=20_000, seed=0)
    assert bounds.with_learned_prior is not None
    assert bounds.elbo_with_learned_prior == pytest.approx(
        bounds.with_learned_prior - float(gap.mean()), abs=0.03
    )
    assert abs(bounds.elbo_with_learned_prior - bounds.elbo) > 0.2


def test_a_prior_of_unknown_density_gives_no_such_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LinearModel()
    assert measure_bounds(model, model.images(2), samples=9, seed=0).with_learned_prior is not None
    monkeypatch.setattr(model, "prior_gain", lambda _: None)
    bounds = measure_bounds(model, model.images(2), samples=9, seed=0)
    assert (bounds.with_learned_prior, bounds.elbo_with_learned_prior) == (None, None)


def test_the_same_seed_gives_the_same_bounds_and_each_image_its_own_whatever_comes_with_it() -> None:
    model = LinearModel(shift=0.5)
    images = model.images(3)
    first, again, other = (measure_bounds(model, images, samples=50, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    parts = [measure_bounds(model, images[:n], samples=50, seed=1).elbo * n for n in (1, 2)]
    assert measure_bounds(model, images[:1], samples=50, seed=1).elbo == pytest.approx(parts[0])
    assert parts[1] - parts[0] != pytest.approx(parts[0])


def test_the_error_of_the_mean_is_that_of_independent_images() -> None:
    model = LinearModel()
    images = model.images(40)
    one_by_one = [
        measure_bounds(model, image[None], samples=1, seed=0).importance_weighted for image in images
    ]
    bounds = measure_bounds(model, images, samples=1, seed=0)
    assert bounds.importance_weighted_error == pytest.approx(
        np.std(one_by_one, ddof=1) / math.sqrt(40), rel=1e-3
    )


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "discretized-logistic"])
def test_the_likelihood_of_a_mean_is_that_of_its_distribution(name: str) -> None:
    draws = np.random.default_rng(0)
    mean = torch.from_numpy(draws.uniform(0.02, 0.98, (5, *SHAPE)).astype(np.float32))
    image = torch.from_numpy((draws.integers(1, 255, (1, *SHAPE)) / 255).astype(np.float32))
    likelihood = likelihood_of(name, "auto" if name == "bernoulli" else "0.07")
    means, pixels = mean.double(), image.double()
    if name == "bernoulli":
        expected = Bernoulli(means, validate_args=False).log_prob(pixels)
    elif name == "gaussian":
        expected = Normal(means, 0.07).log_prob(pixels)
    else:
        scale = 0.07 * math.sqrt(3) / math.pi
        cdf = [torch.sigmoid((pixels + half - means) / scale) for half in (0.5 / 255, -0.5 / 255)]
        expected = (cdf[0] - cdf[1]).log()
    assert nll(likelihood, mean, image) == pytest.approx(-expected.flatten(1).sum(1).numpy(), rel=1e-4)


def test_a_mean_that_is_black_or_white_to_the_last_digit_leaves_the_bound_finite() -> None:
    mean = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.5, 0.5]).view(1, *SHAPE)
    image = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0, 1.0]).view(1, *SHAPE)
    assert np.isfinite(nll(likelihood_of("bernoulli"), mean, image)).all()


def test_bits_per_dimension_of_a_gaussian_are_those_of_the_8_bit_values_it_gives() -> None:
    draws = np.random.default_rng(0)
    scale = 0.05
    pixels = torch.from_numpy(draws.integers(20, 236, PIXELS) / 255)
    mean = pixels + scale * torch.from_numpy(draws.standard_normal(PIXELS))
    exact = Normal(mean, scale)
    of_values = exact.cdf(pixels + 0.5 / 255) - exact.cdf(pixels - 0.5 / 255)
    images = pixels.float().numpy().reshape(1, *SHAPE)
    bits, unit = bits_per_dimension(
        likelihood_of("gaussian", str(scale)), images, float(exact.log_prob(pixels).sum())
    )
    assert bits == pytest.approx(-float(of_values.log2().mean()), abs=1e-3)
    assert "1/255 times the density" in unit
    assert "rough" not in unit


def test_guessing_any_of_256_values_takes_eight_bits_and_one_of_two_values_one() -> None:
    gray, black = np.full((1, *SHAPE), 0.5, np.float32), np.zeros((1, *SHAPE), np.float32)
    eight, _ = bits_per_dimension(likelihood_of("discretized-logistic"), gray, -PIXELS * math.log(256))
    one, _ = bits_per_dimension(likelihood_of("bernoulli"), black, -PIXELS * math.log(2))
    assert (eight, one) == (pytest.approx(8), pytest.approx(1))


def test_a_bernoulli_on_gray_images_has_no_bits_and_says_that_it_is_no_density() -> None:
    gray = np.full((1, *SHAPE), 0.5, np.float32)
    bits, unit = bits_per_dimension(likelihood_of("bernoulli"), gray, -100.0)
    assert bits is None
    assert "no density" in unit


def test_a_spread_finer_than_the_values_of_pixels_is_called_rough() -> None:
    gray = np.full((1, *SHAPE), 0.5, np.float32)
    assert "rough" in bits_per_dimension(likelihood_of("gaussian", "0.005"), gray, 10.0)[1]


def test_posteriors_too_wide_to_draw_from_are_called_so_and_give_no_figure() -> None:
    model = LinearModel(stretch=1e20)
    with pytest.raises(NonFiniteError, match="posteriors that reach out to"):
        measure_bounds(model, model.images(2), samples=5, seed=0)
    with np.errstate(over="raise", invalid="raise"):
        wide = LinearModel(stretch=1e12)
        assert math.isfinite(measure_bounds(wide, wide.images(2), samples=5, seed=0).importance_weighted)
