"""Sheets of pictures that show what a model has learnt so far."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vae_runtime.atomic import atomic_file
from vae_runtime.cli.pictures import enlarge, save_png
from vae_runtime.grid import grid
from vae_runtime.images import to_uint8
from vae_runtime.latent import noise
from vae_training.model import VAE

SHEET = (8, 8)  # rows and columns
_SEED = 0
_WIDTH = 768  # pixels that a sheet should about have, so that it can be looked at


@torch.no_grad()
def write_sample_sheet(path: Path, model: VAE, device: torch.device) -> None:
    """Write a sheet of samples as PNG. The noise is always the same, so that epochs can be compared."""
    latents = torch.from_numpy(noise(SHEET[0] * SHEET[1], model.config.latent_size, _SEED)).to(device)
    write_sheet(path, to_uint8(_images(model.decoder(latents))))


def write_sheet(path: Path, pictures: npt.NDArray[np.uint8]) -> None:
    """Write (N, H, W) or (N, H, W, C) uint8 pictures as one PNG, enlarged where they are small."""
    factor = max(1, _WIDTH // (SHEET[1] * pictures.shape[2]))
    with atomic_file(path) as beside:
        save_png(beside, enlarge(grid(pictures, *SHEET), factor))


def _images(images: Tensor) -> npt.NDArray[np.float32]:
    return images.float().cpu().numpy()
