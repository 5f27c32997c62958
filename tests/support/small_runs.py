"""Runs that take no time: trained without their drawings, stopped in between, and compared."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from vae_training import loop
from vae_training.checkpoint import Checkpoint, newest_checkpoint
from vae_training.config import Config
from vae_training.data import ImageSet
from vae_training.loop import Trainer
from vae_training.progress import Observer
from vae_training.run_folder import RunFolder

_LOSSES = ("loss", "reconstruction", "kl", "validation_loss", "validation_reconstruction", "validation_kl")


def leave_out_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs draw neither curve nor sheets, which take most of the time of runs as small as these."""
    for name in ("plot_losses", "write_sample_sheet", "write_reconstruction_sheet"):
        monkeypatch.setattr(loop, name, lambda *_: None)


def make_run(config: Config, images: ImageSet, path: Path) -> Path:
    """Make the folder of a run that is done, as `vae-train` would but for the drawings, and return it."""
    RunFolder(path).write_config(config)
    with pytest.MonkeyPatch.context() as patched:
        leave_out_drawings(patched)
        train(config, images, path)
    return path


def train(
    config: Config, images: ImageSet, path: Path, observer: Observer | None = None
) -> list[dict[str, Any]]:
    """Train a run in a folder, and return its rows of metrics."""
    return Trainer(config, images, RunFolder(path), observer).run()


def resume(
    config: Config, images: ImageSet, path: Path, observer: Observer | None = None
) -> list[dict[str, Any]]:
    """Go on with the run in a folder."""
    trainer = Trainer(config, images, RunFolder(path), observer)
    trainer.resume(last(path))
    return trainer.run()


def last(path: Path) -> Checkpoint:
    """The newest checkpoint of a run's folder."""
    return newest_checkpoint(RunFolder(path).checkpoints)


def same_bits(a: Checkpoint, b: Checkpoint) -> bool:
    """Whether weights, the optimizer's moments and the random state are all equal."""
    return all(
        ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        for ours, theirs in ((a.weights, b.weights), (a.training, b.training))
    )


def losses(rows: list[dict[str, Any]]) -> list[list[float]]:
    return [[row[name] for name in _LOSSES] for row in rows]


class Interrupting(Observer):
    """Sends a signal to this process in the middle of a step of the run."""

    def __init__(self, step: int, number: signal.Signals = signal.SIGINT) -> None:
        self.left, self.number = step, number

    def wants_losses(self) -> bool:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        return False
