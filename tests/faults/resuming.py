"""A run of training that is killed again and again, beside one that nobody disturbs.

result = resume_after_kills(5)
assert not result.differing
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from killing import WriterServer

# Eleven steps of four 8x8 images an epoch, two epochs of each stage.
RUN = (
    "--data", "images.npy", "--filters", "3,4", "--latent-size", 2, "--batch-size", 4, "--epochs", 2,
    "--schedule", "onecycle", "--likelihood", "gaussian", "--ema", 0.9, "--flip", "--sharpen-epochs", 2,
    "--seed", 7, "--device", "cpu", "--save-every", 4, "-q",
)  # fmt: skip
_TIMES = ("seconds", "images_per_second")


@dataclass
class Resumed:
    """What came of it."""

    kills: int = 0
    steps: list[int] = field(default_factory=list)
    """At which step each life of the run began; 0 for the first, and where nothing was saved yet."""
    differing: list[str] = field(default_factory=list)
    """What is not the same as without the kills."""


def resume_after_kills(
    kills: int, server: WriterServer | None = None, seed: int = 0, *, only_at_calls: bool = False
) -> Resumed:
    """Train, kill it so many times at random moments, go on each time, and compare the ends.

    With `only_at_calls` it is killed at random calls of the file system and never in between, which makes the
    same seed kill at the same moments. The sums of the weights, of their average, of both stages' optimizers' and
    of the random states, the position, and the metrics but for their timing must be those of a run that was never
    killed.
    """
    if server is None:
        with WriterServer() as new_server:
            return resume_after_kills(kills, new_server, seed, only_at_calls=only_at_calls)
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        draws = random.Random(seed)  # noqa: S311 - no secret
        return _train_through(Path(name), kills, server, draws, 1.0 if only_at_calls else 0.5)


def _train_through(
    folder: Path, kills: int, server: WriterServer, draws: random.Random, at_calls: float
) -> Resumed:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 8, 8), np.uint8)
    np.save(folder / "images.npy", pixels)
    undisturbed = server.train(folder, *RUN, "-o", "whole")
    assert undisturbed.code == 0, server.log.read_text()

    result, run = Resumed(), folder / "parts"
    while True:
        result.steps.append(_newest(run))
        resuming = (run / "config.toml").exists()
        arguments = ("--resume", "parts", "-q", "--save-every", 4) if resuming else (*RUN, "-o", "parts")
        how: dict[str, Any] = {}
        if result.kills < kills:
            # Early enough that the rest of the run is left for the other kills.
            share = draws.uniform(0, 2 / (kills - result.kills + 1))
            how = (
                {"kill_at": 1 + int(share * undisturbed.calls)}
                if draws.random() < at_calls
                else {"kill_after": share * undisturbed.seconds}
            )
        ended = server.train(folder, *arguments, **how)
        assert ended.code in (0, -9), f"{arguments}: {ended.code}\n{server.log.read_text()}"
        if ended.code == 0:
            break
        result.kills += 1
    whole, parts = sums(folder / "whole"), sums(run)
    result.differing = [name for name in {**whole, **parts} if whole.get(name) != parts.get(name)]
    return result


def _newest(run: Path) -> int:
    return max((int(path.name[5:]) for path in (run / "checkpoints").glob("step-*")), default=0)


def sums(run: Path) -> dict[str, object]:
    """Return what must be equal: read here with nothing but the standard library."""
    newest = run / "checkpoints" / f"step-{_newest(run):08d}"
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    state = json.loads((newest / "state.json").read_text())
    return {
        **{
            name: hashlib.sha256((newest / name).read_bytes()).hexdigest()
            for name in ("model.safetensors", "training.safetensors", "state.json")
        },
        "position": state["position"],
        "metrics": [{key: row[key] for key in row if key not in _TIMES} for row in rows],
        "settings": (run / "config.toml").read_text(),
        "strays": sorted(path.name for path in run.rglob(".*")),
    }
