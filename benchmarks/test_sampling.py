"""50,000 new pictures: one after the other, batch by batch, and by every way there is to do it fast."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from measuring.agreement import require_agreement
from measuring.implementations import (
    Implementation,
    bare_onnxruntime,
    compiled_pytorch,
    eager_pytorch,
    our_runtime,
)
from measuring.limit import LIMIT, LIMIT_OF_ONE, limit_row, matrix_product
from measuring.machine import require_device
from measuring.promises import COMPILED, ONE_BY_ONE, OURS_INT8, OURS_PLAIN, SAMPLING
from measuring.rows import Row
from measuring.turns import Call, measure_in_turns, time_of
from vae_export.quality import mean_psnr
from vae_runtime import load
from vae_training.compiling import has_compiler
from vae_training.config import ModelConfig
from vae_training.costs import decoder_multiply_adds

if TYPE_CHECKING:
    from conftest import Classic, Record

_SAMPLES = 50_000
_BY_OTHERS = 10_000  # enough of those that take 20 microseconds each
_ONE_BY_ONE = 1_000  # and of those that take 300
_TURNS = 5
_BUDGET = 60.0  # seconds
_COMPILED_BATCHES = (64, 256, 1024)
_COMPARED = 1000


def implementations(classic: Classic, device: str) -> dict[str, tuple[Implementation, int]]:
    """Return the ways to sample by their names in the table, each with how many pictures a call makes."""
    threads = (None, 1) if device == "cpu" else (None,)
    ours = [our_runtime(classic.bundle, device, count) for count in threads]
    others = [
        *(bare_onnxruntime(classic.bundle, device, count) for count in threads),
        eager_pytorch(classic.model, device),
    ]
    named = {way.name: (way, _SAMPLES) for way in ours} | {way.name: (way, _BY_OTHERS) for way in others}
    named[OURS_PLAIN] = (our_runtime(classic.plain_bundle, device, None), _BY_OTHERS)
    one_by_one = eager_pytorch(classic.model, device, is_reference=False, batch=1)
    named[ONE_BY_ONE] = (one_by_one, _ONE_BY_ONE)
    if device == "cuda" or has_compiler():
        named[COMPILED] = (_best_compiled(classic, device), _BY_OTHERS)
    return named


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.usefixtures("full_precision")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # what torch.compile finds in PyTorch itself
def test_sampling_many(device: str, classic: Classic, record: Record, benchmark: BenchmarkFixture) -> None:
    require_device(device)
    ways = implementations(classic, device)
    require_agreement({name: partial(way.sample, _COMPARED) for name, (way, _) in ways.items()}, device)
    int8 = our_runtime(classic.int8_bundle, device, None)  # agrees less closely: its PSNR is measured
    ways[OURS_INT8] = (int8, _SAMPLES)
    limits = {LIMIT: None, **({LIMIT_OF_ONE: 1} if device == "cpu" else {})}

    calls: dict[str, Call] = {name: partial(way.sample, count) for name, (way, count) in ways.items()}
    calls |= {name: matrix_product(device, threads) for name, threads in limits.items()}
    measured = measure_in_turns(benchmark, calls, turns=_TURNS, budget=_BUDGET)

    if not measured:
        return
    for name, (way, count) in ways.items():
        row = Row(SAMPLING, name, device, measured[name], count)
        if way.is_reference:
            row = replace(row, role="reference")
        if name == OURS_INT8:
            psnr = _psnr(classic)
            row = replace(row, note=f"{psnr:.1f} dB", facts={"psnr_db": psnr})
        if name == COMPILED:
            row = replace(row, note=way.name)
        record(row)
    multiply_adds = decoder_multiply_adds(ModelConfig())
    for name in limits:
        row = limit_row(
            measured[name],
            multiply_adds=multiply_adds,
            images=_SAMPLES,
            device=device,
            group=SAMPLING,
            name=name,
        )
        record(row)


def _best_compiled(classic: Classic, device: str) -> Implementation:
    """Return torch.compile at the batch that is fastest here."""
    ways = [compiled_pytorch(classic.model, device, batch) for batch in _COMPILED_BATCHES]
    return min(ways, key=_seconds_to_sample)


def _seconds_to_sample(way: Implementation) -> float:
    way.sample(_COMPARED)  # compiles
    return min(time_of(partial(way.sample, 4096)) for _ in range(3))


def _psnr(classic: Classic) -> float:
    """Return how near the pictures of the int8 bundle come to those of the fp32 one, in dB."""
    exact, rounded = (
        load(bundle, provider="cpu").sample(_COMPARED, seed=0)
        for bundle in (classic.bundle, classic.int8_bundle)
    )
    return mean_psnr(exact, rounded)
