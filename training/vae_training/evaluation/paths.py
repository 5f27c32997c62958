"""How smooth interpolations are: whether equal steps in the latent space are equal steps in what is seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 17
"""Images of a path, both ends included."""


@dataclass(frozen=True)
class Smoothness:
    """Of paths in one space; means over paths."""

    mean_step: float
    """Distance from one image to the next."""
    largest_step: float
    """The largest of a path over its mean step: 1 is perfectly even, the number of steps is a jump."""
    detour: float
    """Length of a path over the distance between its ends: 1 is straight."""


def measure_smoothness(paths: Tensor) -> Smoothness:
    """Sum up paths (P, S, F): P paths of S points. Those that do not move count as even and straight."""
    steps = torch.linalg.vector_norm(paths.diff(dim=1), dim=2)  # (P, S - 1)
    mean = steps.mean(1)
    between_ends = torch.linalg.vector_norm(paths[:, -1] - paths[:, 0], dim=1)
    moves = mean > 0
    return Smoothness(
        mean_step=float(mean.mean()),
        largest_step=_mean_ratio(steps.max(1).values[moves], mean[moves]),
        detour=_mean_ratio(steps.sum(1)[moves], between_ends[moves]),
    )


def _mean_ratio(above: Tensor, below: Tensor) -> float:
    return float((above / below.clamp_min(1e-12)).mean()) if len(above) else 1.0
