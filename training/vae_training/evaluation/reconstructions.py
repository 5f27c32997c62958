"""How near reconstructions come to what was given: PSNR and SSIM, by torchmetrics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vae_runtime.images import Images

_EQUAL = 100.0  # dB that equal images count as
_WIDE, _NARROW = 1.5, 0.8  # standard deviation of SSIM's window: of 11 pixels, and of 7
_LARGE_ENOUGH = 16  # pixels, for the wide one
_AT_ONCE = 1 << 16  # numbers; for each of them SSIM takes some 4 kB


@dataclass(frozen=True)
class Nearness:
    """Means over images."""

    psnr: float
    """Peak signal-to-noise ratio in dB; equal images count as 100."""
    ssim: float
    """Structural similarity (Wang et al., 2004), 1 for equal images."""


def measure_nearness(images: Images, others: Images) -> Nearness:
    """Compare (N, C, H, W) float32 images in [0, 1] with others, one by one."""
    size = max(1, _AT_ONCE // images[0].size)
    pairs = zip(*(torch.split(torch.from_numpy(each), size) for each in (images, others)), strict=True)
    ratios, similarity = map(torch.cat, zip(*(_of_each(*pair) for pair in pairs), strict=True))
    return Nearness(float(ratios.mean()), float(similarity.mean()))


def _of_each(images: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ratio, at most that of equal images, and the similarity of each image to the other; (N,) each."""
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    ours, theirs = images.double(), others.double()
    ratios: Tensor = peak_signal_noise_ratio(theirs, ours, data_range=1.0, reduction="none", dim=(1, 2, 3))
    sigma, border = (_WIDE, 5) if min(images.shape[2:]) >= _LARGE_ENOUGH else (_NARROW, 3)
    similarity = structural_similarity_index_measure(
        theirs, ours, sigma=sigma, data_range=1.0, reduction="none", return_full_image=True
    )[1]
    # As published: where the window lies inside of the image.
    inside = similarity[..., border:-border, border:-border]
    return ratios.clamp_max(_EQUAL), inside.mean((1, 2, 3))
