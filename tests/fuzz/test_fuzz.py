"""A slice of what `make fuzz` does, always the same mutants; and the fuzzer itself, on readers with known faults."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from processes import run_to_its_end

HERE = Path(__file__).resolve().parent

MUTANTS = 600
TARGETS = ("scan", "bundle", "card", "npy", "npz", "config", "checkpoint", "weights")
FAULTS = {
    "crash": "death: killed by SIGSEGV",
    "open_a_canary": "TrespassError: opened",
    "open_a_canary_above_past_python": "TrespassError: opened canary",
    "open_another_file": "TrespassError: opened /",
    "leave_a_file": "stray",
    "wait_for_ever": "hang",
    "take_all_memory": "MemoryError",
    "raise_a_foreign_error": "KeyError: 'not one of ours'",
    "leave": "death: left with code 0",
}

Results = dict[str, dict[str, Any]]


def fuzz(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return run_to_its_end(program, *arguments, timeout=240)


def run_fuzzer(
    program: Path, folder: Path, *arguments: object
) -> tuple[Results, subprocess.CompletedProcess[str]]:
    results = folder / "results.json"
    ended = fuzz(program, *arguments, "--findings", folder / "findings", "--json", results)
    assert results.exists(), ended.stderr
    return {result["target"]: result for result in json.loads(results.read_text())}, ended


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What came of the mutants of every target."""
    folder = tmp_path_factory.mktemp("fuzz")
    # A busy machine is slow at times, and a real hang has no end.
    return run_fuzzer(HERE, folder, "--mutants", MUTANTS, "--seed", 0, "--hang", 60)[0]


@pytest.mark.parametrize("target", TARGETS)
def test_mutants_are_read_or_refused_and_nothing_else_happens(target: str, results: Results) -> None:
    found = results[target]["findings"]
    assert not found, f"{len(found)} findings, such as {found[0]['why']} in {found[0]['path']}"


@pytest.mark.parametrize("target", TARGETS)
def test_some_mutants_are_refused_and_some_get_through(target: str, results: Results) -> None:
    counts = results[target]["counts"]
    through = sum(count for outcome, count in counts.items() if outcome != "refused")
    assert counts["refused"] >= 10
    assert through >= 3


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """What came of readers that have a fault when a byte of a mutant is 255."""
    folder = tmp_path_factory.mktemp("planted")
    results, ended = run_fuzzer(HERE / "planted.py", folder, "--mutants", 720, "--hang", 0.3)
    assert ended.returncode == 1
    return results


@pytest.mark.parametrize(("fault", "words"), FAULTS.items())
def test_a_planted_fault_is_found(fault: str, words: str, planted: Results) -> None:
    found = planted[fault]["findings"]
    assert found
    assert all(words in finding["why"] for finding in found)


def test_every_mutant_that_fails_is_one_with_the_magic_byte(planted: Results) -> None:
    written = [
        finding["path"] for fault in FAULTS for finding in planted[fault]["findings"] if finding["path"]
    ]
    assert len(written) >= len(FAULTS)
    assert all(b"\xff" in Path(path, "file").read_bytes() for path in written)


def test_a_reader_without_a_fault_gives_no_findings(planted: Results) -> None:
    assert planted["_nothing"]["findings"] == []
    assert planted["_nothing"]["counts"]["read"] == planted["_nothing"]["mutants"] == 60


def test_what_took_too_long_once_and_not_again_is_counted_and_is_no_finding(planted: Results) -> None:
    result = planted["stand_still_once"]
    assert result["findings"] == []
    assert result["stalled"] == 1
    assert result["counts"]["read"] == result["mutants"] - 1 == 59


def test_a_worker_may_stand_still_more_than_once(tmp_path: Path) -> None:
    line = ("--target", "stand_still_twice", "--mutants", 200, "--workers", 1, "--hang", 0.3)
    results, ended = run_fuzzer(HERE / "planted.py", tmp_path, *line)
    assert ended.returncode == 0, ended.stderr
    assert results["stand_still_twice"]["stalled"] == 2


def test_what_was_found_can_be_seen_again_by_the_command_that_is_written_beside_it(planted: Results) -> None:
    folder = Path(planted["crash"]["findings"][0]["path"])
    command = (folder / "finding.txt").read_text().splitlines()[-1].split()
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "death: killed by SIGSEGV" in ended.stdout


def test_a_mutant_that_does_nothing_wrong_is_said_to_do_nothing_wrong(tmp_path: Path) -> None:
    mutant = tmp_path / "mutant"
    mutant.mkdir()
    (mutant / "file").write_bytes(b"no magic")
    ended = fuzz(HERE / "planted.py", "--replay", mutant, "--target", "crash")
    assert ended.returncode == 0, ended.stderr


def test_the_same_seed_gives_the_same_mutants(planted: Results, tmp_path: Path) -> None:
    again, _ = run_fuzzer(HERE / "planted.py", tmp_path, "--mutants", 60, "--target", "raise_a_foreign_error")
    indices = {finding["index"] for finding in planted["raise_a_foreign_error"]["findings"]}
    assert {finding["index"] for finding in again["raise_a_foreign_error"]["findings"]} == indices
    other, _ = run_fuzzer(
        HERE / "planted.py", tmp_path, "--mutants", 60, "--target", "raise_a_foreign_error", "--seed", 1
    )
    assert {finding["index"] for finding in other["raise_a_foreign_error"]["findings"]} != indices
