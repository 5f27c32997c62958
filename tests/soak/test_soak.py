"""The short forms of what `make soak` does, and the table itself, on rows of which the end is known."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from processes import run_to_its_end

HERE = Path(__file__).resolve().parent

QUICK = ("L1", "L2", "L4", "L5", "L6", "L7", "L8", "L9", "L11", "L12")

Figures = dict[str, list[dict[str, Any]]]


def soak(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run_to_its_end(program, *arguments, timeout=240)


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """The figures of every row that has a short form."""
    file = tmp_path_factory.mktemp("soak") / "figures.json"
    ended = soak(HERE, "--quick", "--json", file)
    assert file.exists(), ended.stdout + ended.stderr
    result: Figures = json.loads(file.read_text())
    return result


@pytest.mark.parametrize("row", QUICK)
def test_every_figure_but_those_of_time_is_within_its_limit(row: str, figures: Figures) -> None:
    limited = [figure for figure in figures[row] if figure["limit"] and not figure["of_time"]]
    assert limited
    assert [figure for figure in limited if not figure["fine"]] == []


def test_rows_within_their_limits_give_exit_code_0() -> None:
    ended = soak(HERE / "planted.py", "--only", "good")
    assert ended.returncode == 0, ended.stderr
    assert "all 1 rows pass" in ended.stdout


@pytest.fixture(scope="module")
def planted() -> subprocess.CompletedProcess[str]:
    return soak(HERE / "planted.py")


def test_any_row_that_misses_a_limit_gives_exit_code_1(planted: subprocess.CompletedProcess[str]) -> None:
    assert planted.returncode == 1
    assert "over, under, other, nothing, dies, raises failed" in " ".join(planted.stdout.split())


def test_a_row_that_dies_fails_and_those_after_it_are_run(planted: subprocess.CompletedProcess[str]) -> None:
    assert "dies FAILED" in planted.stdout
    assert "-11" in planted.stdout
    assert "raises FAILED" in planted.stdout
    assert "KeyError" in planted.stdout


def test_a_row_that_is_not_there_is_wrong_usage() -> None:
    ended = soak(HERE / "planted.py", "--only", "good,L99")
    assert ended.returncode == 2
    assert ended.stderr == "soak: no row L99; there are good, over, under, other, nothing, dies, raises\n"
