"""The machine's own rate: large float32 matrix products, which nothing made of them can outrun.

It holds for direct convolution. An algorithm that needs fewer multiplications (Winograd's) could pass it,
but none is in use for kernels of 4 x 4 with stride 2.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch

from measuring.rows import Row
from measuring.turns import Call

LIMIT = "limit: matrix products"

_SIDES = {"cpu": 1024, "cuda": 8192}


def matrix_product(device: str) -> Call:
    """Return one product of large matrices, by PyTorch, on all processors or the GPU.

    Not by numpy: its threads go on spinning for a tenth of a second, in the way of whoever comes next.
    """
    generator = torch.Generator().manual_seed(0)
    matrix = torch.rand((_SIDES[device], _SIDES[device]), generator=generator).to(device)
    product = torch.empty_like(matrix)

    def multiply() -> None:
        torch.mm(matrix, matrix, out=product)
        if device == "cuda":
            torch.cuda.synchronize()

    return multiply


def limit_row(
    seconds: Sequence[float], *, multiply_adds: int, images: int, device: str, group: str, series: str = ""
) -> Row:
    """Return the time that as many multiply-adds as these images need take in a matrix product.

    Args:
        seconds: of `matrix_product`, a number for each turn.
        multiply_adds: of one image.
        images: how many a call of the group works on.
        device: `cpu` or `cuda`.
        group: what the row stands beside.
        series: as in `Row`.
    """
    flop = 2.0 * _SIDES[device] ** 3
    rate = flop / statistics.median(seconds)
    scale = 2.0 * multiply_adds * images / flop
    return Row(
        group,
        LIMIT,
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
