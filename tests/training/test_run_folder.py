"""The folder of a run."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_runtime import locks
from vae_runtime.scratch import scratch_beside
from vae_training import run_folder
from vae_training.config import Config, TrainingConfig
from vae_training.errors import CheckpointError, ConfigError, FolderInUseError
from vae_training.run_folder import RunFolder, next_free_folder, next_free_folder_locked

ROWS = [
    {"epoch": 1, "loss": 3.25, "reconstruction": 3.0, "kl": 0.5},
    {"epoch": 2, "loss": 2.0, "reconstruction": 1.5, "kl": 1.0},
]


def test_everything_has_its_place_in_the_folder() -> None:
    folder = RunFolder(Path("run"))
    assert folder.config == Path("run/config.toml")
    assert folder.checkpoints == Path("run/checkpoints")
    assert folder.metrics == Path("run/metrics.jsonl")
    assert folder.loss_curve == Path("run/loss.png")
    assert folder.sheet(7) == Path("run/samples/epoch-0007.png")
    assert folder.reconstructions == Path("run/reconstructions.png")


def test_settings_are_written_so_that_they_read_back(tmp_path: Path) -> None:
    config = Config(training=TrainingConfig(epochs=3, seed=9))
    folder = RunFolder(tmp_path / "new")
    folder.write_config(config)
    assert Config.from_toml(folder.config) == config
    assert [path.name for path in folder.path.iterdir()] == ["config.toml"]


def test_a_folder_that_is_new_or_empty_is_fine(tmp_path: Path) -> None:
    RunFolder(tmp_path).refuse_used()
    RunFolder(tmp_path / "new").refuse_used()


def test_a_run_is_not_overwritten_but_may_be_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match="exists and is not empty; give another folder with -o") as refused:
        RunFolder(tmp_path).refuse_used()
    assert str(refused.value).endswith(f"or go on with that run: vae-train --resume {tmp_path}")


def test_a_folder_of_other_things_is_refused_and_nobody_sent_to_resume_it(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ConfigError, match=r"exists and is not empty; give another folder with -o$"):
        RunFolder(tmp_path).refuse_used()


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    for name in (tmp_path / "run", Path(os.devnull)):
        with pytest.raises(ConfigError, match=f"^{name} is not a folder; expected .* -o$"):
            RunFolder(name).refuse_used()


OTHER = """
import sys
from pathlib import Path
from vae_training.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_named_while_it_lives_and_forgotten_when_it_is_killed(
    tmp_path: Path, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    folder = RunFolder(tmp_path / "run")
    other = start_python(OTHER, folder.path, cwd=tmp_path, stdin=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    for attempt in (folder.locked().__enter__, folder.refuse_in_use):
        with pytest.raises(
            FolderInUseError, match=rf"process {other.pid} on .* is training in it"
        ) as refused:
            attempt()
        assert refused.value.exit_code == 4
    other.kill()
    other.communicate()
    assert folder.lock.exists()
    folder.refuse_in_use()
    with folder.locked():
        assert folder.lock.read_text() == f"{os.getpid()} {platform.node()}\n"
    assert not folder.lock.exists()


def test_one_process_has_a_folder_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.locked():
        with pytest.raises(FolderInUseError, match=rf"process {os.getpid()} on"), folder.locked():
            pass
        assert folder.lock.exists()
    with folder.locked():
        pass


@pytest.mark.parametrize("content", [b"", b"nonsense", b"1", b"x" * 5000, b"\xff 1"])
def test_a_lock_that_says_nothing_of_its_holder_is_one_all_the_same(tmp_path: Path, content: bytes) -> None:
    folder = RunFolder(tmp_path)
    with folder.locked():
        folder.lock.write_bytes(content)
        with pytest.raises(FolderInUseError, match="another process is training in it"):
            folder.refuse_in_use()


def test_a_lock_on_a_folder_in_which_nothing_came_about_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), RunFolder(tmp_path / "a" / "b").locked():
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_only_locked_and_begun_can_be_begun_anew(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config(Config())
    folder.lock.touch()
    (tmp_path / ".tmp-1-01234567-89abcdef").mkdir()
    folder.refuse_used()
    assert folder.is_unbegun()
    folder.metrics.touch()
    with pytest.raises(ConfigError, match="not empty"):
        folder.refuse_used()
    (folder.checkpoints / "step-00000001").mkdir(parents=True)
    assert not folder.is_unbegun()


def test_where_the_file_system_knows_no_locks_it_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    with caplog.at_level(logging.WARNING), RunFolder(tmp_path).locked():
        pass
    assert "knows no locks" in caplog.text


def test_what_killed_processes_left_is_tidied_away_and_put_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for where in (folder.path, folder.checkpoints, folder.sheet(0).parent):
        with scratch_beside_made(where) as name:
            left = where / name
        left.mkdir()
    (left.parent / left.name / "replaced" / "moved").mkdir(parents=True)
    folder.tidy()
    assert [path.name for path in tmp_path.rglob(".tmp-*")] == []
    assert (folder.sheet(0).parent / "moved").is_dir()


@contextlib.contextmanager
def scratch_beside_made(folder: Path) -> Iterator[str]:
    folder.mkdir(exist_ok=True)
    with scratch_beside(folder / "x") as path:
        yield path.name


def test_metrics_read_back_as_they_were_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_metrics() == []
    folder.write_metrics(ROWS)
    assert folder.read_metrics() == ROWS
    folder.write_metrics(ROWS[:1])  # anew, not appended
    assert folder.read_metrics() == ROWS[:1]


@given(kept=st.integers(0, 130))
@settings(max_examples=40, deadline=None)
def test_a_line_cut_short_is_left_out_of_the_metrics(
    tmp_path_factory: pytest.TempPathFactory, kept: int
) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.write_metrics(ROWS)
    folder.metrics.write_bytes(folder.metrics.read_bytes()[:kept])
    read = folder.read_metrics()
    assert read == ROWS[: len(read)]
    assert len(read) >= folder.metrics.read_bytes().count(b"\n")


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"3",
        b"[]",
        b'{"epoch": 3, "loss": NaN, "reconstruction": 1, "kl": 1}',
        b'{"epoch": 3, "loss": 1e999, "reconstruction": 1, "kl": 1}',
        b'{"epoch": 3, "epoch": 3, "loss": 1, "reconstruction": 1, "kl": 1}',
        b'{"epoch": 3, "loss": "1", "reconstruction": 1, "kl": 1}',
        b'{"epoch": 3, "loss": true, "reconstruction": 1, "kl": 1}',
        b'{"epoch": 3, "loss": 1, "reconstruction": 1}',
        b'{"epoch": 3, "loss": 1, "reconstruction": 1, "kl": 1, "more": 1}',
        b'{"epoch": 2, "loss": 1, "reconstruction": 1, "kl": 1}',
        b'{"epoch": 3.0, "loss": 1, "reconstruction": 1, "kl": 1}',
        b'{"loss": 1, "reconstruction": 1, "kl": 1}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_no_row_of_ours_is_left_out_with_a_warning_and_those_behind_it_are_not(
    tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    folder = RunFolder(tmp_path)
    later = {**ROWS[1], "epoch": 4}
    folder.write_metrics([*ROWS, later])
    one, two, four = folder.metrics.read_bytes().splitlines(keepends=True)
    folder.metrics.write_bytes(one + two + line + b"\n" + four)
    with caplog.at_level(logging.WARNING):
        assert folder.read_metrics() == [*ROWS, later]
    assert "line 3 is damaged" in caplog.text


def test_metrics_that_are_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl"):
        RunFolder(tmp_path).read_metrics()


def test_the_next_folder_is_the_first_free_number(tmp_path: Path) -> None:
    assert next_free_folder(tmp_path, "faces") == tmp_path / "faces-1"
    (tmp_path / "faces-1").mkdir()
    (tmp_path / "faces-2").touch()
    (tmp_path / "faces-4").mkdir()
    assert next_free_folder(tmp_path, "faces") == tmp_path / "faces-3"
    assert next_free_folder(tmp_path, "digits") == tmp_path / "digits-1"
    assert next_free_folder(tmp_path / "runs", "faces") == tmp_path / "runs" / "faces-1"


def test_of_runs_that_begin_together_each_gets_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = (tmp_path / f"faces-{number}" for number in (1, 2, 3))
    # Each looks for a free number before the one before it has made its folder; the third's was used up meanwhile.
    free = iter([one, one, two, two, three])
    monkeypatch.setattr(run_folder, "next_free_folder", lambda *_: next(free))
    with next_free_folder_locked(tmp_path, "faces") as first:
        with next_free_folder_locked(tmp_path, "faces") as second:
            (second.path / "loss.png").touch()
        with next_free_folder_locked(tmp_path, "faces") as third:
            assert [first.path, second.path, third.path] == [one, two, three]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["loss.png"]
