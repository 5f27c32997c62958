"""The fuzzer's command line."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from fuzzer.campaign import HANG, Result, replay, replay_command, run_campaign
from fuzzer.target import OUTCOMES, Target


def main(targets: Mapping[str, Target], arguments: Sequence[str] | None = None) -> int:
    """Run campaigns, or one mutant again. Return 1 where a mutant did what no mutant may."""
    options = _options(targets, arguments)
    if options.replay:
        why = replay(targets[options.target[0]], options.replay, hang=options.hang)
        _say(why or "it does nothing wrong")
        return 1 if why else 0
    chosen = [targets[name] for name in options.target or targets]
    whole = sum(target.share for target in chosen)
    _say(f"seed {options.seed}; mutants that fail are written to {options.findings}")
    _say(
        f"{'target':>11} {'mutants':>8} {'a second':>9}  " + "  ".join(f"{word:>8}" for word in OUTCOMES),
    )
    results = []
    for target in chosen:
        part = target.share / whole
        result = run_campaign(
            target,
            options.seed,
            options.findings,
            seconds=None if options.mutants else options.seconds * part,
            mutants=round(options.mutants * part) if options.mutants else None,
            workers=options.workers,
            hang=options.hang,
        )
        _print_row(result)
        results.append(result)
    _print_end(results)
    if options.json:
        options.json.write_text(json.dumps([_record(result) for result in results]))
    return 1 if any(result.findings for result in results) else 0


def _options(targets: Mapping[str, Target], arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fuzz", description="Mutated files against everything that reads files."
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long in all [60]")
    parser.add_argument("--mutants", type=int, help="how many in all, however long that takes")
    parser.add_argument("--seed", type=int, default=0, help="the same seed, the same mutants [0]")
    parser.add_argument("--workers", type=int, default=2, help="processes beside each other [2]")
    parser.add_argument(
        "--target", action="append", choices=targets, help="only this one; may be given again [all]"
    )
    parser.add_argument(
        "--hang", type=float, default=HANG, help=f"seconds that one mutant may take [{HANG:g}]"
    )
    parser.add_argument(
        "--findings",
        type=Path,
        default=Path(tempfile.gettempdir(), "vae-edge-findings"),
        metavar="FOLDER",
        help="where mutants that fail are written",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--replay", type=Path, metavar="FOLDER", help="read one mutant again; needs --target")
    options = parser.parse_args(arguments)
    if options.replay and not options.target:
        parser.error("--replay needs --target: which reader the mutant is for")
    return options


def _print_row(result: Result) -> None:
    counts = "  ".join(f"{result.counts[word]:>{max(8, len(word))}}" for word in OUTCOMES)
    rate = result.mutants / result.seconds
    _say(f"{result.target:>11} {result.mutants:>8} {rate:>9.0f}  {counts}")
    if result.stalled:
        _say(f"{result.stalled} took too long once, and not when they were read again")
    shown = set()
    for finding in result.findings:
        if finding.path is None or finding.kind in shown:
            continue
        shown.add(finding.kind)
        times = sum(other.kind == finding.kind for other in result.findings)
        _say(f"FINDING, {times} times: {' | '.join(finding.why.split(chr(10))[:2])}")
        _say(f"    {replay_command(result.target, finding.path)}")


def _print_end(results: Sequence[Result]) -> None:
    mutants = sum(result.mutants for result in results)
    seconds = sum(result.seconds for result in results)
    found = sum(len(result.findings) for result in results)
    rate = mutants / seconds
    _say(f"{mutants} mutants in {seconds:.0f} s, {found} findings; 200,000 take {200_000 / rate:.0f} s")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _record(result: Result) -> dict[str, object]:
    return {
        "target": result.target,
        "mutants": result.mutants,
        "counts": result.counts,
        "stalled": result.stalled,
        "findings": [
            {"index": finding.index, "why": finding.why, "path": finding.path and str(finding.path)}
            for finding in result.findings
        ],
    }
