"""A mixture of normal distributions, as a map from standard normal noise to latents, and as a density.

The first number of the noise chooses a component, exactly and the same everywhere, and stays standard normal
(`strata`); then the noise is stretched, turned and moved as the component is:

    noise (D) -> component k, noise again (D) -> mean_k + factor_k noise -> latent (D)

The map jumps from component to component, so there is no way back from latents to noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vae_training.priors.strata import Strata

_TINY = 1e-30  # responsibility below which a component adds nothing


class GaussianMixture(nn.Module):
    """A mixture of K normal distributions, K at least 2, each of any covariance."""

    means: Tensor
    factors: Tensor

    def __init__(self, thresholds: Tensor, means: Tensor, factors: Tensor) -> None:
        """Take the tensors as they are stored.

        Args:
            thresholds: (K - 1,) float32; between the strata of the components, ascending.
            means: (K, D) float32.
            factors: (D, K * D) float32: of each component the transposed triangular factor of its covariance,
                side by side.
        """
        super().__init__()
        self.strata = Strata(thresholds)
        self.register_buffer("means", means)
        self.register_buffer("factors", factors)

    @classmethod
    def of(cls, weights: Tensor, means: Tensor, covariances: Tensor) -> GaussianMixture:
        """Build it from weights (K,), which sum to 1, means (K, D) and covariances (K, D, D).

        Components near the mean of all lie in the middle of the line that the first number is on, so that noise of
        a low temperature is sent to them.
        """
        if len(weights) == 1:  # two halves of it are a mixture, too
            weights, means = 0.5 * weights.repeat(2), means.repeat(2, 1)
            covariances = covariances.repeat(2, 1, 1)
        centre = weights @ means
        order = _from_the_middle((means - centre).norm(dim=1))
        factors = torch.linalg.cholesky(covariances[order])
        return cls(
            Strata.of(weights[order]).thresholds,
            means[order].float(),
            factors.permute(2, 0, 1).flatten(1).float().contiguous(),
        )

    def forward(self, noise: Tensor) -> Tensor:
        """(N, D) standard normal to latents (N, D)."""
        chosen, first = self.strata(noise[:, :1])
        moved = torch.cat([first, noise[:, 1:]], dim=1) @ self.factors
        latents = moved.reshape(-1, *self.means.shape) + self.means
        latent: Tensor = (latents * chosen.unsqueeze(2)).sum(1)
        return latent

    def log_prob(self, latent: Tensor) -> Tensor:
        """Return the logarithm of the density of latents (N, D), in nats; (N,)."""
        log_density: Tensor = MixtureDensity(self)(latent)
        return log_density


class MixtureDensity(nn.Module):
    """The logarithm of a mixture's density, as a module of its own that can be traced."""

    whitening: Tensor
    offsets: Tensor
    constants: Tensor
    halves: Tensor

    def __init__(self, mixture: GaussianMixture) -> None:
        """Turn the factors round, in float64."""
        super().__init__()
        means = mixture.means.double()
        count, size = means.shape
        upper = mixture.factors.double().reshape(size, count, size).permute(1, 0, 2)
        identity = torch.eye(size, dtype=means.dtype, device=means.device).expand_as(upper)
        whitening = torch.linalg.solve_triangular(upper, identity, upper=True)  # latents @ it are noise
        log_volume = upper.diagonal(dim1=1, dim2=2).log().sum(1)
        log_weights = mixture.strata.weights().to(means.device).log()
        kind = mixture.means.dtype
        self.register_buffer("whitening", whitening.permute(1, 0, 2).flatten(1).to(kind))
        self.register_buffer("offsets", (means.unsqueeze(1) @ whitening).squeeze(1).to(kind))
        self.register_buffer(
            "constants", (log_weights - log_volume - 0.5 * size * math.log(2.0 * math.pi)).to(kind)
        )
        self.register_buffer("halves", torch.full((size,), 0.5, dtype=kind, device=means.device))

    def forward(self, latent: Tensor) -> Tensor:
        """(N, D) to (N,), in nats."""
        noise = (latent @ self.whitening).reshape(-1, *self.offsets.shape) - self.offsets
        # A product, not a sum: OpenVINO 2026.4 adds the wrong ones of the constants to what ReduceSum gives.
        each = self.constants - (noise * noise) @ self.halves
        # Log-sum-exp, which no operator on the allow-list computes: each term less the logarithm of its responsibility
        # is the whole sum's logarithm, and this is their mean.
        responsibilities = torch.softmax(each, dim=1)
        log_density: Tensor = (responsibilities * (each - responsibilities.clamp_min(_TINY).log())).sum(1)
        return log_density


def _from_the_middle(distances: Tensor) -> Tensor:
    """Return an order in which the smallest stands in the middle, and the largest at the ends."""
    ascending = distances.argsort()
    return torch.cat([ascending[1::2].flip(0), ascending[::2]])
