"""Fitting a mixture of normal distributions to the aggregated posterior, by expectation-maximisation (EM).

EM (Dempster, Laird and Rubin, 1977) begins with centres that are spread as k-means++ does it (Arthur and
Vassilvitskii, 2007). Every round draws latents anew, so that no component can settle on single ones. Covariances
are full, and shrunk towards one that is smaller the more components there are (after Fraley and Raftery, Bayesian
Regularization for Normal Mixture Estimation and Model-Based Clustering, 2007). How many rounds, and how many
components, is what makes latents of held-out images the most probable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from vae_training.priors.mixture import GaussianMixture

COMPONENTS = (2, 4, 8, 16, 32, 64)
"""Numbers of components that are tried, until one is no better than the one before."""
ROUNDS = 100
"""At most, of each of them."""
MOST_NUMBERS = 1 << 20
"""Of all covariances of a mixture together; it bounds the file and the work of a sample."""

_AT_ONCE = 2048
_EVALUATED_EVERY = 10  # rounds
_PATIENCE = 2  # evaluations that may pass without the held-out latents becoming more probable
_GAIN = 0.01  # nats, less of which is not better
_WORTH = 0.1  # nats that twice the components must gain
_LEAST_WEIGHT = 1e-4  # of a component
_LEAST_VARIANCE = 1e-6  # of a latent that is always the same

Draw = Callable[[], Tensor]


class Parameters(NamedTuple):
    """Of a mixture of K components, float64."""

    weights: Tensor
    """(K,)"""
    means: Tensor
    """(K, D)"""
    covariances: Tensor
    """(K, D, D)"""


class Candidate(NamedTuple):
    """A mixture on the way, and how probable held-out latents are to it."""

    reached: float
    """The mean of the logarithm of their densities, in nats."""
    mixture: Parameters


def fit_mixture(
    draw: Draw, held_out: Tensor, generator: torch.Generator, on_step: Callable[[int, int], None]
) -> GaussianMixture:
    """Fit a mixture.

    Args:
        draw: returns latents (N, D) float64 on the CPU, others at every call.
        held_out: (M, D) float64, latents of other images: those that decide how many components there are.
        generator: of the centres to begin with.
        on_step: called as on_step(done, total) after every round, and may raise to stop.
    """
    size = held_out.shape[1]
    first, *others = [
        count for count in COMPONENTS if count == COMPONENTS[0] or count * size**2 <= MOST_NUMBERS
    ]
    total = ROUNDS * (1 + len(others))

    def after(before: int) -> Callable[[int], None]:
        return lambda done: on_step(before + done, total)

    best = _fit(first, draw, held_out, generator, after(0))
    for number, count in enumerate(others, start=1):
        found = _fit(count, draw, held_out, generator, after(ROUNDS * number))
        if found.reached < best.reached + _WORTH:
            break
        best = found
    on_step(total, total)
    return GaussianMixture.of(*best.mixture)


def _fit(
    count: int, draw: Draw, held_out: Tensor, generator: torch.Generator, tell: Callable[[int], None]
) -> Candidate:
    """Return the best mixture of so many components, by the held-out latents, that any evaluation has seen."""
    latents = draw()
    responsibilities = _begin(latents, count, generator)
    candidates: list[Candidate] = []
    for done in range(1, ROUNDS + 1):
        found = _maximise(latents, responsibilities)
        latents = draw()
        responsibilities = torch.cat([torch.softmax(each, dim=1) for each in log_densities(found, latents)])
        tell(done)
        if done % _EVALUATED_EVERY == 0:
            candidates.append(Candidate(mean_log_density(found, held_out), found))
            if _is_past_its_best([candidate.reached for candidate in candidates]):
                break
    return max(candidates, key=lambda candidate: candidate.reached)


def _is_past_its_best(reached: list[float]) -> bool:
    """Whether none of the last evaluations is better, by what counts, than the best of those before them."""
    before, last = reached[:-_PATIENCE], reached[-_PATIENCE:]
    return bool(before) and max(last) < max(before) + _GAIN


def mean_log_density(mixture: Parameters, latents: Tensor) -> float:
    """Return the mean of the logarithm of the density of latents (N, D), in nats."""
    return float(torch.cat([each.logsumexp(1) for each in log_densities(mixture, latents)]).mean())


def log_densities(mixture: Parameters, latents: Tensor) -> Iterator[Tensor]:
    """Give the logarithms of weight times density, (n, K), of latents (N, D), piece by piece."""
    size = latents.shape[1]
    lower = torch.linalg.cholesky(mixture.covariances)
    whitening = torch.linalg.solve_triangular(
        lower, torch.eye(size, dtype=lower.dtype).expand_as(lower), upper=False
    )
    log_volume = lower.diagonal(dim1=1, dim2=2).log().sum(1)
    constants = mixture.weights.log() - log_volume - 0.5 * size * math.log(2.0 * math.pi)
    across = whitening.permute(2, 0, 1).reshape(size, -1)  # of all components side by side: one large product
    offsets = (whitening @ mixture.means.unsqueeze(2)).reshape(-1)
    for piece in torch.split(latents, _AT_ONCE):
        noise = (piece @ across - offsets).reshape(len(piece), -1, size)
        yield constants - 0.5 * noise.square().sum(2)


def _begin(latents: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return to which of so many centres, spread over the latents, each is the nearest: (N, K) of 0 and 1."""
    centres = latents[torch.randint(len(latents), (1,), generator=generator)]
    while len(centres) < count:
        squares = torch.cdist(latents, centres).square().min(1).values
        chances = squares if float(squares.sum()) > 0 else torch.ones_like(squares)  # all are alike
        centres = torch.cat([centres, latents[torch.multinomial(chances, 1, generator=generator)]])
    nearest = torch.cdist(latents, centres).argmin(1)
    return torch.nn.functional.one_hot(nearest, count).to(latents.dtype)


def _maximise(latents: Tensor, responsibilities: Tensor) -> Parameters:
    """Return the M-step's mixture of latents (N, D) and the components' responsibilities for them (N, K)."""
    size = latents.shape[1]
    responsibilities = responsibilities[:, responsibilities.mean(0) >= _LEAST_WEIGHT]
    counts = responsibilities.sum(0)  # (K,)
    means = responsibilities.t() @ latents / counts[:, None]
    spread = latents.t().cov(correction=0).reshape(size, size) + _LEAST_VARIANCE * torch.eye(size).double()
    towards, strength = spread / len(counts) ** (2.0 / size), size + 2.0
    scatters = torch.stack(
        [
            ((latents - mean) * share[:, None]).t() @ (latents - mean)
            for mean, share in zip(means, responsibilities.t(), strict=True)
        ]
    )
    shrunk = (scatters + strength * towards) / (counts + strength)[:, None, None]
    return Parameters(counts / counts.sum(), means, shrunk)
