"""Rows that are tests elsewhere: the fuzzer, the table of bad input, and what is killed while it writes."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

from processes import ROOT, environment, run_to_its_end

from loads.row import Figure, at_least, exactly, told


def mutated_graphs(seconds: float = 60, seed: int = 0) -> list[Figure]:
    """The scan on mutated graphs; what it lets through is opened and run by onnxruntime alone."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "results.json")
        arguments = ["--target", "scan", "--seconds", seconds, "--seed", seed, "--json", file]
        ended = _python(str(ROOT / "tests" / "fuzz"), *arguments)
        if not file.exists():
            raise RuntimeError(ended.stderr)
        (result,) = json.loads(file.read_text())
    why = [finding["why"] for finding in result["findings"]]
    counts = result["counts"]
    return [
        exactly("deaths by a signal", sum(word.startswith("death") for word in why), 0),
        exactly("not done in 5 s", sum(word.startswith("hang") for word in why), 0),
        exactly("canaries and other files opened", sum(word.startswith("Trespass") for word in why), 0),
        exactly("other findings", sum(not word.startswith(("death", "hang", "Trespass")) for word in why), 0),
        at_least("let through by the scan", counts["refused by onnxruntime"] + counts["ran"], 100),
        told("run by onnxruntime", counts["ran"]),
        told("mutants", result["mutants"]),
    ]


def bad_input() -> list[Figure]:
    """Every row of the table of bad input, each as a command of its own."""
    return _tests(ROOT / "tests" / "catalogue", least=50)


def _tests(folder: Path, least: int) -> list[Figure]:
    ended = _python("-m", "pytest", "-q", folder, cwd=ROOT)
    last = (ended.stdout.strip().splitlines() or [ended.stderr.strip()])[-1]
    passed = re.search(r"(\d+) passed", last)
    return [
        exactly("pytest leaves with", ended.returncode, 0),
        at_least("tests passed", int(passed[1]) if passed else 0, least),
    ]


def _python(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run_to_its_end(*arguments, timeout=300, cwd=cwd, env=environment())
