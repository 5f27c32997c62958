"""What images score: a table for people, a .csv for a spreadsheet, or arrays for a program."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from vae_runtime.cli.outputs import ArraySpec, Output
from vae_runtime.cli.progress import with_progress
from vae_runtime.cli.rows import Rows
from vae_runtime.cli.work import Work
from vae_runtime.errors import printable
from vae_runtime.memory import require_memory
from vae_runtime.model import Model
from vae_runtime.score import Score

_HEADING = ("image", "total", "reconstruction", "kl", "percentile")
_INDEX, _TOTAL, _PERCENTILE = 0, 1, 4
_FORMULA = ("=", "+", "-", "@")  # what begins so, a spreadsheet computes

Table = npt.NDArray[np.float64]
"""(N, 5): number, total, reconstruction, kl and percentile of images; a percentile that is not known is NaN."""


def check_above(above: float | None, output: Output) -> None:
    """Raise `click.UsageError` where images are to be left out and the output cannot say which are left."""
    if above is None:
        return
    if output.kind in (".npy", "-"):
        raise click.UsageError(
            "--above leaves images out, and a .npy of totals would not say which; expected an output in .csv or .npz"
        )


def write_scores(work: Work, images: Rows, *, samples: int, above: float | None, top: int) -> None:
    """Score images, and write it to where the command was told to: in the images' order, or the highest first.

    Args:
        work: the model and the output.
        images: what to score.
        samples: as `Model.score`.
        above: leave out what does not score higher than so many percent of held-out images.
        top: how many images a table for people shows, the highest first.

    Raises:
        BundleError: images are left out by percentiles that the model does not know.
    """
    if above is not None:
        work.model.percentiles(())  # before the time is spent
    tables = _above(_tables(work, images, samples), above)
    if work.output.is_for_people:
        kept = _show_highest(tables, images.names, top)
        left = f"; the {top} highest are shown, -o scores.csv takes all" if kept > top else ""
    else:
        kept, left = _write(work.output, tables, images), ""
    which = "" if above is None else f"{kept} above percentile {above:g} of "
    work.announce(f"{which}{len(images)} images{left}")


def _tables(work: Work, images: Rows, samples: int) -> Iterator[Table]:
    """Give the images' numbers, batch by batch."""
    made = (_table(work.model, score) for score in work.model.score_stream(images, samples=samples))
    first = 0
    for table in with_progress(made, len(images), quiet=work.quiet):
        table[:, _INDEX] = np.arange(first, first + len(table))
        first += len(table)
        yield table


def _table(model: Model, score: Score) -> Table:
    unknown = np.full(len(score.total), math.nan)
    percentiles = unknown if model.card.scores is None else model.percentiles(score.total)
    return np.stack([unknown, *score, percentiles], axis=1)


def _above(tables: Iterator[Table], percentile: float | None) -> Iterator[Table]:
    return (table if percentile is None else table[table[:, _PERCENTILE] > percentile] for table in tables)


def _show_highest(tables: Iterator[Table], names: Sequence[Path] | None, top: int) -> int:
    """Print the images that score highest, and return how many there were to choose from."""
    highest, seen = np.empty((0, len(_HEADING))), 0
    for table in tables:
        seen += len(table)
        both = np.concatenate([highest, table])
        highest = both[np.argsort(-both[:, _TOTAL], kind="stable")[:top]]
    click.echo(f"{'percentile':>10}  {'nats':>12}  image")
    for row in highest:
        percentile = "-" if math.isnan(row[_PERCENTILE]) else f"{row[_PERCENTILE]:.2f}"
        click.echo(f"{percentile:>10}  {row[_TOTAL]:>12.1f}  {printable(_name(row[_INDEX], names))}")
    return seen


def _write(output: Output, tables: Iterator[Table], images: Rows) -> int:
    """Write the images in their order, and return how many there were."""
    written = 0

    def counted() -> Iterator[Table]:
        nonlocal written
        for table in tables:
            written += len(table)
            yield table

    if output.kind == ".csv":
        output.write_table(_HEADING, (_cells(row, images.names) for table in counted() for row in table))
    elif output.kind == ".npz":
        require_memory(2 * 8 * len(_HEADING) * len(images), f"the scores of {len(images)} images")
        output.write_npz(_arrays(np.concatenate([np.empty((0, len(_HEADING))), *counted()]), images.names))
    else:
        totals = (table[:, _TOTAL] for table in counted())
        output.write_array(totals, ArraySpec(np.dtype(np.float64), (len(images),)), "total")
    return written


def _cells(row: npt.NDArray[np.float64], names: Sequence[Path] | None) -> list[str]:
    """Return a row as text; of a file whose name a spreadsheet would compute, as the same file's path."""
    name = _name(row[_INDEX], names)
    numbers = ["" if math.isnan(number) else f"{number:.4f}" for number in row[_TOTAL:]]
    return [f"./{name}" if name.startswith(_FORMULA) else name, *numbers]


def _arrays(table: Table, names: Sequence[Path] | None) -> dict[str, npt.NDArray[Any]]:
    """Return the columns by name: the images as numbers from 0, or as the files that they came from."""
    columns: dict[str, npt.NDArray[Any]] = dict(zip(_HEADING, table.T, strict=True))
    numbers = columns["image"].astype(np.int64)
    columns["image"] = numbers if names is None else np.array([str(names[number]) for number in numbers], str)
    if np.isnan(columns["percentile"]).all():
        del columns["percentile"]
    return columns


def _name(number: float, names: Sequence[Path] | None) -> str:
    return str(int(number)) if names is None else str(names[int(number)])
