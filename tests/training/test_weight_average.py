"""The average of the weights follows its formula, and is what a run keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vae_export.sources import load_source
from vae_training.checkpoint import newest_checkpoint
from vae_training.config import Config, ModelConfig
from vae_training.data import ImageSet
from vae_training.interruption import Interrupted
from vae_training.loop import Trainer
from vae_training.model import VAE
from vae_training.progress import Observer
from vae_training.run_folder import RunFolder
from vae_training.weight_average import WeightAverage

Images = Callable[..., ImageSet]
Small = Callable[..., Config]


pytestmark = pytest.mark.usefixtures("no_pictures")


def by_formula(weights: list[Tensor], decay: float) -> np.ndarray:
    """Return the average after all of these weights, the first being those of the beginning; in float64."""
    average = weights[0].double().numpy().copy()
    for step, current in enumerate(weights[1:], start=1):
        share = min(decay, (1 + step) / (10 + step))
        average = share * average + (1 - share) * current.double().numpy()
    return average


@pytest.mark.parametrize("decay", [0.1, 0.5, 0.999])
def test_the_average_is_the_recurrence(decay: float) -> None:
    model = VAE(ModelConfig(8, 8, 1, (2, 3), 2))
    average = WeightAverage(model, decay)
    bias, seen = model.encoder.conv1.bias, [model.encoder.conv1.bias.detach().clone()]
    for step in range(1, 31):
        torch.nn.init.normal_(bias)
        seen.append(bias.detach().clone())
        average.update(model, step)
    np.testing.assert_allclose(
        average.model.encoder.conv1.bias, by_formula(seen, decay), rtol=1e-4, atol=1e-6
    )
    assert torch.equal(bias, seen[-1])  # the model itself is left alone


class Watching(Observer):
    """Notes a weight after every step."""

    def __init__(self) -> None:
        self.trainer: Trainer | None = None
        self.seen: list[Tensor] = []

    def watch(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.note()

    def note(self) -> None:
        assert self.trainer is not None
        self.seen.append(self.trainer.model.decoder.fc.weight.detach().clone())

    def wants_losses(self) -> bool:
        self.note()
        return False


def test_a_run_keeps_measures_and_exports_the_average(bars: Images, small: Small, tmp_path: Path) -> None:
    observer = Watching()
    trainer = Trainer(small(ema=0.8), bars(), RunFolder(tmp_path), observer)
    observer.watch(trainer)
    rows = trainer.run()
    plain = Trainer(small(), bars(), RunFolder(tmp_path / "plain")).run()

    expected = by_formula(observer.seen, 0.8)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    np.testing.assert_allclose(checkpoint.weights["decoder.fc.weight"], expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(checkpoint.training["current.decoder.fc.weight"], observer.seen[-1])
    exported = load_source(tmp_path).model
    assert torch.equal(exported.decoder.fc.weight, checkpoint.weights["decoder.fc.weight"])

    # Training itself is the same; what is measured on held-out images is not.
    assert [row["loss"] for row in rows] == [row["loss"] for row in plain]
    assert all(a["validation_loss"] != b["validation_loss"] for a, b in zip(rows, plain, strict=True))


@pytest.mark.parametrize("stop_after", [2, 7])
def test_a_run_goes_on_with_its_average_and_its_weights_bit_for_bit(
    bars: Images, small: Small, tmp_path: Path, stop_after: int
) -> None:
    class Stopping(Observer):
        left = stop_after

        def wants_losses(self) -> bool:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return False

    config = small(ema=0.9)
    whole = Trainer(config, bars(), RunFolder(tmp_path / "whole")).run()
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        Trainer(config, bars(), RunFolder(tmp_path / "parts"), Stopping(), save_every=1).run()
    folder = RunFolder(tmp_path / "parts")
    rest = Trainer(config, bars(), folder)
    rest.resume(newest_checkpoint(folder.checkpoints))
    rows = rest.run()
    ends = [newest_checkpoint(tmp_path / name / "checkpoints") for name in ("whole", "parts")]
    for kind in ("weights", "training"):
        ours, theirs = (getattr(end, kind) for end in ends)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [row["validation_loss"] for row in rows] == [row["validation_loss"] for row in whole]
