"""What a model is given in real life, to find the ranges of its activations with: its own latents, real images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from vae_export.coders import Coders
from vae_export.errors import PrecisionError
from vae_runtime.images import to_float
from vae_runtime.latent import noise

# Enough for ranges that hardly grow with more; fewer of large images, to bound memory.
_MOST_ROWS = 1024
_MOST_PIXELS = 1 << 24
_FEWEST_ROWS = 16

# Not the seed that parity is measured with: a graph is not to be proven on what it was made for.
_SEED = 20_170_612

Array = npt.NDArray[np.float32]


@torch.no_grad()
def calibration_inputs(
    reference: Coders, pictures: npt.NDArray[np.uint8], learned_prior: nn.Module | None = None
) -> dict[str, Array]:
    """Return what each graph is calibrated with, by role.

    Args:
        reference: in evaluation mode, float32, on the CPU.
        pictures: (N, H, W) or (N, H, W, C) uint8, real images, N at least 1.
        learned_prior: noise to latents; None for the standard normal.

    Returns:
        `encoder`: images (M, C, H, W), spread over the set. `decoder`: latents (2 M, D), half of them drawn
        from the prior, half of them drawn from the posteriors of these images.

    Raises:
        PrecisionError: the posteriors of the images are not finite.
    """
    rows = max(_FEWEST_ROWS, min(_MOST_ROWS, _MOST_PIXELS // pictures[0].size))
    picked = np.unique(np.linspace(0, len(pictures) - 1, rows).astype(int))
    images = to_float(pictures[picked])
    prior, errors = noise(2 * rows, reference.config.latent_size, _SEED).reshape(2, rows, -1)
    if learned_prior:
        prior = learned_prior(torch.from_numpy(prior)).numpy()
    mean, logvar = (output.numpy() for output in reference.encoder(torch.from_numpy(images)))
    with np.errstate(over="ignore", invalid="ignore"):
        posterior = mean + errors[: len(images)] * np.exp(0.5 * logvar)
    if not np.isfinite(posterior).all():
        raise PrecisionError(
            f"real images have means and log-variances of up to {max(np.abs(mean).max(), logvar.max()):.3g}, with "
            "latents beyond float32: no trained model, and none to find the ranges of activations with; "
            "export with --precision fp32"
        )
    return {"encoder": images, "decoder": np.concatenate([prior, posterior.astype(np.float32)])}
