"""Batches cut on the device from one uint8 array that stays there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_COPIED_AT_ONCE = 1024  # images: what is picked is rearranged without a copy of the whole in between


class Batches:
    """Shuffled batches of images, the same for the same seed and epoch.

    The order of an epoch is drawn from the seed and the epoch's number alone, so that a resumed run sees
    what an uninterrupted one would have seen. Every batch has the same size, as compiled code and CUDA
    graphs want it: the last one is filled up from the epoch's beginning, so no image is left out.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        indices: npt.NDArray[np.int64],
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        """Take the images at `indices` of an (N, H, W, C) uint8 array to the device."""
        self.images = to_device(images, indices, device)
        self.batch_size = min(batch_size, len(indices))
        self.seed = seed

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self.images) // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[Tensor]:
        """Yield the batches of an epoch from batch `start` on, each (B, C, H, W) float32 in [0, 1]."""
        order = self._order(number)
        for step in range(start, len(self)):
            picked = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield to_float(self.images[picked])

    def _order(self, epoch: int) -> Tensor:
        generator = np.random.Generator(np.random.PCG64([self.seed, epoch]))
        order = generator.permutation(len(self.images))
        filled = np.resize(order, len(self) * self.batch_size)
        return torch.from_numpy(filled).to(self.images.device)


def to_device(images: npt.NDArray[np.uint8], indices: npt.NDArray[np.int64], device: torch.device) -> Tensor:
    """Copy (N, H, W, C) uint8 images at `indices` to the device as (n, C, H, W) uint8."""
    count, (height, width, channels) = len(indices), images.shape[1:]
    chosen = np.empty((count, channels, height, width), np.uint8)
    for start in range(0, count, _COPIED_AT_ONCE):
        piece = slice(start, start + _COPIED_AT_ONCE)
        chosen[piece] = np.moveaxis(images[indices[piece]], -1, 1)
    return torch.from_numpy(chosen).to(device)


def to_float(images: Tensor) -> Tensor:
    """(N, C, H, W) uint8 to float32 in [0, 1]."""
    return images.to(torch.float32).div_(255.0)
