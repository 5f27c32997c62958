"""Two ways to train, each in a process of its own, as whoever uses it runs it.

In one process they would not be alone: the allocator learns from the blocks that one of them frees how much memory to
keep for the other's steps, which makes a fifth of their time.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from measuring.plain_loop import PlainLoop
from vae_training.allocator import keep_freed_memory
from vae_training.config import Config
from vae_training.data import ImageSet
from vae_training.loop import Trainer
from vae_training.model import VAE
from vae_training.progress import Observer
from vae_training.run_folder import RunFolder

Pictures: TypeAlias = npt.NDArray[np.uint8]
Weights: TypeAlias = dict[str, npt.NDArray[np.float32]]


class Turns:
    """The other end of a `Contestant`: waits until it is told to train an epoch, and tells how long that took.

    It reports only once the work after the epoch, which is not measured, is done as well: otherwise that would take
    processors from the other one's turn.
    """

    def __init__(self, connection: Connection[Any, Any]) -> None:
        """Keep the connection."""
        self._connection = connection
        self._began = 0.0
        self._seconds: float | None = None

    def begin(self) -> None:
        """Give the turn back, if there was one, and wait for the next."""
        self.give_back()
        self._connection.recv()
        self._began = time.perf_counter()

    def end(self) -> None:
        """Take the time since it began."""
        self._seconds = time.perf_counter() - self._began

    def give_back(self) -> None:
        """Tell how long the epoch took."""
        if self._seconds is not None:
            self._connection.send(self._seconds)
            self._seconds = None


Loop: TypeAlias = Callable[[Turns, Config, Pictures], VAE]


class Contestant:
    """A process that trains an epoch whenever it is asked to."""

    def __init__(self, loop: Loop, config: Config, pictures: Pictures) -> None:
        """Start it on (N, H, W, C) pictures; it is done after the settings' epochs."""
        # A forked one would share this one's memory, and its history.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_compete, args=(theirs, loop, config, pictures), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process is seen here

    def train_epoch(self) -> float:
        """Return the seconds that it took.

        Raises:
            EOFError: the process has ended by an error, which it has printed.
        """
        self._connection.send("train")
        return float(self._connection.recv())

    def weights(self) -> Weights:
        """Return what it has arrived at, after the last epoch; the process ends."""
        weights: Weights = self._connection.recv()
        self._process.join()
        return weights


class _InTurns(Observer):
    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def epoch_began(self, *_: object) -> None:
        self._turns.begin()

    def epoch_ended(self, *_: object) -> None:
        self._turns.end()


def train_with_ours(turns: Turns, config: Config, pictures: Pictures) -> VAE:
    """Train as `vae-train` does."""
    keep_freed_memory()
    with TemporaryDirectory() as folder:
        images = ImageSet(pictures, None, "faces", "measured")
        trainer = Trainer(config, images, RunFolder(Path(folder, "run")), _InTurns(turns))
        trainer.run()
    return trainer.model


def train_plainly(turns: Turns, config: Config, pictures: Pictures) -> VAE:
    """Train as textbooks do."""
    plain = PlainLoop(config, pictures, config.training.device)
    for _ in range(config.training.epochs):
        turns.begin()
        plain.train_epoch()
        turns.end()
    return plain.model


def _compete(connection: Connection[Any, Any], loop: Loop, config: Config, pictures: Pictures) -> None:
    turns = Turns(connection)
    model = loop(turns, config, pictures)
    turns.give_back()
    connection.send({name: value.numpy(force=True) for name, value in model.state_dict().items()})
