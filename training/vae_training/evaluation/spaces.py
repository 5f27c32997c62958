"""Spaces in which sets of images are compared, none of them known to any training.

- `drawn`: what a small network sees that tells the factors of drawn faces; it knows what makes up a face.
- `gradients`: how strong edges are, by direction, in each part of an image: histograms of oriented gradients (Dalal
  and Triggs, 2005), without the normalisation that would hide blur.
- `random`: a convolutional network of random weights, always the same, whose answers depend on colour and texture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor

from vae_runtime.images import Images
from vae_training.evaluation.factor_network import FEATURES, SIDE, load_factor_network

_AT_ONCE = 512  # images
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow turns colour into gray
_DIRECTIONS = 8
_CELLS = 4  # along each side
_RANDOM_SEED = 5_000
_RANDOM_FILTERS = (32, 64)


@dataclass(frozen=True)
class Space:
    """One space: (N, C, H, W) images in [0, 1], C 1 or 3, to (N, F) features, float32 tensors both."""

    name: str
    features: int
    look: Callable[[Tensor], Tensor]

    @torch.inference_mode()
    def __call__(self, images: Images) -> Tensor:
        """(N, C, H, W) float32 array in [0, 1] to (N, F) float64."""
        return torch.cat([self.look(piece) for piece in _pieces(images)]).double()


def _pieces(images: Images) -> Iterator[Tensor]:
    yield from torch.split(torch.from_numpy(images), _AT_ONCE)


@cache
def spaces() -> tuple[Space, ...]:
    """Return all spaces."""
    return (
        Space("drawn", FEATURES, _look_as_at_drawn_faces()),
        Space("gradients", _DIRECTIONS * _CELLS**2, look_at_gradients),
        Space("random", 2 * _RANDOM_FILTERS[1], look_at_random),
    )


def to_gray(images: Tensor) -> Tensor:
    """(N, C, H, W) to (N, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _look_as_at_drawn_faces() -> Callable[[Tensor], Tensor]:
    network = load_factor_network()

    def look(images: Tensor) -> Tensor:
        gray = to_gray(images)
        if gray.shape[2:] != (SIDE, SIDE):
            gray = F.interpolate(gray, (SIDE, SIDE), mode="bilinear", antialias=True)
        return network.features(gray)

    return look


def look_at_gradients(images: Tensor) -> Tensor:
    """Return the mean strength of edges of 8 directions in each of 4x4 cells: (N, C, H, W) to (N, 128)."""
    gray = to_gray(images)
    across = gray[:, :, 1:-1, 2:] - gray[:, :, 1:-1, :-2]
    down = gray[:, :, 2:, 1:-1] - gray[:, :, :-2, 1:-1]
    strength = (across.square() + down.square()).sqrt()
    # Of an edge from dark to bright as of one from bright to dark; shared between the two nearest directions.
    direction = torch.atan2(down, across).remainder(math.pi) * (_DIRECTIONS / math.pi)
    centres = torch.arange(_DIRECTIONS, dtype=gray.dtype).view(1, -1, 1, 1)
    apart = (direction - centres).abs()
    share = (1.0 - torch.minimum(apart, _DIRECTIONS - apart)).clamp_min(0.0)
    return F.adaptive_avg_pool2d(strength * share, _CELLS).flatten(1)


def look_at_random(images: Tensor) -> Tensor:
    """Return mean and deviation over the image of 64 random filters of 32 random filters: (N, C, H, W) to (N, 128)."""
    first, second = _random_weights(images.shape[1])
    hidden = F.relu(F.conv2d(images - 0.5, first))
    hidden = F.relu(F.conv2d(F.avg_pool2d(hidden, 2, ceil_mode=True), second, padding=1))
    return torch.cat([hidden.mean((2, 3)), hidden.std((2, 3))], 1)


@cache
def _random_weights(channels: int) -> tuple[Tensor, Tensor]:
    draws = np.random.default_rng(_RANDOM_SEED)
    few, many = _RANDOM_FILTERS
    shapes = ((few, channels, 5, 5), (many, few, 3, 3))
    drawn = [draws.standard_normal(shape) * math.sqrt(2.0 / math.prod(shape[1:])) for shape in shapes]
    first, second = (torch.from_numpy(weights.astype(np.float32)) for weights in drawn)
    return first, second
