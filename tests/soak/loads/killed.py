"""SIGKILL: while outputs are being written, and in the middle of training."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from processes import ROOT

from loads.forked import import_first, require_done, run_command
from loads.row import Figure, at_least, exactly, told

_OF_TIME = ("seconds", "images_per_second")  # what two runs of the same steps do not share


def killed_while_writing(times: int = 100) -> list[Figure]:
    """Every writer, killed at each of its calls of the file system and at any moment."""
    sys.path.insert(0, str(ROOT / "tests" / "faults"))
    from killing import WriterServer, kill_during
    from writers import WRITERS

    names = list(WRITERS)
    with WriterServer() as one, WriterServer() as other, ThreadPoolExecutor(2) as pool:

        def kill_all(server: Any, writers: list[str]) -> list[Any]:
            return [kill_during(name, times, server) for name in writers]

        halves = pool.map(kill_all, (one, other), (names[::2], names[1::2]))
        results = [result for half in halves for result in half]
        careless = kill_during("naive file", 20, one)
    torn = [f"{result.writer}: {line}" for result in results for line in result.torn]
    left = [f"{result.writer}: {line}" for result in results for line in result.left]
    return [
        exactly("torn outputs", "; ".join(torn) or "none", "none"),
        exactly("not swept by the next write", "; ".join(left) or "none", "none"),
        at_least("torn by a writer without care", len(careless.torn), 1),
        told("writers", len(results)),
        told("kills", sum(result.kills for result in results)),
        told("of them, the old output was there", sum(result.old for result in results)),
        told("of them, the new output was there", sum(result.new for result in results)),
        told("of them, put back by the next process", sum(result.put_back for result in results)),
    ]


def resumed_after_kills(kills: int = 5, epochs: int = 12) -> list[Figure]:
    """Training that is killed again and again ends with the bits of training that never was."""
    import_first(training=True)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        data = folder / "noise.npy"
        np.save(data, np.random.default_rng(0).integers(0, 256, (600, 8, 8), np.uint8))
        model = (
            "--filters",
            "3,4",
            "--latent-size",
            2,
            "--batch-size",
            4,
            "--device",
            "cpu",
            "--epochs",
            epochs,
        )
        start = ("vae-train", "--data", data, *model, "-q", "-o")
        began = time.monotonic()
        require_done(run_command(*start, folder / "whole"))
        seconds = time.monotonic() - began

        run = folder / "killed"
        draws = np.random.default_rng(1)
        killed, resumed, patience = 0, 0, 1.0
        for _ in range(10 * kills):
            if killed == kills:
                break
            has_begun = _has_checkpoint(run)
            if not has_begun:
                shutil.rmtree(run, ignore_errors=True)
            command = ("vae-train", "--resume", run, "-q") if has_begun else (*start, run)
            wait = patience * float(draws.uniform(0.8, 1.6)) * seconds / (kills + 1)
            ended = run_command(*command, kill_after=wait)
            resumed += has_begun
            if ended.code != -9:
                require_done(ended)
                break
            if _has_checkpoint(run):
                killed += 1
            else:
                # Nothing to go on with yet: on this machine it takes longer to begin than to train.
                patience *= 1.5
        if killed == kills:
            require_done(run_command("vae-train", "--resume", run, "-q"))
        whole, other = _sums(folder / "whole"), _sums(run)
    return [
        exactly("kills", killed, kills),
        *(exactly(f"{name} equal", other.get(name) == whole[name], True) for name in sorted(whole)),
        told("resumes", resumed),
    ]


def _has_checkpoint(run: Path) -> bool:
    return any(run.glob("checkpoints/step-*"))


def _sums(run: Path) -> dict[str, str]:
    """Return the sums of what training came to: the last checkpoint's tensors, its position, and the metrics."""
    last = max(run.glob("checkpoints/step-*"))
    sums = {path.name: _sum(path.read_bytes()) for path in last.glob("*.safetensors")}
    state = json.loads((last / "state.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in row.items() if key not in _OF_TIME} for row in rows]
    return {
        **sums,
        "position": _sum(json.dumps(state["position"], sort_keys=True).encode()),
        "metrics": _sum(json.dumps(kept, sort_keys=True).encode()),
    }


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
