"""What the card says of the model's quality: figures on images that were held out of its training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vae_runtime.images import to_float
from vae_runtime.model import Model

if TYPE_CHECKING:
    from vae_export.source import Source

_FROM_METRICS = ("validation_loss", "validation_reconstruction", "validation_kl")


def measure_quality(source: Source, model: Model, held_out: npt.NDArray[np.uint8]) -> dict[str, float]:
    """Return figures by name: the last validation losses in nats per image, and the PSNR in dB.

    Args:
        source: what is exported.
        model: the opened bundle, or a first draft of it.
        held_out: (N, H, W) or (N, H, W, C) uint8; with none, only what the run has measured is returned.
    """
    quality = {
        name: round(float(source.metrics[name]), 4) for name in _FROM_METRICS if name in source.metrics
    }
    if len(held_out):
        quality["validation_psnr_db"] = round(mean_psnr(to_float(held_out), model.reconstruct(held_out)), 3)
    return quality


def mean_psnr(images: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> float:
    """Return the mean of `psnr` over the images."""
    return float(psnr(images, others).mean())


def psnr(images: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the peak signal-to-noise ratio of each image, 10 log10(1 / MSE), in dB.

    Both are (N, C, H, W) in [0, 1]. Equal images count as 100 dB.
    """
    squared = np.square(images.astype(np.float64) - others).reshape(len(images), -1).mean(axis=1)
    ratios: npt.NDArray[np.float64] = -10.0 * np.log10(np.maximum(squared, 1e-10))
    return ratios
