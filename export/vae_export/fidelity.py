"""What the card says of a lower precision: how near it is to float32, on data that it was not made for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from vae_export.coders import Coders
from vae_export.quality import psnr
from vae_runtime.images import to_float
from vae_runtime.latent import noise
from vae_runtime.model import Model

ROWS = 256
_SEED = 20_220_915


@torch.no_grad()
def measure_fidelity(
    reference: Coders, model: Model, pictures: npt.NDArray[np.uint8], prior: nn.Module | None = None
) -> dict[str, float]:
    """Return figures by name.

    Args:
        reference: in evaluation mode, float32, on the CPU.
        model: the opened bundle, or a first draft of it.
        pictures: (N, H, W) or (N, H, W, C) uint8, real images.
        prior: noise to latents, on the CPU; None where it is the standard normal.

    Returns:
        `psnr_db` and `lowest_psnr_db`: of new pictures, from noise through prior and decoder, 10 log10(1 / MSE)
        against float32 from the same noise, the mean over the pictures and the worst of them. `mean_largest`,
        `mean_average`, `logvar_largest` and `logvar_average`: absolute differences of what real images are encoded
        to.
    """
    drawn = torch.from_numpy(noise(ROWS, reference.config.latent_size, _SEED))
    expected = reference.decoder(drawn if prior is None else prior(drawn)).numpy()
    decoded = psnr(expected, model.decode(model.sample_latents(ROWS, seed=_SEED)))
    figures = {"psnr_db": float(decoded.mean()), "lowest_psnr_db": float(decoded.min())}
    images = to_float(pictures[np.unique(np.linspace(0, len(pictures) - 1, ROWS).astype(int))])
    found, exact = model.encode(images), reference.encoder(torch.from_numpy(images))
    for name, ours, theirs in zip(("mean", "logvar"), found, exact, strict=True):
        gap = np.abs(ours.astype(np.float64) - theirs.numpy())
        figures |= {f"{name}_largest": float(gap.max()), f"{name}_average": float(gap.mean())}
    return {name: float(f"{figure:.4g}") for name, figure in figures.items()}
