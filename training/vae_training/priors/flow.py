"""A normalising flow: standard normal noise to latents, one for one, with a density that can be computed.

Affine coupling layers (Dinh, Sohl-Dickstein and Bengio, Density Estimation using Real NVP, 2017) behind a linear
map that gives the latents their mean and covariance:

    noise (D) -> coupling x 6 -> triangular matrix, mean -> latent (D)

A coupling changes one half of the numbers, by a shift and a scale that a small network draws from the other half,
and swaps the halves. Going to latents takes no more than matrix products and pointwise functions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_LAYERS = 6
_HIDDEN = 64
_MOST_STRETCH = 2.0  # bound of the logarithm of a coupling's scale, so that no layer can blow up


class Flow(nn.Module):
    """The flow, in both directions."""

    mean: Tensor
    factor: Tensor

    def __init__(self, latent_size: int) -> None:
        """Begin as the standard normal itself; `latent_size` is at least 2."""
        super().__init__()
        self.layers = nn.ModuleList(Coupling(latent_size) for _ in range(_LAYERS))
        self.register_buffer("mean", torch.zeros(latent_size))
        self.register_buffer("factor", torch.eye(latent_size))

    @torch.no_grad()
    def begin_with(self, mean: Tensor, covariance: Tensor) -> None:
        """Give the latents this mean (D) and covariance (D, D), as far as they are normal."""
        self.mean.copy_(mean)
        self.factor.copy_(torch.linalg.cholesky(covariance).t())

    def forward(self, noise: Tensor) -> Tensor:
        """(N, D) standard normal to latents (N, D)."""
        for layer in self.layers:
            noise = layer(noise)
        return noise @ self.factor + self.mean

    def log_prob(self, latent: Tensor) -> Tensor:
        """Return the logarithm of the density of latents (N, D), in nats; (N,)."""
        centred = (latent - self.mean).t()
        uncorrelated = torch.linalg.solve_triangular(self.factor.t(), centred, upper=False).t()
        return self.undo_layers(uncorrelated, self.factor.diagonal().log().sum())[1]

    def undo_layers(self, noise: Tensor, log_volume: Tensor) -> tuple[Tensor, Tensor]:
        """Go back through the couplings.

        Args:
            noise: (N, D), what they made.
            log_volume: the logarithm of the Jacobian determinant of all that came after them.

        Returns:
            What they were given, (N, D), and the logarithm of the density of what came out in the end, (N,).
        """
        for layer in reversed(self.layers):
            noise, log_scale = layer.inverse(noise)  # type: ignore[operator]  # a ModuleList holds any modules
            log_volume = log_volume + log_scale
        size = noise.shape[1]
        log_normal: Tensor = -0.5 * (noise * noise).sum(1) - 0.5 * size * math.log(2.0 * math.pi)
        return noise, log_normal - log_volume


class FlowInverse(nn.Module):
    """The way back from latents to noise, and the density, as a module of its own that can be traced."""

    mean: Tensor
    whitening: Tensor
    log_volume: Tensor

    def __init__(self, flow: Flow) -> None:
        """Share the layers of a flow, and turn its matrix round, in float64."""
        super().__init__()
        self.layers, self._undo_layers = flow.layers, flow.undo_layers
        factor = flow.factor.double()
        identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
        whitening = torch.linalg.solve_triangular(factor, identity, upper=True)
        self.register_buffer("mean", flow.mean.clone())
        self.register_buffer("whitening", whitening.to(flow.factor.dtype))
        self.register_buffer("log_volume", factor.diagonal().log().sum().to(flow.factor.dtype))

    def forward(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) to noise (N, D) and the logarithm of the density of the latents (N,), in nats."""
        return self._undo_layers((latent - self.mean) @ self.whitening, self.log_volume)


class Coupling(nn.Module):
    """One half scaled and shifted as the other half says, and the halves swapped."""

    def __init__(self, size: int) -> None:
        """Begin as nothing but the swap."""
        super().__init__()
        self.kept, self.changed = size // 2, size - size // 2
        self.network = nn.Sequential(
            nn.Linear(self.kept, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, 2 * self.changed),
        )
        last = self.network[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]  # a Sequential holds any modules
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, given: Tensor) -> Tensor:
        """(N, size) to (N, size), towards latents."""
        # Sliced: ONNX has no way to split that all its versions know.
        kept, changed = given[:, : self.kept], given[:, self.kept :]
        log_scale, shift = self._scale_and_shift(kept)
        return torch.cat([changed * log_scale.exp() + shift, kept], dim=1)

    def inverse(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `forward`; return what it was given, and the logarithm of its Jacobian determinant there, (N,)."""
        changed, kept = given[:, : self.changed], given[:, self.changed :]
        log_scale, shift = self._scale_and_shift(kept)
        return torch.cat([kept, (changed - shift) * (-log_scale).exp()], dim=1), log_scale.sum(1)

    def _scale_and_shift(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        drawn = self.network(kept)
        log_scale, shift = drawn[:, : self.changed], drawn[:, self.changed :]
        return _MOST_STRETCH * torch.tanh(log_scale / _MOST_STRETCH), shift
