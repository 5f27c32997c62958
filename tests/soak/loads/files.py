"""Writers that run into the end of their room, at every place where they may.

What must not change is what was there before: pictures, bundles, and a run's checkpoints. A run's settings and
metrics are written before its checkpoint and may be ahead of it; the next try has to work with them.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from loads.forked import Ended, import_first, require_done, run_command
from loads.row import Figure, at_least, exactly, told

# Bytes a file may have. A writer that needs less than that succeeds, and has then nothing to prove.
LIMITS = (0, 1, 100, 4_096, 65_536, 262_144)
_DISK = 4  # the exit code
_MAY_BE_AHEAD = (
    "run/config.toml",
    "run/metrics.jsonl",
    "run/loss.png",
    "run/samples/",
    "run/reconstructions.png",
)

Writers = dict[str, Callable[[int | None], Ended]]


def no_room_for_files(limits: Sequence[int] = LIMITS, *, with_training: bool = True) -> list[Figure]:
    """Each writer with each limit on the size of files: the exit code says so, and nothing that was there changes."""
    import_first(training=with_training)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        writers = _sampling(folder) | (_training(folder) if with_training else {})
        failures, wrong = dict.fromkeys(writers, 0), []
        for name, write in writers.items():
            require_done(write(None))
            for limit in limits:
                before = _contents(folder)
                ended = write(limit)
                if ended.code == 0:  # there was room enough
                    continue
                failures[name] += 1
                if (ended.code, ended.errors) != (_DISK, 1):
                    wrong.append(f"{name} at {limit}: code {ended.code}, {ended.words!r}")
                changed = {path for path, _ in _contents(folder).items() ^ before.items()}
                if spoilt := sorted(path for path in changed if not path.startswith(_MAY_BE_AHEAD)):
                    wrong.append(f"{name} at {limit}: changed {', '.join(spoilt)}")
            require_done(write(None))
    return [
        exactly("failures that were not handled", "; ".join(wrong) or "none", "none"),
        at_least("failures of each writer", min(failures.values()), 1),
        told("writers", len(writers)),
        told("failures", sum(failures.values())),
    ]


def _sampling(folder: Path) -> Writers:
    def sample(name: str) -> Callable[[int | None], Ended]:
        options = ("-n", 150, "--seed", 1, "--overwrite", "-o", folder / name)
        return lambda limit: run_command("vae-run", "sample", *options, limit=limit)

    return {f"vae-run to {name}": sample(name) for name in ("faces.npy", "faces.npz", "faces.png", "faces")}


def _training(folder: Path) -> Writers:
    run, bundle = folder / "run", folder / "bundle"
    data = folder / "noise.npy"
    np.save(data, np.random.default_rng(0).integers(0, 256, (48, 8, 8), np.uint8))
    model = ("--filters", "3,4", "--latent-size", 2, "--batch-size", 8, "--device", "cpu")
    require_done(run_command("vae-train", "--data", data, *model, "--epochs", 1, "-q", "-o", run))
    epochs = itertools.count(2)
    return {
        "vae-train": lambda limit: run_command(
            "vae-train", "--resume", run, "--epochs", next(epochs), "-q", limit=limit
        ),
        "vae-export": lambda limit: run_command("vae-export", run, "-o", bundle, "--overwrite", limit=limit),
    }


def _contents(folder: Path) -> dict[str, str]:
    """Return the sum of every file, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
