"""An epoch of `vae_training` against an epoch of the textbook's loop, in turns, and where both arrive."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from measuring.limit import LIMIT, limit_row, matrix_product
from measuring.machine import require_device
from measuring.plain_loop import PlainLoop
from measuring.promises import TRAINING
from measuring.rows import Row
from measuring.turns import time_of
from vae_training.batches import to_device, to_float
from vae_training.config import Config, DataConfig, TrainingConfig
from vae_training.costs import training_flop
from vae_training.data import ImageSet
from vae_training.kl_shaping import kl_per_latent
from vae_training.likelihood import bernoulli_nll
from vae_training.loop import Trainer
from vae_training.model import VAE
from vae_training.objective import beta_vae_loss
from vae_training.progress import Observer
from vae_training.run_folder import RunFolder

if TYPE_CHECKING:
    from conftest import Record

_IMAGES = 5952  # a whole number of batches: a Trainer fills the last one up, the plain loop does not
_EPOCHS = 6
_WARM_UP = 2  # epochs in which libraries choose their algorithms: trained, not timed


class PlainLoopBetween(Observer):
    """Trains an epoch of the plain loop after every epoch of the Trainer that it observes."""

    def __init__(self, plain: PlainLoop, device: str) -> None:
        """Keep the loop, and the times."""
        self.plain = plain
        self.multiply = matrix_product(device)
        self.seconds: dict[str, list[float]] = {"vae_training": [], "plain loop": [], LIMIT: []}

    def epoch_ended(self, metrics: Mapping[str, Any]) -> None:
        """Note the Trainer's time, and let the other train."""
        self.seconds["vae_training"].append(metrics["seconds"])
        seconds, _ = self.plain.train_epoch()
        self.seconds["plain loop"].append(seconds)
        self.seconds[LIMIT].append(min(time_of(self.multiply) for _ in range(5)))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_training(
    device: str, faces: ImageSet, record: Record, benchmark: BenchmarkFixture, tmp_path: Path
) -> None:
    require_device(device, onnxruntime=False)
    some = ImageSet(faces.images[:_IMAGES], None, faces.name, faces.source)
    config = Config(
        data=DataConfig(validation=0.0),
        training=TrainingConfig(epochs=_EPOCHS, device=device, compile="off"),
    )
    plain = PlainLoop(config, some.images, device)
    between = PlainLoopBetween(plain, device)
    trainer = Trainer(config, some, RunFolder(tmp_path / "run"), between)

    metrics = benchmark.pedantic(trainer.run, rounds=1)  # type: ignore[no-untyped-call]  # pytest-benchmark leaves it untyped

    assert all(math.isfinite(row["loss"]) for row in metrics)
    losses = {
        "vae_training": loss_of(trainer.model, some.images, config, device),
        "plain loop": loss_of(plain.model, some.images, config, device),
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
                between.seconds[name][_WARM_UP:],
                _IMAGES,
                role="reference" if name == "plain loop" else "measured",
                note=f"loss {loss:.3f} after {config.training.epochs} epochs ({difference:+.2%})",
                facts={"loss": loss, "loss_difference": difference},
            )
        )

    record(
        limit_row(
            between.seconds[LIMIT][_WARM_UP:],
            multiply_adds=int(training_flop(config.model) / 2),
            images=_IMAGES,
            device=device,
            group=TRAINING,
        )
    )


@torch.no_grad()
def loss_of(model: VAE, pictures: npt.NDArray[np.uint8], config: Config, device: str) -> float:
    """Return the loss on all images, in nats an image, with the same noise for every model."""
    image = to_float(to_device(pictures, np.arange(len(pictures)), torch.device(device)))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((len(image), config.model.latent_size), generator=generator).to(device)
    logits, mean, logvar = model(image, noise)
    nll, kl = bernoulli_nll(logits, image), kl_per_latent(mean, logvar)
    return float(beta_vae_loss(nll, kl, config.training.beta).total)
