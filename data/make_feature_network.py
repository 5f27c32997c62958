"""Train the network whose features `vae-train evaluate` compares faces by, and write its weights.

Usage: python data/make_feature_network.py -o training/vae_training/evaluation/factor_network.safetensors

It learns to tell the factors of faces drawn for this alone, seen lighter, darker, flatter and noisier than they
were drawn. Half precision is enough for what is kept of it. Takes ten minutes on a processor.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from draw_faces import draw_faces
from vae_runtime.atomic import atomic_file
from vae_training.evaluation.factor_network import FactorNetwork
from vae_training.tensor_files import tensors_to_bytes

_SEED = 24_000  # no data set's
_HELD_OUT = 1000
_BATCH = 128
_RATE = 3e-3


def disturbed(images: Tensor, draws: torch.Generator) -> Tensor:
    """Change contrast, brightness and grain of (N, 1, H, W) images in [0, 1], each in its own way."""

    def spread(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((len(images), 1, 1, 1), generator=draws)

    noise = torch.randn(images.shape, generator=draws) * spread(0.0, 0.04)
    return ((images - 0.5) * spread(0.7, 1.3) + 0.5 + spread(-0.1, 0.1) + noise).clamp(0.0, 1.0)


def train(images: Tensor, factors: Tensor, epochs: int) -> FactorNetwork:
    """Train by squared error on (N, 1, 24, 24) images in [0, 1] and their standardised factors (N, F)."""
    torch.manual_seed(_SEED)
    network = FactorNetwork(factors.shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=1e-2)
    steps = epochs * (len(images) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    draws = torch.Generator().manual_seed(_SEED)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=draws)
        for picked in torch.split(order, _BATCH)[: len(images) // _BATCH]:
            optimizer.zero_grad(set_to_none=True)
            told = network(disturbed(images[picked], draws))
            (told - factors[picked]).square().mean().backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Train the feature network of `vae-train evaluate`.")
    parser.add_argument("-n", type=int, default=12_000, help="number of faces to draw (default 12000)")
    parser.add_argument("--epochs", type=int, default=30, help="passes over them (default 30)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .safetensors file to write")
    options = parser.parse_args()
    faces = draw_faces(options.n + _HELD_OUT, _SEED)
    images = torch.from_numpy(faces.images)[:, None].float() / 255.0
    factors = torch.from_numpy(faces.factors)
    factors = (factors - factors.mean(0)) / factors.std(0).clamp_min(1e-6)
    network = train(images[_HELD_OUT:], factors[_HELD_OUT:], options.epochs)
    with torch.no_grad():
        missed = (network(images[:_HELD_OUT]) - factors[:_HELD_OUT]).square().mean(0)
    explained = dict(zip(faces.factor_names, (1.0 - missed).tolist(), strict=True))
    weights = {name: tensor.to(torch.float16) for name, tensor in network.state_dict().items()}
    with atomic_file(options.output) as beside:
        beside.write_bytes(tensors_to_bytes(weights))
    best = sorted(explained, key=lambda name: -explained[name])
    shown = ", ".join(f"{name} {explained[name]:.2f}" for name in best)
    sys.stdout.write(f"share of the variance of each factor of new faces that it tells: {shown}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
