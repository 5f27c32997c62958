"""How alike two sets of images are, as sets: by features (N, F) of either.

- Frechet distance of the normal distributions with the sets' means and covariances (Heusel et al., 2017).
- Precision and recall (Kynkaanniemi et al., 2019): the share of one set that lies among the other.
- Density and coverage (Naeem et al., 2020), which a few strays do not sway.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

NEIGHBOURS = 5
"""A set reaches about each of its members as far as to the fifth nearest other one."""


@dataclass(frozen=True)
class Resemblance:
    """Of a set to real images."""

    frechet: float
    """0 for equal sets; with few images larger than of the distributions behind them."""
    precision: float
    """Share of the set that lies where real images are."""
    recall: float
    """Share of the real images that lie where the set is."""
    density: float
    """How densely real images surround the set's: 1 where both are alike."""
    coverage: float
    """Share of the real images with one of the set nearby."""


def measure_resemblance(real: Tensor, others: Tensor) -> Resemblance:
    """Compare two sets by their features, (N, F) and (M, F) float64, of more than five images each."""
    apart = torch.cdist(real, others)  # (N, M)
    reach_of_real, reach_of_others = _reach(real), _reach(others)
    within_real = apart <= reach_of_real[:, None]
    within_others = apart <= reach_of_others[None, :]
    return Resemblance(
        frechet=frechet_distance(real, others),
        precision=_share(within_real.any(0)),
        recall=_share(within_others.any(1)),
        density=float(within_real.double().sum(0).mean()) / NEIGHBOURS,
        coverage=_share(within_real.any(1)),
    )


def frechet_distance(real: Tensor, others: Tensor) -> float:
    """Return |m - n|^2 + tr(S + T - 2 (S T)^1/2) of features (N, F) and (M, F), float64."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=_AsItIs(real.shape[1]))
    metric.update(real, real=True)
    metric.update(others, real=False)
    return max(0.0, float(metric.compute()))  # rounding may take it below


class _AsItIs(nn.Module):
    """Stands where torchmetrics has a network: features are computed already."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _reach(features: Tensor) -> Tensor:
    """Return the distance of each to its fifth nearest other one, (N,)."""
    apart = torch.cdist(features, features)
    return apart.kthvalue(NEIGHBOURS + 1, dim=1).values  # the nearest of all is itself


def _share(are: Tensor) -> float:
    return float(are.double().mean())
