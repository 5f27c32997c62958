"""The command line: every mutant of the chosen files, the survivors as they are found, and the table at the end."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mutants.known import known_survivors
from mutants.mutant import Change, Mutant, meaning, mutant_of
from mutants.targets import Target
from mutants.tree import Tree, copy_of
from mutants.trial import FAILED, PASSED, TIMED_OUT, WIDE, Limits, prepare, run_tests

Mutations = Callable[[str], Iterable[str]]

_NO_PROGRAM = "raise ImportError('no program')\n"


@dataclass
class Row:
    """What came of the mutants of one file."""

    file: str
    counts: Counter[str] = field(default_factory=Counter)
    """Of `killed`, `timed out` and `survived`."""
    survivors: list[Mutant] = field(default_factory=list)
    seconds: float = 0.0


def main(
    targets: Mapping[str, Target],
    mutations: Mutations,
    libraries: Iterable[str],
    *,
    root: Path,
    known: Path,
    arguments: Sequence[str] | None = None,
) -> int:
    """Try every mutant. Return 1 where one survives that is not on the list, 2 for wrong usage."""
    options = _options(arguments)
    chosen = options.only.replace(",", " ").split() or list(targets)
    unknown = [name for name in chosen if name not in targets]
    if unknown:
        sys.stderr.write(f"mutants: no file {', '.join(unknown)}; there are {', '.join(targets)}\n")
        return 2
    listed = known_survivors(known)
    for number in (signal.SIGINT, signal.SIGTERM):  # so that the copy is taken away
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    prepare(libraries)
    rows: list[Row] = []
    with copy_of(root) as tree:
        for name in chosen:
            row = _try_all(name, targets[name], mutations, tree, options.least)
            if row is None:
                return 1
            rows.append(row)
    survived = Counter(mutant.change for row in rows for mutant in row.survivors)
    expected = Counter({change: count for change, count in listed.items() if change.file in chosen})
    _say(_table(rows))
    if options.json:
        options.json.write_text(json.dumps([_record(row) for row in rows], indent=1))
    return _verdict(survived - expected, expected - survived, known.name)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mutants", description="Small changes to the source, one at a time, that tests must notice."
    )
    parser.add_argument("--only", default="", metavar="wire.py,scan.py", help="only these files [all]")
    parser.add_argument(
        "--least", type=float, default=6, metavar="SECONDS", help="what tests may compute at the least [6]"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what came of it there too")
    return parser.parse_args(arguments)


def _try_all(name: str, target: Target, mutations: Mutations, tree: Tree, least: float) -> Row | None:
    began = time.monotonic()
    original = (tree.root / target.path).read_text(encoding="utf-8")
    limits = _limits(target, tree, original, least)
    if limits is None:
        return None
    row = Row(name)
    same = meaning(original)
    for source in mutations(original):
        try:
            if meaning(source) == same:
                continue
        except SyntaxError:
            continue
        mutant = mutant_of(name, original, source)
        tree.write(target.path, source)
        outcome = _outcome(target, tree, limits)
        row.counts[outcome] += 1
        if outcome == "survived":
            row.survivors.append(mutant)
        if outcome != "killed":
            _say(f"{outcome}: {target.path}:{mutant.line}\n{mutant.change}")
        if sum(row.counts.values()) % 50 == 0:
            _say(f"{name}: {sum(row.counts.values())} mutants in {time.monotonic() - began:.0f} s")
    tree.write(target.path, original)
    row.seconds = time.monotonic() - began
    return row


def _limits(target: Target, tree: Tree, original: str, least: float) -> list[Limits] | None:
    """How long each stage may take, from how long it takes; None where nothing could be learnt from it."""
    limits = []
    log = tree.root.parent / "log"
    tree.write(target.path, original)
    run_tests(tree.root, target.stages[0], WIDE, log)  # compiles
    for stage in target.stages:
        ended = run_tests(tree.root, stage, WIDE, log)
        if ended.how != PASSED:
            sys.stderr.write(f"{ended.output}\nmutants: {target.path}: its tests fail as it is\n")
            return None
        limits.append(Limits(max(least, 5 * ended.processor), max(10 * least, 8 * ended.clock)))
    tree.write(target.path, _NO_PROGRAM)
    for stage, limit in zip(target.stages, limits, strict=True):
        if run_tests(tree.root, stage, limit, log).how != FAILED:
            sys.stderr.write(f"mutants: {target.path}: {' '.join(stage)} pass without it\n")
            return None
    return limits


def _outcome(target: Target, tree: Tree, limits: Sequence[Limits]) -> str:
    for stage, limit in zip(target.stages, limits, strict=True):
        how = run_tests(tree.root, stage, limit, tree.root.parent / "log").how
        if how != PASSED:
            return TIMED_OUT if how == TIMED_OUT else "killed"
    return "survived"


def _table(rows: Sequence[Row]) -> str:
    words = ("killed", TIMED_OUT, "survived")
    lines = [f"\n{'file':<16}{'mutants':>9}" + "".join(f"{word:>11}" for word in words) + f"{'seconds':>9}"]
    whole = Row(
        "together", sum((row.counts for row in rows), Counter()), [], sum(row.seconds for row in rows)
    )
    lines += [
        f"{row.file:<16}{sum(row.counts.values()):>9}"
        + "".join(f"{row.counts[word]:>11}" for word in words)
        + f"{row.seconds:>9.0f}"
        for row in (*rows, whole)
    ]
    return "\n".join(lines) + f"\nwith a load of {os.getloadavg()[0]:.1f} at the end"


def _verdict(new: Counter[Change], gone: Counter[Change], known: str) -> int:
    for change in gone.elements():
        _say(f"\nlisted in {known}, and did not survive:\n{change}")
    for change in new.elements():
        _say(f"\nsurvived, and is not listed in {known}:\n{change}")
    _say(f"\n{new.total()} survivors that are not listed" if new else "\nall survivors are listed")
    return 1 if new else 0


def _record(row: Row) -> dict[str, object]:
    survivors = [{"line": mutant.line, **mutant.change._asdict()} for mutant in row.survivors]
    return {"file": row.file, "counts": row.counts, "seconds": row.seconds, "survivors": survivors}


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()
