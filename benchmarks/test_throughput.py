"""Many images: encode and decode by batch, against the machine's own arithmetic."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from measuring.agreement import require_agreement
from measuring.implementations import (
    Array,
    Implementation,
    bare_onnxruntime,
    eager_pytorch,
    our_runtime,
)
from measuring.limit import LIMIT, limit_row, matrix_product
from measuring.machine import require_device
from measuring.rows import Row
from measuring.turns import Call, measure_in_turns
from vae_training.config import ModelConfig
from vae_training.costs import decoder_multiply_adds, encoder_multiply_adds

if TYPE_CHECKING:
    from conftest import Classic, Record

_TURNS = 9
_MULTIPLY_ADDS = {
    "decode": decoder_multiply_adds(ModelConfig()),
    "encode": encoder_multiply_adds(ModelConfig()),
}


def implementations(classic: Classic, device: str) -> list[Implementation]:
    threads = (None, 1) if device == "cpu" else (None,)
    return [
        *(our_runtime(classic.bundle, device, count) for count in threads),
        *(bare_onnxruntime(classic.bundle, device, count) for count in threads),
        eager_pytorch(classic.model, device),
    ]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("batch", [1, 16, 64, 256, 4096])
@pytest.mark.parametrize("direction", ["decode", "encode"])
@pytest.mark.usefixtures("full_precision")
def test_throughput(
    direction: str,
    batch: int,
    device: str,
    classic: Classic,
    images: Array,
    latents: Array,
    record: Record,
    benchmark: BenchmarkFixture,
) -> None:
    require_device(device)
    given = np.ascontiguousarray((latents if direction == "decode" else images)[:batch])
    ways = implementations(classic, device)
    calls: dict[str, Call] = {way.name: partial(way.go, direction, given) for way in ways}

    require_agreement(calls, device)
    measured = measure_in_turns(benchmark, {**calls, LIMIT: matrix_product(device)}, turns=_TURNS)

    if not measured:
        return
    group = f"{direction}, batch {batch:,}"
    for way in ways:
        record(
            Row(
                group,
                way.name,
                device,
                measured[way.name],
                batch,
                role="reference" if way.is_reference else "measured",
                series=direction,
            )
        )
    record(
        limit_row(
            measured[LIMIT],
            multiply_adds=_MULTIPLY_ADDS[direction],
            images=batch,
            device=device,
            group=group,
            series=direction,
        )
    )
