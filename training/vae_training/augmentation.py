"""Images changed a little before they are trained on, so that few of them teach as much as more would."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """How much images may be changed; every image of a batch is changed differently."""

    flip: bool = False
    """Each image is mirrored left to right with probability one half."""
    shift: int = 0
    """Pixels by which an image may move along each axis; what is uncovered repeats its edge."""
    brightness: float = 0.0
    """What is added to all pixels of an image, at most, in either direction; pixels stay in [0, 1]."""

    def __bool__(self) -> bool:
        """Tell whether anything is changed."""
        return self != Augmentation()

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(N, C, H, W) float in [0, 1] to the same; all that is random comes from `generator`, on their device."""
        if self.flip:
            chosen = self._draw(images, generator) < 0.5
            images = torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)
        if self.shift:
            images = self._shifted(images, generator)
        if self.brightness:
            change = (2.0 * self._draw(images, generator) - 1.0) * self.brightness
            images = (images + change.view(-1, 1, 1, 1)).clamp(0.0, 1.0)
        return images

    def _shifted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        count, _, height, width = images.shape
        places = [
            self._places(size, count, generator, images.device).view(shape)
            for size, shape in ((height, (count, 1, height, 1)), (width, (count, 1, 1, width)))
        ]
        rows, columns = (place.expand_as(images) for place in places)
        return images.gather(2, rows).gather(3, columns)

    def _places(self, size: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """Return where each of `size` pixels of each image comes from, along one axis; (count, size)."""
        moves = torch.randint(-self.shift, self.shift + 1, (count, 1), generator=generator, device=device)
        return (torch.arange(size, device=device) + moves).clamp(0, size - 1)

    @staticmethod
    def _draw(images: Tensor, generator: torch.Generator) -> Tensor:
        return torch.rand(len(images), generator=generator, device=images.device)
