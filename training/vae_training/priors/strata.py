"""One standard normal number that chooses among components and stays standard normal.

The line is cut at thresholds into strata, of which each has the probability of one component. A number chooses the
component in whose stratum it lies; its place within the stratum, taken for a probability and sent through the
normal quantile function, is standard normal again, and independent of the choice.

The choice compares numbers with thresholds and computes nothing before that, so that it is the same on every
machine. A probability is integrated from the nearer end of the stratum, and so is exact where it is small: in
float32 as well, and in the tails. Nothing but standard operators of ONNX is used.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

_END = 9.0  # where the outer strata end; what lies beyond counts as lying there
_NODES = 24  # of the quadrature: relative errors are those of float32 on intervals of this length
_LEAST = math.exp(-25.0)  # the smallest probability, of 6.66 standard deviations

# PPND7 of Wichura, Algorithm AS 241: The Percentage Points of the Normal Distribution, 1988. Numerators and
# denominators, from the highest power down; within _CENTRE of the median, and further out.
_CENTRE, _CENTRE_SQUARED, _FURTHER = 0.425, 0.180625, 1.6
_NEAR = (
    (5.9109374720e1, 1.5929113202e2, 5.0434271938e1, 3.3871327179),
    (6.7187563600e1, 7.8757757664e1, 1.7895169469e1, 1.0),
)
_FAR = (
    (1.7023821103e-1, 1.3067284816, 2.7568153900, 1.4234372777),
    (1.2021132975e-1, 7.3700164250e-1, 1.0),
)


class Strata(nn.Module):
    """The strata of K components, K at least 2."""

    thresholds: Tensor
    _steps: Tensor
    _first: Tensor
    _places: Tensor
    _nodes: Tensor
    _node_weights: Tensor

    def __init__(self, thresholds: Tensor) -> None:
        """Cut the line at `thresholds`, (K - 1,), of which each is larger than the one before."""
        super().__init__()
        self.register_buffer("thresholds", thresholds)
        count, like = len(thresholds) + 1, thresholds.dtype
        # How many thresholds lie below a number says which stratum it is in: as 0 and 1, (K,) numbers.
        steps = torch.eye(count, dtype=like)[1:] - torch.eye(count, dtype=like)[:-1]
        nodes, node_weights = np.polynomial.legendre.leggauss(_NODES)
        for name, tensor in {
            "_steps": steps,
            "_first": torch.eye(count, dtype=like)[0],
            "_places": self._find_places().to(like),
            "_nodes": torch.from_numpy(nodes).to(like),
            "_node_weights": torch.from_numpy(node_weights)[:, None].to(like),
        }.items():
            self.register_buffer(name, tensor.to(thresholds.device), persistent=False)

    @classmethod
    def of(cls, weights: Tensor) -> Strata:
        """Return the strata of components of these probabilities, (K,), which sum to 1."""
        return cls(torch.special.ndtri(weights.double().cumsum(0)[:-1]).float())

    def weights(self) -> Tensor:
        """Return the probability of each component, (K,) float64."""
        below = torch.special.ndtr(self.thresholds.double().cpu())
        return torch.cat([below, torch.ones(1).double()]) - torch.cat([torch.zeros(1).double(), below])

    def forward(self, number: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1) to what was chosen, (N, K) with a 1 and zeros, and to a number that is standard normal, (N, 1)."""
        chosen = _is_above(number, self.thresholds) @ self._steps + self._first
        return chosen, self._place(number.clamp(-_END, _END), chosen @ self._places)

    def _find_places(self) -> Tensor:
        """Return of each stratum its ends, its median, and the factor that makes integrals probabilities."""
        thresholds, end = self.thresholds.double().cpu(), torch.tensor([_END]).double()
        low, high = torch.cat([-end, thresholds]), torch.cat([thresholds, end])
        weights = self.weights()
        # From the side on which probabilities are small, which a double holds the most digits of.
        side = torch.where(low + high > 0, -1.0, 1.0)
        near, far = torch.minimum(side * low, side * high), torch.maximum(side * low, side * high)
        halfway = 0.5 * (torch.special.ndtr(near) + torch.special.ndtr(far))
        median = side * torch.special.ndtri(halfway)
        factor = 1.0 / (weights * math.sqrt(2.0 * math.pi))
        return torch.stack([low, high, median, factor], dim=1)

    def _place(self, number: Tensor, place: Tensor) -> Tensor:
        low, high, median, factor = (place[:, i : i + 1] for i in range(4))
        is_upper = _is_above(number, median)
        sign = 2.0 * is_upper - 1.0
        end = is_upper * high + (1.0 - is_upper) * low  # the nearer one, as it is
        half = 0.5 * (end - number)
        points = (number + half) + half * self._nodes
        integral = sign * half * (torch.exp(-0.5 * points * points) @ self._node_weights)
        return -sign * normal_quantile((integral * factor).clamp(_LEAST, 0.5))


def _is_above(number: Tensor, threshold: Tensor) -> Tensor:
    """Return 1 where a number is larger, else 0. The allow-list of operators has no comparison."""
    return torch.relu(number - threshold).bool().to(number.dtype)


def normal_quantile(probability: Tensor) -> Tensor:
    """Return the standard normal quantile of probabilities from `_LEAST` to one half."""
    is_far = _is_above(0.5 - probability, torch.full_like(probability[:1], _CENTRE))
    below = probability.clamp_min(0.5 - _CENTRE) - 0.5
    near = below * _ratio(_NEAR, _CENTRE_SQUARED - below * below)
    far = -_ratio(_FAR, torch.sqrt(-torch.log(probability)) - _FURTHER)
    return is_far * far + (1.0 - is_far) * near


def _ratio(polynomials: tuple[tuple[float, ...], tuple[float, ...]], at: Tensor) -> Tensor:
    above, below = (_polynomial(coefficients, at) for coefficients in polynomials)
    return above / below


def _polynomial(coefficients: tuple[float, ...], at: Tensor) -> Tensor:
    """Return the polynomial's value by Horner's rule; the highest power comes first."""
    leading, *others = coefficients
    value = leading * at + others[0]
    for coefficient in others[1:]:
        value = value * at + coefficient
    return value
