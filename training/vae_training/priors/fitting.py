"""Fitting a prior to where the encoder puts images: the aggregated posterior.

Training draws each posterior towards the standard normal, but their mixture over all images never becomes it. What
is drawn from the standard normal therefore falls beside the images; what is drawn from a prior that was fitted
afterwards does not (Rosca, Lakshminarayanan and Mohamed, Distribution Matching in Variational Inference, 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from vae_runtime.errors import one_line
from vae_training.errors import DivergedError
from vae_training.model import VAE
from vae_training.priors import Prior
from vae_training.priors.flow_fitting import fit_flow
from vae_training.priors.mixture import GaussianMixture
from vae_training.priors.mixture_fitting import fit_mixture
from vae_training.priors.posteriors import Posteriors

_CHOSEN_BY = 10  # one in so many images chooses a mixture where none are held out
_FEWEST_ROWS, _MOST_ROWS = 2048, 16_384  # latents that a mixture's round looks at


@dataclass(frozen=True)
class FittedPrior:
    """A prior, and how probable latents of images that it was not fitted to are: means of log densities, in nats."""

    prior: Prior
    """In evaluation mode, on the model's device."""
    reached: float
    """To the prior."""
    normal: float
    """To the normal distribution with the mean and the covariance of those that it was fitted to."""
    standard: float
    """To the standard normal."""
    passed_over: tuple[tuple[str, float], ...] = ()
    """What else was fitted, and how probable they are to that."""

    def __str__(self) -> str:
        """Say what it is and what it is worth."""
        others = "".join(f"{reached:.2f} under {name}, " for name, reached in self.passed_over)
        return (
            f"{_name(self.prior)}; log density of held-out latents {self.reached:.2f} nats, {others}"
            f"{self.normal:.2f} under a single normal distribution, {self.standard:.2f} under the standard one"
        )


def fit_prior(
    kind: str,
    model: VAE,
    images: Tensor,
    held_out: Tensor,
    seed: int,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> FittedPrior:
    """Fit a prior to the aggregated posterior, by maximum likelihood.

    Args:
        kind: `flow`, `mixture`, or `best`: both, of which the one is kept that makes latents of held-out images more
            probable.
        model: its encoder is used and not changed.
        images: (N, C, H, W) uint8, on the model's device: those that it was trained on.
        held_out: the same, of those that it was not; the prior that makes their latents the most probable is
            returned. With none of them, a flow is the last one, and a mixture is chosen by some of the images.
        seed: of all that is random.
        on_step: called as on_step(done, total), and may raise to stop.

    Raises:
        DivergedError: the encoder's posteriors are not finite, or too far apart for covariances.
    """
    posteriors = Posteriors(model, images)
    others = Posteriors(model, held_out) if len(held_out) else None
    if not (posteriors.is_finite() and (others is None or others.is_finite())):
        raise DivergedError(
            "the encoder gives posteriors that are not finite: no prior can be fitted to them"
        )
    latents = (others or posteriors).draw_of_each(seed)
    kinds = [name for name in _FITS if kind in (name, "best")]
    try:
        fitted = [_FITS[name](posteriors, latents if others else None, seed, on_step) for name in kinds]
        factor = torch.linalg.cholesky(posteriors.covariance().double())
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # torch does not list it
        raise DivergedError(
            f"no prior can be fitted to the encoder's posteriors, whose covariance is none ({one_line(error)})"
        ) from error
    fitted = [prior.eval().requires_grad_(False) for prior in fitted]
    reached = [float(prior.log_prob(latents).mean()) for prior in fitted]
    best = reached.index(max(reached))
    zeros = torch.zeros_like(latents[0]).double()
    return FittedPrior(
        prior=fitted[best],
        reached=reached[best],
        normal=_mean_log_prob(
            MultivariateNormal(posteriors.mean.mean(0).double(), scale_tril=factor), latents
        ),
        standard=_mean_log_prob(Independent(Normal(zeros, zeros + 1.0), 1), latents),
        passed_over=tuple(
            (_name(prior), mean)
            for prior, mean in zip(fitted, reached, strict=True)
            if prior is not fitted[best]
        ),
    )


def _name(prior: Prior) -> str:
    if isinstance(prior, GaussianMixture):
        return f"a mixture of {len(prior.means)} normal distributions"
    return "a flow"


def _fit_mixture(
    posteriors: Posteriors, held_out: Tensor | None, seed: int, on_step: Callable[[int, int], None]
) -> GaussianMixture:
    """Fit a mixture on the CPU, so that one seed gives one mixture wherever the model is."""
    device = posteriors.mean.device
    draws = torch.Generator().manual_seed(seed)
    means, deviations = posteriors.mean.double().cpu(), posteriors.variance.double().sqrt().cpu()
    if held_out is None:
        held_out = (means + torch.randn(means.shape, generator=draws).double() * deviations)[::_CHOSEN_BY]
        kept = torch.arange(len(means)) % _CHOSEN_BY != 0
        if kept.any():
            means, deviations = means[kept], deviations[kept]
    often = -(-_FEWEST_ROWS // len(means))

    def draw() -> Tensor:
        picked = torch.randperm(len(means), generator=draws)[:_MOST_ROWS].repeat(often)
        noise = torch.randn((len(picked), means.shape[1]), generator=draws)
        return means[picked] + noise.double() * deviations[picked]

    return fit_mixture(draw, held_out.double().cpu(), draws, on_step).to(device)


def _mean_log_prob(distribution: Distribution, latents: Tensor) -> float:
    return float(distribution.log_prob(latents.double()).mean())


_FITS: dict[str, Callable[[Posteriors, Tensor | None, int, Callable[[int, int], None]], Prior]] = {
    "flow": fit_flow,
    "mixture": _fit_mixture,
}
