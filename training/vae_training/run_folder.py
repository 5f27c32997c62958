"""The folder of one run, and what lies where in it."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_runtime.atomic import atomic_file, disk_errors_explained, folder_made
from vae_runtime.locks import taken
from vae_runtime.scratch import sweep
from vae_runtime.strict_json import parse_json
from vae_training.checkpoint import STATE, Checkpoint, list_checkpoints, load_checkpoint, newest_checkpoint
from vae_training.config import Config
from vae_training.errors import CheckpointError, ConfigError, FolderInUseError
from vae_training.tensor_files import read_file

_log = logging.getLogger(__name__)

CONFIG = "config.toml"
LOCK = ".lock"

_HIDDEN = ".tmp-"  # what a process that was killed while it wrote leaves behind
_LARGEST_METRICS = 256 << 20  # bytes; a row has about 400
_LARGEST_LOCK = 300  # bytes


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run, and its log of metrics."""

    path: Path

    @property
    def config(self) -> Path:
        """Every setting of the run; `vae-train --config` takes it."""
        return self.path / CONFIG

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """One JSON object a line and epoch."""
        return self.path / "metrics.jsonl"

    @property
    def loss_curve(self) -> Path:
        """The plot of the losses."""
        return self.path / "loss.png"

    def sheet(self, epoch: int) -> Path:
        """Samples after an epoch, always from the same noise."""
        return self.path / "samples" / f"epoch-{epoch:04d}.png"

    @property
    def reconstructions(self) -> Path:
        """Held-out images, each left of its reconstruction, after the last epoch."""
        return self.path / "reconstructions.png"

    @property
    def lock(self) -> Path:
        """Locked by the process that trains here, and says which it is; gone when it ends."""
        return self.path / LOCK

    def refuse_in_use(self) -> None:
        """Raise `FolderInUseError` where another process trains in the folder at this moment."""
        if self.lock.exists():
            with disk_errors_explained(self.path), taken(self.lock) as held:
                if held is None:
                    raise self._in_use()

    def refuse_used(self) -> None:
        """Raise `ConfigError` where there is something in the folder already."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ConfigError(f"{self.path} is not a folder; expected the name of a new run's folder with -o")
        if self._holds_more_than_settings():
            go_on = f", or go on with that run: vae-train --resume {shlex.quote(str(self.path))}"
            raise ConfigError(
                f"{self.path} exists and is not empty; give another folder with -o{go_on if self._is_run() else ''}"
            )

    def _holds_more_than_settings(self) -> bool:
        """Tell whether a run has got as far as its first epoch here; one that has not can be begun anew."""
        return any(
            path.name not in (CONFIG, LOCK) and not path.name.startswith(_HIDDEN)
            for path in self.path.iterdir()
        )

    def require_run(self) -> None:
        """Raise `CheckpointError` where there is nothing in the folder to go on with."""
        if not self._is_run():
            problem = "no checkpoint" if self.path.is_dir() else "no such folder"
            raise CheckpointError(
                f"{self.path}: {problem}; expected a folder that vae-train wrote, with checkpoints/step-* in it"
            )

    def _is_run(self) -> bool:
        return self.config.is_file() or self.checkpoints.is_dir()

    def is_unbegun(self) -> bool:
        """Tell whether a run was stopped here before its first checkpoint, so that all there is are settings."""
        return self.config.is_file() and not list_checkpoints(self.checkpoints)

    def tidy(self) -> None:
        """Delete what killed processes left half written, and put back what they had moved aside."""
        for folder in (self.path, self.checkpoints, self.sheet(0).parent):
            sweep(folder)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder while the block runs; it is made where missing.

        The lock goes with the process, whatever ends it: there are no stale locks.

        Raises:
            FolderInUseError: another process has it; the message says which.
            EnvironmentProblem: the folder cannot be written to.
        """
        with contextlib.ExitStack() as stack:
            with disk_errors_explained(self.path):
                stack.enter_context(folder_made(self.path))
                held = stack.enter_context(taken(self.lock))
                if held is None:
                    raise self._in_use()
                os.ftruncate(held.descriptor, 0)
                os.write(held.descriptor, f"{os.getpid()} {platform.node()}\n".encode())
            if not held.certain:
                _log.warning(
                    "%s: the file system knows no locks; do not train here with two processes", self.path
                )
            yield

    @contextlib.contextmanager
    def locked_unused(self) -> Iterator[None]:
        """Lock it, as `locked` does, for a new run.

        Raises:
            FolderInUseError, EnvironmentProblem: as of `locked`.
            ConfigError: there is something in it already.
        """
        with self.locked():
            self.refuse_used()
            yield

    def _in_use(self) -> FolderInUseError:
        try:
            number, host = read_file(self.lock, _LARGEST_LOCK).decode().split(maxsplit=1)
            who = f"process {int(number)} on {host.strip()}"
        except (CheckpointError, ValueError):  # it has just begun, or just ended
            who = "another process"
        return FolderInUseError(
            f"{self.path}: {who} is training in it; wait for its end, or give another folder with -o"
        )

    def write_config(self, config: Config) -> None:
        """Write the settings."""
        with atomic_file(self.config) as beside:
            beside.write_text(config.to_toml(), encoding="utf-8")

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the metrics of the epochs so far, in their order; a line that is damaged is left out, with a warning.

        Raises:
            CheckpointError: there are some, but they cannot be read.
        """
        rows: list[dict[str, Any]] = []
        if not os.path.lexists(self.metrics):
            return rows
        for number, line in enumerate(read_file(self.metrics, _LARGEST_METRICS).splitlines(), start=1):
            try:
                rows.append(_row(line, rows))
            except ValueError as error:
                _log.warning("%s: line %d is damaged (%s); it is left out", self.metrics, number, error)
        return rows

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the metrics anew: after a resume no epoch stands twice."""
        with atomic_file(self.metrics) as beside:
            beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _row(line: bytes, before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Read one line: numbers by name, the same names in every line, and the epochs in their order.

    Raises:
        ValueError: it is something else.
    """
    row = parse_json(line)
    if not isinstance(row, dict) or not all(type(value) in (int, float) for value in row.values()):
        raise ValueError("expected numbers by name")
    first = before[-1]["epoch"] + 1 if before else 1
    if type(row.get("epoch")) is not int or row["epoch"] < first:
        raise ValueError(f"expected epoch {first} or a later one")
    if not {"loss", "reconstruction", "kl"} <= row.keys() or (before and row.keys() != before[0].keys()):
        raise ValueError("a loss is missing")
    return row


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint, or the newest that is whole of a run's folder.

    Raises:
        CheckpointError: it is neither, or damaged.
    """
    if (path / STATE).is_file():
        return load_checkpoint(path)
    folder = RunFolder(path)
    folder.require_run()
    return newest_checkpoint(folder.checkpoints)


@contextlib.contextmanager
def next_free_folder_locked(parent: Path, name: str) -> Iterator[RunFolder]:
    """Lock the next free folder while the block runs: of processes that begin together, each gets one of its own.

    Raises:
        EnvironmentProblem: it cannot be made.
    """
    while True:
        folder = RunFolder(next_free_folder(parent, name))
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(folder.locked_unused())
            except (FolderInUseError, ConfigError):  # another process was quicker
                continue
            yield folder
            return


def next_free_folder(parent: Path, name: str) -> Path:
    """Return the first of name-1, name-2, ... that does not exist yet."""
    return next(path for number in itertools.count(1) if not (path := parent / f"{name}-{number}").exists())
