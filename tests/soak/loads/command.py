"""The soak's command line: every row in a process of its own, and the table at the end."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from loads.row import Figure, Row

_LIMIT = 400  # seconds a row; the longest takes a minute and a half


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a row."""

    row: Row
    seconds: float
    figures: Sequence[Figure]

    @property
    def fine(self) -> bool:
        return all(figure.fine for figure in self.figures)


def main(rows: Mapping[str, Row], arguments: Sequence[str] | None = None) -> int:
    """Run rows and print the table. Return 1 where a figure misses its limit."""
    options = _options(arguments)
    if options.row:
        figures = rows[options.row].run()
        options.json.write_text(json.dumps([dataclasses.asdict(figure) for figure in figures]))
        return 0
    chosen = [name for name in options.only.replace(",", " ").split() if name] or list(rows)
    unknown = [name for name in chosen if name not in rows]
    if unknown:
        sys.stderr.write(f"soak: no row {', '.join(unknown)}; there are {', '.join(rows)}\n")
        return 2
    if options.quick:
        chosen = [name for name in chosen if rows[name].quick is not None]
    run = _run_quickly if options.quick else _run_in_a_process
    console = Console(width=None if sys.stdout.isatty() else 130)
    outcomes = []
    for name in chosen:
        with console.status(f"{name}: {rows[name].title}"):
            outcomes.append(run(rows[name]))
        if not console.is_terminal:
            console.print(
                f"{name} {'passed' if outcomes[-1].fine else 'FAILED'} in {outcomes[-1].seconds:.1f} s"
            )
    console.print(_table(outcomes))
    failed = [outcome.row.name for outcome in outcomes if not outcome.fine]
    console.print(_summary(outcomes, failed))
    if options.json:
        options.json.write_text(
            json.dumps({o.row.name: [dataclasses.asdict(f) for f in o.figures] for o in outcomes})
        )
    return 1 if failed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description="Long runs and rough handling, against limits.")
    parser.add_argument("--only", default="", metavar="L3,L7", help="only these rows [all]")
    parser.add_argument(
        "--quick", action="store_true", help="the short form of each that has one, in this process"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # this process is one row's
    return parser.parse_args(arguments)


def _run_quickly(row: Row) -> Outcome:
    assert row.quick is not None
    started = time.monotonic()
    figures = row.quick()
    return Outcome(row, time.monotonic() - started, figures)


def _run_in_a_process(row: Row) -> Outcome:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures.json")
        command = [sys.executable, sys.argv[0], "--row", row.name, "--json", str(file)]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_LIMIT, check=False,
                env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
            )  # fmt: skip
            code, words = str(ended.returncode), ended.stderr
        except subprocess.TimeoutExpired:
            code, words = f"hung for {_LIMIT} s", ""
        figures = [Figure(**record) for record in json.loads(file.read_text())] if file.exists() else []
    if code != "0" or not figures:
        last = (words.strip().splitlines() or ["no word"])[-1]
        figures.append(Figure("its process left with", f"{code}: {last}", "0", fine=False))
    return Outcome(row, time.monotonic() - started, figures)


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(title="soak", title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("row", no_wrap=True)
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("limit", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for outcome in outcomes:
        table.add_section()
        table.add_row(
            f"[bold]{outcome.row.name}", f"[bold]{outcome.row.title}", f"[dim]{outcome.seconds:.0f} s", "", ""
        )
        for figure in outcome.figures:
            mark = "[green]pass" if figure.fine else "[bold red]FAIL"
            table.add_row("", figure.what, figure.value, figure.limit, mark if figure.limit else "")
    return table


def _summary(outcomes: Sequence[Outcome], failed: Sequence[str]) -> str:
    seconds = sum(outcome.seconds for outcome in outcomes)
    load = os.getloadavg()[0]
    verdict = f"[bold red]{', '.join(failed)} failed" if failed else f"[green]all {len(outcomes)} rows pass"
    return f"{verdict}[/] in {seconds:.0f} s, on {os.cpu_count()} processors with a load of {load:.1f} at the end"
