"""From the command to the picture: whole processes that sample 100 images into a PNG."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture

from measuring.processes import SCRIPTS, VAE_RUN, Run, run_process
from measuring.promises import COLD_START
from measuring.rows import Row

if TYPE_CHECKING:
    from conftest import Classic, Record

_TURNS = 5


def test_cold_start(classic: Classic, record: Record, benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    python, scripts = sys.executable, SCRIPTS
    sheets = {name: tmp_path / f"{name}.png" for name in ("vae-run", "onnxruntime", "PyTorch")}
    commands: dict[str, list[str | Path]] = {
        "vae-run": [
            python, "-c", VAE_RUN, "sample", "-n", "100", "--model", classic.bundle, "--provider", "cpu",
            "--overwrite", "-o", sheets["vae-run"],
        ],
        "onnxruntime": [
            python, scripts / "sample_onnxruntime.py", classic.bundle / "decoder.onnx", sheets["onnxruntime"],
        ],
        "PyTorch": [python, scripts / "sample_pytorch.py", classic.weights, sheets["PyTorch"]],
        "python that does nothing": [python, "-c", "pass"],
    }  # fmt: skip
    turns = _TURNS if benchmark.enabled else 0
    runs = benchmark.pedantic(_in_turns, (commands, turns), rounds=1)  # type: ignore[no-untyped-call]  # pytest-benchmark leaves it untyped

    for sheet in sheets.values():
        pixels = np.asarray(Image.open(sheet))
        assert pixels.shape == (240, 240)
        assert pixels.std() > 1
    for name, measured in runs.items():
        peak = statistics.median(run.peak_bytes for run in measured)
        record(
            Row(
                COLD_START,
                name,
                "cpu",
                [run.seconds for run in measured],
                role="reference" if name == "PyTorch" else "measured",
                note=f"peak {peak / 1e6:,.0f} MB",
                facts={"peak_bytes": peak},
            )
        )


def _in_turns(commands: dict[str, list[str | Path]], turns: int) -> dict[str, list[Run]]:
    """Run A B C A B C ...; one more turn before, untimed, fills the file cache."""
    for command in commands.values():
        run_process(command)
    rounds = [[run_process(command) for command in commands.values()] for _ in range(turns)]
    return {name: list(runs) for name, runs in zip(commands, zip(*rounds, strict=True), strict=False)}
