"""The folder of one run, and what lies where in it."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vae_runtime.atomic import atomic_file
from vae_training.config import Config
from vae_training.errors import ConfigError

CONFIG = "config.toml"


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

    def refuse_used(self) -> None:
        """Raise `ConfigError` where there is something in the folder already."""
        if self.path.exists() and (not self.path.is_dir() or self._holds_more_than_settings()):
            raise ConfigError(
                f"{self.path} exists and is not empty; give another folder with -o, "
                f"or go on with that run: vae-train --resume {shlex.quote(str(self.path))}"
            )

    def _holds_more_than_settings(self) -> bool:
        """Tell whether a run has got as far as its first checkpoint here; one that has not can be begun anew."""
        return any(path.name != CONFIG for path in self.path.iterdir())

    def write_config(self, config: Config) -> None:
        """Write the settings."""
        with atomic_file(self.config) as beside:
            beside.write_text(config.to_toml(), encoding="utf-8")

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the metrics of the epochs so far; a line cut short by a crash ends the list."""
        rows: list[dict[str, Any]] = []
        if self.metrics.exists():
            for line in self.metrics.read_text(encoding="utf-8").splitlines():
                try:
                    rows.append(json.loads(line))
                except ValueError:
                    break
        return rows

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the metrics anew: after a resume no epoch stands twice."""
        with atomic_file(self.metrics) as beside:
            beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def next_free_folder(parent: Path, name: str) -> Path:
    """Return the first of name-1, name-2, ... that does not exist yet."""
    return next(path for number in itertools.count(1) if not (path := parent / f"{name}-{number}").exists())
