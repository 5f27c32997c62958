"""How far drawn images are from photographs, in what blur takes away and in what they show on the whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

_CELLS = 6  # along each side
_LEAST_DETAIL = 1e-4  # of a cell, so that the logarithm of an empty one stays finite


def detail_distance(photographs: Tensor, drawn: Tensor) -> float:
    """Return the Frechet distance, at least 0, of two sets of images, (N, C, H, W) and (M, C, H, W) in [0, 1].

    Each image is described by two numbers for each of 6x6 cells: its mean brightness, and its detail, the logarithm
    of the root mean square of what a 3x3 box blur takes away. The distance is that of the normal distributions with
    the means and covariances of these features (Dowson and Landau, The Frechet Distance between Multivariate Normal
    Distributions, 1982).
    """
    first, second = _features(photographs).double(), _features(drawn).double()
    covariance, other = first.t().cov(correction=0), second.t().cov(correction=0)
    # The trace of (S T)^1/2 by way of the symmetric S^1/2 T S^1/2, whose eigenvalues are accurate.
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp_min(0.0).sqrt()) @ vectors.t()
    shared = torch.linalg.eigvalsh(root @ other @ root).clamp_min(0.0).sqrt().sum()
    means = (first.mean(0) - second.mean(0)).square().sum()
    return max(0.0, float(means + covariance.trace() + other.trace() - 2.0 * shared))


def _features(images: Tensor) -> Tensor:
    gray = images.mean(1, keepdim=True)
    around = F.avg_pool2d(F.pad(gray, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    detail = F.adaptive_avg_pool2d((gray - around).square(), _CELLS)
    brightness = F.adaptive_avg_pool2d(gray, _CELLS)
    return torch.cat([brightness.flatten(1), 0.5 * (detail + _LEAST_DETAIL**2).log().flatten(1)], dim=1)
