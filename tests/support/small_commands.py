"""`vae-train` with options for a run that takes no time, and what it leaves behind, compared."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from vae_training.checkpoint import newest_checkpoint
from vae_training.run_folder import RunFolder

VAE_TRAIN = "from vae_training.cli import main; main()"
# Of a run that takes no time: five steps of eight 8x8 images an epoch.
SMALL = (
    "--data", "bars.npy", "--filters", "3,4", "--latent-size", 2, "--batch-size", 8, "--epochs", 2,
    "--seed", 7, "--device", "cpu",
)  # fmt: skip


def weights(run: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(
        newest_checkpoint(RunFolder(run).checkpoints).path / "model.safetensors"
    )


def same_weights(a: Path, b: Path) -> bool:
    ours, theirs = weights(a), weights(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
