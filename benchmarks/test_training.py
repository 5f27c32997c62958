"""An epoch of `vae_training` against an epoch of the textbook's loop, in turns, and where both arrive."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from measuring.limit import LIMIT, limit_row, matrix_product
from measuring.machine import require_device
from measuring.promises import TRAINING
from measuring.rows import Row
from measuring.training import Contestant, Pictures, Weights, train_plainly, train_with_ours
from measuring.turns import time_of
from vae_training.batches import to_device, to_float
from vae_training.config import Config, DataConfig, TrainingConfig
from vae_training.costs import decoder_multiply_adds, encoder_multiply_adds
from vae_training.data import ImageSet
from vae_training.kl_shaping import kl_per_latent
from vae_training.likelihood import bernoulli_nll
from vae_training.model import VAE
from vae_training.objective import beta_vae_loss

if TYPE_CHECKING:
    from conftest import Record

_IMAGES = 5952  # a whole number of batches: a Trainer fills the last one up, the plain loop does not
_EPOCHS = 5
_PASSES = 3  # one forward, and the backward one, which costs twice as much
_WARM_UP = 2  # epochs in which libraries choose their algorithms: trained, not timed


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_training(device: str, faces: ImageSet, record: Record, benchmark: BenchmarkFixture) -> None:
    require_device(device, onnxruntime=False)
    pictures = faces.images[:_IMAGES]
    config = Config(
        data=DataConfig(validation=0.0),
        training=TrainingConfig(epochs=_EPOCHS, device=device),
    )
    contestants = {
        "vae_training": Contestant(train_with_ours, config, pictures),
        "plain loop": Contestant(train_plainly, config, pictures),
    }
    multiply = matrix_product(device)
    seconds: dict[str, list[float]] = {name: [] for name in (*contestants, LIMIT)}

    def take_turns() -> None:
        for _ in range(_EPOCHS):
            for name, contestant in contestants.items():
                seconds[name].append(contestant.train_epoch())
            seconds[LIMIT].append(min(time_of(multiply) for _ in range(5)))

    benchmark.pedantic(take_turns, rounds=1)  # type: ignore[no-untyped-call]  # pytest-benchmark leaves it untyped

    losses = {
        name: loss_of(contestant.weights(), pictures, config, device)
        for name, contestant in contestants.items()
    }
    assert all(map(math.isfinite, losses.values()))
    if not benchmark.enabled:
        return
    for name, loss in losses.items():
        difference = loss / losses["plain loop"] - 1.0
        record(
            Row(
                TRAINING,
                name,
                device,
                seconds[name][_WARM_UP:],
                _IMAGES,
                role="reference" if name == "plain loop" else "measured",
                note=f"loss {loss:.3f} after {config.training.epochs} epochs ({difference:+.2%})",
                facts={"loss": loss, "loss_difference": difference},
            )
        )

    record(
        limit_row(
            seconds[LIMIT][_WARM_UP:],
            multiply_adds=_PASSES
            * (encoder_multiply_adds(config.model) + decoder_multiply_adds(config.model)),
            images=_IMAGES,
            device=device,
            group=TRAINING,
        )
    )


@torch.no_grad()
def loss_of(weights: Weights, pictures: Pictures, config: Config, device: str) -> float:
    """Return the loss on all images, in nats an image, with the same noise for every model."""
    model = VAE(config.model).to(device)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    image = to_float(to_device(pictures, np.arange(len(pictures)), torch.device(device)))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((len(image), config.model.latent_size), generator=generator).to(device)
    logits, mean, logvar = model(image, noise)
    nll, kl = bernoulli_nll(logits, image), kl_per_latent(mean, logvar)
    return float(beta_vae_loss(nll, kl, config.training.beta).total)
