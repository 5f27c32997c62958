"""One image at a time: what a call costs when there is hardly anything to compute."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from measuring.agreement import require_agreement
from measuring.implementations import (
    Array,
    Implementation,
    bare_onnxruntime,
    eager_pytorch,
    our_runtime,
)
from measuring.machine import require_device
from measuring.rows import Row
from measuring.turns import Call, measure_in_turns, time_of

if TYPE_CHECKING:
    from conftest import Classic, Record

_TURNS = 31
_CALLS = 3000  # of which the thirtieth slowest is looked at


def implementations(classic: Classic, device: str) -> list[Implementation]:
    return [
        our_runtime(classic.bundle, device, None),
        bare_onnxruntime(classic.bundle, device, None),
        eager_pytorch(classic.model, device, torch.no_grad, is_reference=False),
        eager_pytorch(classic.model, device),
    ]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("direction", ["decode", "encode"])
@pytest.mark.usefixtures("full_precision")
def test_latency(
    direction: str,
    device: str,
    classic: Classic,
    images: Array,
    latents: Array,
    record: Record,
    benchmark: BenchmarkFixture,
) -> None:
    require_device(device)
    batch = np.ascontiguousarray((latents if direction == "decode" else images)[:1])
    ways = implementations(classic, device)
    calls: dict[str, Call] = {way.name: partial(way.go, direction, batch) for way in ways}

    require_agreement(calls, device)
    measured = measure_in_turns(benchmark, calls, turns=_TURNS)

    if not measured:
        return
    tails = {name: tail(call) for name, call in calls.items()}
    for way in ways:
        record(
            Row(
                f"latency: {direction} one image",
                way.name,
                device,
                measured[way.name],
                images=1,
                role="reference" if way.is_reference else "measured",
                note=f"99th percentile {tails[way.name]:.2f} of the median",
                facts={"p99_over_median": tails[way.name]},
            )
        )


def tail(call: Call) -> float:
    """Return how many times as long as the median call one of a hundred takes."""
    seconds = [time_of(call) for _ in range(_CALLS)]
    return float(np.percentile(seconds, 99) / np.median(seconds))
