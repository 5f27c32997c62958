"""How far drawn images are from photographs, in what blur takes away and in what they show on the whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

_CELLS = 6  # along each side
_DARKEST = 1e-4  # of a cell's detail, so that its logarithm says something


def detail_distance(photographs: Tensor, drawn: Tensor) -> float:
    """Return the Frechet distance of two sets of images, (N, C, H, W) and (M, C, H, W) in [0, 1], of 0 and more.

    Of the normal distributions with the means and covariances of: how bright each of 6x6 cells of an image is, and
    how much detail is in it, as the logarithm of the root mean square of the image's Laplacian there. (The distance
    is that of Dowson and Landau, The Frechet Distance between Multivariate Normal Distributions, 1982.)
    """
    first, second = _features(photographs).double(), _features(drawn).double()
    covariance, other = first.t().cov(correction=0), second.t().cov(correction=0)
    # The trace of the root of their product, from matrices that are symmetric: those have eigenvalues to the last bit.
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
    return torch.cat([brightness.flatten(1), 0.5 * (detail + _DARKEST**2).log().flatten(1)], dim=1)
