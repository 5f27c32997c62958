"""From how many images on the way to the GPU and back is worth it."""

from __future__ import annotations

from collections.abc import Sequence

from measuring.promises import OURS
from measuring.rows import Row


def break_even(rows: Sequence[Row], series: str) -> tuple[int | None, list[int]] | None:
    """Compare the runtime on the GPU with itself on the CPU, batch by batch.

    Args:
        rows: all that was measured.
        series: `decode` or `encode`.

    Returns:
        The smallest batch from which on a call takes less time on the GPU, at every larger one, too, and the batches
        that were measured on both. None in its place where the CPU is faster at the largest; nothing at all where not
        both were measured.
    """
    medians = {
        device: {
            row.images: row.median
            for row in rows
            if row.series == series and row.implementation == OURS and row.device == device
        }
        for device in ("cpu", "cuda")
    }
    batches = sorted(medians["cpu"].keys() & medians["cuda"].keys())
    if not batches:
        return None
    first = None
    for batch in reversed(batches):
        if not medians["cuda"][batch] < medians["cpu"][batch]:  # nor is NaN
            break
        first = batch
    return first, batches


def break_even_lines(rows: Sequence[Row]) -> list[str]:
    """Say it in words, a line for each series; none without a GPU."""
    lines = []
    for series in ("decode", "encode"):
        found = break_even(rows, series)
        if found is None:
            continue
        first, batches = found
        measured = ", ".join(f"{batch:,}" for batch in batches)
        if first is None:
            said = "on no batch is CUDA faster than the CPU"
        else:
            said = f"CUDA is faster than the CPU from batch {first:,} on"
        lines.append(f"{series}: {said} (measured: {measured}).")
    return lines
