"""Pictures without end: whole processes that write from a thousand to a million of them into one file."""

from __future__ import annotations

import itertools
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from measuring.processes import VAE_RUN, Run, run_process
from measuring.promises import STREAMING
from measuring.rows import Row

if TYPE_CHECKING:
    from conftest import Classic, Record

_COUNTS = (1_000, 10_000, 100_000, 1_000_000)
_TURNS = 3


def test_streaming(classic: Classic, record: Record, benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    output = tmp_path / "pictures.npy"

    def sample(count: int) -> Run:
        return run_process(
            [
                sys.executable, "-c", VAE_RUN, "sample", "-n", str(count), "--model", classic.bundle,
                "--provider", "cpu", "--seed", "0", "--overwrite", "-q", "-o", output,
            ]
        )  # fmt: skip

    def measure() -> dict[int, list[Run]]:
        counts = _COUNTS if benchmark.enabled else _COUNTS[:1]
        rounds = [{count: sample(count) for count in counts} for _ in range(_TURNS)]
        return {count: [turn[count] for turn in rounds] for count in counts}

    runs = benchmark.pedantic(measure, rounds=1)  # type: ignore[no-untyped-call]  # pytest-benchmark leaves it untyped
    assert np.load(output, mmap_mode="r").shape == (max(runs), 24, 24)
    if not benchmark.enabled:
        return
    seconds = {count: statistics.median(run.seconds for run in taken) for count, taken in runs.items()}
    peaks = {count: statistics.median(run.peak_bytes for run in taken) for count, taken in runs.items()}
    # What each picture costs that one run makes more than the one before. The first few thousand are over before the
    # process's own start is measured well enough to tell theirs.
    costs = {
        count: (seconds[count] - seconds[fewer]) / (count - fewer)
        for fewer, count in itertools.pairwise(_COUNTS[1:])
    }
    growth = (peaks[_COUNTS[-1]] - peaks[_COUNTS[0]]) / 1e6
    spread = max(costs.values()) / min(costs.values())
    for count in _COUNTS:
        cost = f"{costs[count] * 1e6:.2f} µs more a picture; " if count in costs else ""
        last = count == _COUNTS[-1]
        record(
            Row(
                STREAMING,
                f"{count:,} pictures",
                "cpu",
                [run.seconds for run in runs[count]],
                count,
                note=f"{cost}peak {peaks[count] / 1e6:,.0f} MB",
                facts={"peak_bytes": peaks[count]}
                | ({"growth_mb": growth, "dearest_over_cheapest": spread} if last else {}),
            )
        )
