"""Whether samples are copies: each one's nearest training image, beside how near held-out images come to one.

A copy is nearer to a training image than a third of the way to the next (Yoon et al., Diffusion Probabilistic Models
Generalize when They Fail to Memorize, 2023), or differs from it by less than anybody sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_RATIO = 1.0 / 3.0  # of the two nearest distances
_ROUNDING = 1.0 / 255.0  # of a pixel: a difference that nobody sees


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest images of a bank."""

    index: npt.NDArray[np.int64]
    """(N,) which is the nearest."""
    distance: npt.NDArray[np.float64]
    """(N, 2) to it, and to the next."""


@dataclass(frozen=True)
class Novelty:
    """How near images come to training images, in one space."""

    median: float
    """Of the distances to the nearest training image; in pixels it is a root mean square, pixels being 0 to 1."""
    smallest: float
    copies: int
    """Images equal to a training image: nearer to it than a third of the way to the next one, or not to be told
    from it by eye."""


def nearest(queries: Tensor, bank: Iterable[Tensor]) -> Neighbours:
    """Find the nearest of a bank, given in pieces (M, F), to each of (N, F) float64; two at least in all."""
    best = torch.full((len(queries), 2), torch.inf, dtype=torch.float64)
    index = torch.zeros((len(queries), 2), dtype=torch.int64)
    start = 0
    for piece in bank:
        apart = torch.cdist(queries, piece)
        places = torch.arange(start, start + len(piece)).expand(len(queries), -1)
        best, order = torch.cat([best, apart], 1).topk(2, dim=1, largest=False, sorted=True)
        index = torch.cat([index, places], 1).gather(1, order)
        start += len(piece)
    return Neighbours(index[:, 0].numpy(), best.numpy())


def novelty(neighbours: Neighbours, *, equal_below: float = 0.0) -> Novelty:
    """Sum up neighbours; at a distance of `equal_below` or less two images are equal."""
    first, second = neighbours.distance.T
    copies = (first <= equal_below) | (first < _RATIO * second)
    return Novelty(float(np.median(first)), float(first.min()), int(copies.sum()))


def pixel_novelty(neighbours: Neighbours) -> Novelty:
    """Sum up neighbours whose distances are root mean squares of pixels."""
    return novelty(neighbours, equal_below=_ROUNDING)


def root_mean_square(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) as points (N, P), float64, whose distance is the root mean square of pixels."""
    flat = images.double().flatten(1)
    return flat / math.sqrt(flat.shape[1])
