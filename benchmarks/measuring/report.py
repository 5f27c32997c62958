"""All measurements as one table for people, and as files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measuring.break_even import break_even_lines
from measuring.limit import spread_of_limits
from measuring.promises import PROMISES
from measuring.rows import Row, grouped, share_of_limit, times_reference, to_record

_HEADINGS = ("implementation", "device", "median", "fastest", "per image", "x PyTorch", "% of limit", "")
_PROMISE_HEADINGS = ("what", "against", "promised", "measured", "")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def as_lines(rows: Sequence[Row]) -> list[str]:
    """Return the table for a terminal, a block for each group."""
    blocks = {_title(key): [_cells(row, group) for row in group] for key, group in grouped(rows).items()}
    table = [_HEADINGS, *(cells for block in blocks.values() for cells in block)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(_HEADINGS))]
    lines = [_aligned(_HEADINGS, widths)]
    for title, block in blocks.items():
        lines += ["", title, *(_aligned(cells, widths) for cells in block)]
    return lines


def promise_lines(rows: Sequence[Row]) -> list[str]:
    """Return what is promised and what was measured, for a terminal."""
    table = [_PROMISE_HEADINGS, *_promise_cells(rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(_PROMISE_HEADINGS))]
    return [_aligned(cells, widths) for cells in table]


def noise_line(rows: Sequence[Row]) -> str:
    """Return how much the machine's own rate changed during the run; empty where it was not measured."""
    spread = spread_of_limits(rows)
    if spread is None:
        return ""
    low, high = spread
    return (
        f"The processor's own rate, measured beside each group, went from {low:,.0f} to {high:,.0f} GFLOP/s: "
        "the nearer these are, the quieter the machine was."
    )


def write_json(path: Path, rows: Sequence[Row], machine: Mapping[str, Any]) -> None:
    """Write every row with its machine."""
    groups = grouped(rows)
    records = [to_record(row, groups[row.device, row.group]) for row in rows]
    path.write_text(json.dumps({"machine": machine, "rows": records}, indent=2) + "\n", encoding="utf-8")


def write_markdown(path: Path, rows: Sequence[Row], machine: Mapping[str, Any], chart: Path | None) -> None:
    """Write the table as Markdown, with the chart, where one was drawn."""
    lines = [f"# {machine['processor']}, {machine['processors']} processors", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items() if value is not None]
    lines += ["", noise_line(rows)]
    if chart is not None:
        lines += ["", f"![Images a second by batch]({chart.name})"]
    lines += ["", "## Promises", "", _piped(_PROMISE_HEADINGS), "| --- | --- | ---: | ---: | --- |"]
    lines += [_piped(cells) for cells in _promise_cells(rows)]
    if on_gpu := break_even_lines(rows):
        lines += ["", "## From which batch on a GPU pays", "", *(f"- {line}" for line in on_gpu)]
    for key, group in grouped(rows).items():
        lines += [
            "",
            f"## {_title(key)}",
            "",
            _piped(_HEADINGS),
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
        ]
        lines += [_piped(_cells(row, group)) for row in group]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def duration(seconds: float) -> str:
    """Return a time with three digits and its unit: 1.23 ms."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= size), _UNITS[-1])
    value = seconds / size
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def _title(key: tuple[str, str]) -> str:
    device, group = key
    return f"{group}, on CUDA" if device == "cuda" else group


def _cells(row: Row, group: Sequence[Row]) -> tuple[str, ...]:
    times, share = times_reference(row, group), share_of_limit(row, group)
    return (
        row.implementation,
        row.device,
        duration(row.median) if row.seconds else "",
        duration(min(row.seconds)) if row.seconds else "",
        "" if row.per_image is None else duration(row.per_image),
        "" if times is None or row.role == "limit" else f"{times:.2f}",
        "" if share is None else f"{share:.1%}",
        "; ".join(filter(None, (row.note, "disturbed" if row.was_disturbed else ""))),
    )


def _promise_cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    cells = []
    for promise in PROMISES:
        figure = promise.measure(rows)
        verdict = "not measured" if figure is None else "kept" if promise.is_kept_by(figure) else "short"
        bound = f"{'at most' if promise.at_most else 'at least'} {promise.reach:.3g}"
        cells.append(
            (promise.what, promise.against, bound, "" if figure is None else f"{figure:.3g}", verdict)
        )
    return cells


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Set numbers to the right, words to the left."""
    words = (0, 1, len(cells) - 1)
    padded = [
        cell.ljust(width) if place in words else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return ("  " + "  ".join(padded)).rstrip()


def _piped(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
