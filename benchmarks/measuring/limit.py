"""The machine's own rate: large float32 matrix products, which nothing made of them can outrun.

It is the limit for the layers as they are trained. What needs fewer multiplications than these can pass it: the
exporter folds the decoder's first two layers into one, which leaves a sixth.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch

from measuring.rows import Row
from measuring.turns import Call

LIMIT = "limit: matrix products"
LIMIT_OF_ONE = f"{LIMIT}, 1 thread"

_SIDES = {"cpu": 1024, "cuda": 8192}


def matrix_product(device: str, threads: int | None = None) -> Call:
    """Return one product of large matrices, by PyTorch, on all processors, some of them, or the GPU.

    Not by numpy: its threads go on spinning for a tenth of a second, in the way of whoever comes next.
    """
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand((_SIDES[device], _SIDES[device]), generator=generator).to(device)
    product = torch.empty_like(matrix)

    def multiply() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        torch.mm(matrix, matrix, out=product)
        torch.set_num_threads(before)
        if device == "cuda":
            torch.cuda.synchronize()

    return multiply


def limit_row(
    seconds: Sequence[float],
    *,
    multiply_adds: int,
    images: int,
    device: str,
    group: str,
    series: str = "",
    name: str = LIMIT,
) -> Row:
    """Return the time that as many multiply-adds as these images need take in a matrix product.

    Args:
        seconds: of `matrix_product`, a number for each turn.
        multiply_adds: of one image.
        images: how many a call of the group works on.
        device: `cpu` or `cuda`.
        group: what the row stands beside.
        series: as in `Row`.
        name: of the row.
    """
    flop = 2.0 * _SIDES[device] ** 3
    rate = flop / statistics.median(seconds)
    scale = 2.0 * multiply_adds * images / flop
    return Row(
        group,
        name,
        device,
        [second * scale for second in seconds],
        images,
        role="limit",
        series=series,
        note=f"{rate / 1e9:,.0f} GFLOP/s",
        facts={"gflop_per_second": rate / 1e9},
    )


def spread_of_limits(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Return the lowest and the highest rate, in GFLOP/s, that the processor showed during the run."""
    rates = [row.facts["gflop_per_second"] for row in rows if row.role == "limit" and row.device == "cpu"]
    return (min(rates), max(rates)) if rates else None
