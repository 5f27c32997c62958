"""Sheets of pictures that show what a model has learnt so far."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from vae_runtime.atomic import atomic_file
from vae_runtime.cli.png import enlarge, save_png
from vae_runtime.images import to_uint8
from vae_runtime.latent import noise
from vae_runtime.tiling import grid
from vae_training.batches import to_float
from vae_training.model import VAE

SHEET = (8, 8)  # rows and columns
PAIRS = (8, 4)
_SEED = 0
_WIDTH = 768  # pixels that a sheet should about have, so that it can be looked at


@torch.no_grad()
def write_sample_sheet(path: Path, model: VAE, device: torch.device, prior: nn.Module | None = None) -> None:
    """Write a sheet of samples as PNG. The noise is always the same, so that epochs can be compared."""
    latents = torch.from_numpy(noise(SHEET[0] * SHEET[1], model.config.latent_size, _SEED)).to(device)
    _write(path, model.decoder(prior(latents) if prior else latents), columns=SHEET[1])


@torch.no_grad()
def write_reconstruction_sheet(path: Path, model: VAE, images: Tensor) -> None:
    """Write images, each left of its reconstruction from the posterior mean, as PNG.

    Args:
        path: the file.
        model: on the images' device.
        images: (n, C, H, W) uint8; the first 32 are shown.
    """
    originals = to_float(images[: PAIRS[0] * PAIRS[1]])
    mean, _ = model.encoder(originals)
    pairs = torch.cat([originals, model.decoder(mean)], dim=3)
    _write(path, pairs, columns=PAIRS[1])


def _write(path: Path, images: Tensor, columns: int) -> None:
    """Write (N, C, H, W) images in [0, 1] as one PNG of as many rows as they take, enlarged where they are small."""
    picture = grid(to_uint8(images.float().cpu().numpy()), columns=columns)
    factor = max(1, _WIDTH // picture.shape[1])
    with atomic_file(path) as beside:
        save_png(beside, enlarge(picture, factor))
