"""The mutation tests' own parts, on sources of which is known what becomes of their mutants; and the list of survivors.

What cosmic-ray makes of them is looked at where it is installed, as in the environment of `make mutants`, which runs
these tests first.
"""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from mutants.known import known_survivors
from mutants.mutant import meaning, mutant_of
from mutants.targets import TARGETS
from processes import ROOT, run_to_its_end

HERE = Path(__file__).resolve().parent
PLANTED = HERE / "planted.py"
SOURCES = sorted((HERE / "planted" / "source").glob("*.py"))
MAKERS = ["by-hand", *(["cosmic-ray"] if find_spec("cosmic_ray") else [])]
UNLISTED = "@@ double.py double @@\n-return 2 * number\n+return 2 ** number"


def mutants(*arguments: object, maker: str = "by-hand") -> subprocess.CompletedProcess[str]:
    return run_to_its_end(PLANTED, maker, "--least", 2, *arguments, timeout=240)


def row(ended: subprocess.CompletedProcess[str], file: str) -> list[int]:
    """Mutants, killed, timed out and survived."""
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith(f"{file} ")]
    return [int(number) for number in line.split()[1:5]]


def test_what_is_killed_hangs_or_survives_is_counted_and_what_is_no_mutant_is_not() -> None:
    before = [file.read_bytes() for file in SOURCES]
    ended = mutants("--only", "clamp.py")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert row(ended, "clamp.py") == row(ended, "together") == [5, 2, 1, 2]
    assert (
        "timed out: source/clamp.py:15\n@@ clamp.py count_down @@\n-number -= 1\n+number += 1" in ended.stdout
    )
    assert "all survivors are listed" in ended.stdout
    assert [file.read_bytes() for file in SOURCES] == before


def test_a_survivor_that_is_not_listed_is_shown_and_fails_the_run() -> None:
    ended = mutants("--only", "double.py")
    assert ended.returncode == 1
    assert row(ended, "double.py") == [2, 1, 0, 1]
    assert f"survived: source/double.py:7\n{UNLISTED}" in ended.stdout
    assert ended.stdout.endswith(
        f"survived, and is not listed in README.md:\n{UNLISTED}\n\n1 survivors that are not listed\n"
    )


@pytest.mark.parametrize("maker", MAKERS)
def test_makers_of_mutants_make_some_that_are_killed_and_one_that_survives(maker: str) -> None:
    ended = mutants("--only", "double.py", maker=maker)
    assert ended.returncode == 1, ended.stderr
    whole, killed, _, survived = row(ended, "double.py")
    assert whole >= 2
    assert killed >= 1
    assert survived >= 1
    assert UNLISTED in ended.stdout


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("broken.py", "source/broken.py: its tests fail as it is"),
        ("apart.py", "source/apart.py: checks/checks_of_apart.py pass without it"),
    ],
)
def test_tests_that_could_say_nothing_are_not_asked(file: str, why: str) -> None:
    ended = mutants("--only", file)
    assert ended.returncode == 1
    assert ended.stderr.endswith(f"mutants: {why}\n")


def test_a_file_that_is_not_there_is_wrong_usage() -> None:
    ended = mutants("--only", "clamp.py,wire.py")
    assert ended.returncode == 2
    assert ended.stderr == "mutants: no file wire.py; there are clamp.py, double.py, broken.py, apart.py\n"


def test_a_run_that_is_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    before = [file.read_bytes() for file in SOURCES]
    with subprocess.Popen(
        [sys.executable, PLANTED, "by-hand", "--least", "60", "--only", "clamp.py"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
    ) as running:
        until = time.monotonic() + 60
        while not any(
            "+= 1\n        steps" in file.read_text() for file in tmp_path.glob("*/tree/source/clamp.py")
        ):
            assert time.monotonic() < until
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 143
    assert list(tmp_path.iterdir()) == []
    assert [file.read_bytes() for file in SOURCES] == before


def test_a_mutant_is_known_by_what_it_changes_wherever_that_stands() -> None:
    before = "class A:\n    @property\n    def f(self):\n        return 1\n"
    after = before.replace("1", "2")
    mutant = mutant_of("a.py", before, after)
    assert mutant.line == 4
    assert str(mutant.change) == "@@ a.py A.f @@\n-return 1\n+return 2"
    assert mutant_of("a.py", f"# more\n\n{before}", f"# more\n\n{after}").change == mutant.change
    without = before.replace("    @property\n", "")
    assert mutant_of("a.py", before, without).change.function == "A.f"
    assert mutant_of("a.py", "x = 1\n", "x = 2\n").change.function == "<module>"


def test_annotations_mean_nothing_and_all_else_does() -> None:
    code = "def f(a: int = 1) -> int:\n    b: int = a\n    return b\n"
    assert meaning(code) == meaning(code.replace("int =", "str =").replace("-> int", "-> str"))
    assert meaning(code) != meaning(code.replace("1", "2"))


def test_the_list_is_read_as_survivors_are_shown(tmp_path: Path) -> None:
    change = mutant_of("a.py", "x = 1\n", "x = 2\n").change
    file = tmp_path / "README.md"
    file.write_text(f"# Words\n\n```diff\n{change}\n{change}\n```\n\n```python\nno = 1\n```\n")
    assert known_survivors(file) == {change: 2}
    file.write_text("```diff\nno head\n```\n")
    with pytest.raises(ValueError, match="'no head'; expected @@ file function @@"):
        known_survivors(file)


def test_what_is_listed_still_stands_in_the_source() -> None:
    for change in known_survivors(HERE / "README.md"):
        source = (ROOT / TARGETS[change.file].path).read_text(encoding="utf-8")
        node: ast.AST = ast.parse(source)
        for name in [] if change.function == "<module>" else change.function.split("."):
            node = next(child for child in ast.iter_child_nodes(node) if getattr(child, "name", "") == name)
        begin = min([getattr(node, "lineno", 1), *(d.lineno for d in getattr(node, "decorator_list", ()))])
        lines = source.splitlines()[begin - 1 : getattr(node, "end_lineno", None)]
        assert {*change.removed} <= {line.strip() for line in lines}, change


def test_files_and_tests_are_where_they_are_said_to_be() -> None:
    for target in TARGETS.values():
        assert (ROOT / target.path).is_file()
        for word in (word for stage in target.stages for word in stage):
            file, *name = word.removeprefix("--deselect=").split("::")
            assert (ROOT / file).exists()
            assert not name or f"def {name[0]}(" in (ROOT / file).read_text(encoding="utf-8")
