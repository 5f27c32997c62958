"""Images a second by batch, a line for each implementation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from measuring.rows import Row

# Colours that people with any colour vision can tell apart (Okabe and Ito, 2008), and marks that print.
_LOOKS = (("#0072B2", "o"), ("#56B4E9", "o"), ("#D55E00", "s"), ("#E69F00", "s"), ("#333333", "^"))


def draw_throughput(path: Path, rows: Sequence[Row], title: str) -> bool:
    """Draw a panel for each device and direction; False, and no file, where nothing of the kind was measured."""
    panels: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.series:
            panels.setdefault((row.device, row.series), []).append(row)
    if not panels:
        return False
    mpl.use("Agg")
    columns = 2
    lines = -(-len(panels) // columns)
    figure, grid = plt.subplots(
        lines,
        columns,
        figsize=(11, 1.2 + 4.4 * lines),
        squeeze=False,
        sharex=True,
        sharey="row",
        layout="constrained",
    )
    for axes, ((device, series), points) in zip(grid.flat, panels.items(), strict=False):
        _draw_panel(axes, points)
        axes.set_title(f"{series} on {'CUDA' if device == 'cuda' else 'CPU'}", loc="left", fontweight="bold")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.suptitle(f"{title}\n", x=0.01, ha="left")
    figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return True


def _draw_panel(axes: Axes, rows: Sequence[Row]) -> None:
    names = list(dict.fromkeys(row.implementation for row in rows if row.role != "limit"))
    for name, (colour, mark) in zip(names, _LOOKS, strict=False):
        points = sorted((row.images, row.images / row.median) for row in rows if row.implementation == name)
        axes.plot(
            *zip(*points, strict=True), color=colour, marker=mark, markersize=5, linewidth=1.6, label=name
        )
    limits = sorted((row.images, row.images / row.median) for row in rows if row.role == "limit")
    axes.plot(
        *zip(*limits, strict=True),
        color="#999999",
        linestyle="--",
        linewidth=1.2,
        label="limit: matrix products",
    )
    batches = [batch for batch, _ in limits]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(batches, [f"{batch:,}" for batch in batches])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("batch")
    axes.set_ylabel("images a second")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
