"""Where others want the processors as well, threads sleep while they wait."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vae_training import busy_machine
from vae_training.busy_machine import sleep_where_busy, threads_are_asleep

_LINES = "some avg10={:.2f} avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
_BUSY, _QUIET = _LINES.format(98.79), _LINES.format(2.5)

Asked = Callable[[str | None], bool]


@pytest.fixture
def are_asleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Ask on a machine with this pressure, as a process that has not imported torch."""
    monkeypatch.delitem(sys.modules, "torch")
    for name in busy_machine._DECIDED_BY:
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)

    def ask(pressure: str | None) -> bool:
        if pressure is not None:
            (tmp_path / "pressure").write_text(pressure)
        monkeypatch.setattr(busy_machine, "_PRESSURE", tmp_path / "pressure")
        sleep_where_busy()
        return threads_are_asleep()

    return ask


def test_they_sleep_on_a_busy_machine(are_asleep: Asked) -> None:
    assert are_asleep(_BUSY)


def test_they_do_not_on_a_quiet_one(are_asleep: Asked) -> None:
    assert not are_asleep(_QUIET)


@pytest.mark.parametrize(
    ("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "1000"), ("KMP_BLOCKTIME", "0")]
)
def test_who_has_decided_is_left_alone(
    are_asleep: Asked, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert not are_asleep(_BUSY)
    assert os.environ[name] == value


@pytest.mark.parametrize("pressure", [None, "", "some avg10=much", "avg10=99.00"])
def test_a_system_that_does_not_tell_is_taken_for_quiet(are_asleep: Asked, pressure: str | None) -> None:
    assert not are_asleep(pressure)


def test_once_torch_is_there_it_is_too_late(are_asleep: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    assert not are_asleep(_BUSY)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another OpenMP, with other words")
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("vae_training", ["--dry-run", "--epochs", "1"]),
        ("vae_training", ["evaluate", "nowhere"]),
        ("vae_export", ["nowhere"]),
    ],
    ids=["vae-train", "vae-train evaluate", "vae-export"],
)
def test_every_command_that_computes_tells_openmp_in_time(
    run_python: Any, tmp_path: Path, module: str, arguments: list[str]
) -> None:
    """OpenMP shows what it was told when torch loads it: how often a thread looks before it sleeps."""
    (tmp_path / "pressure").write_text(_BUSY)
    code = f"""
import sys
from pathlib import Path
from vae_training import busy_machine
busy_machine._PRESSURE = Path(sys.argv.pop(1))
from {module}.cli import main
main()
"""
    finished = run_python(code, tmp_path / "pressure", *arguments, OMP_DISPLAY_ENV="VERBOSE")
    assert "GOMP_SPINCOUNT = '0'" in finished.stderr
