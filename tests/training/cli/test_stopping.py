"""`vae-train` and signals: what it was doing is saved, and the way to go on is told."""

from __future__ import annotations

import os
import platform
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contents import files
from small_commands import SMALL, VAE_TRAIN, same_weights

from vae_training.checkpoint import newest_checkpoint
from vae_training.config import Config

Here = Callable[..., Any]
Start = Callable[..., subprocess.Popen[str]]


def interrupted(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal once training has begun, and return all that came on stderr."""
    assert process.stderr is not None
    began = process.stderr.readline()
    assert " epochs of " in began, began + process.stderr.read()
    process.send_signal(number)
    _, rest = process.communicate(timeout=60)
    return rest


LONG = (*SMALL, "--batch-size", 1, "--epochs", 40)


def test_a_run_stopped_by_sigint_goes_on_to_the_same_weights(
    folder: Path, start_python: Start, vae_train_here: Here
) -> None:
    process = start_python(VAE_TRAIN, *LONG, "-o", "stopped", cwd=folder)
    told = interrupted(process, signal.SIGINT)
    assert process.returncode == 130, told
    line = told.splitlines()[-1]
    assert line.startswith("vae-train: error: stopped by SIGINT after step ")
    position = newest_checkpoint(folder / "stopped/checkpoints").position
    assert f"after step {position.total_steps}, which is saved" in line
    assert not list((folder / "stopped").rglob(".tmp-*"))

    epochs = position.epoch + 2  # enough to see that it goes on, and no more
    shorter = (*SMALL, "--batch-size", 1, "--epochs", epochs, "-q")
    assert vae_train_here(*shorter, "-o", "whole") == (0, "", "")
    assert vae_train_here("--resume", "stopped", "--epochs", epochs, "-q") == (0, "", "")
    assert same_weights(folder / "stopped", folder / "whole")


def test_a_second_process_is_refused_and_sigterm_is_143_and_saves_too(
    folder: Path, start_python: Start, vae_train_here: Here
) -> None:
    process = start_python(VAE_TRAIN, *LONG, "-o", "stopped", cwd=folder)
    assert process.stderr is not None
    assert " epochs of " in process.stderr.readline()
    for command in (("--resume", "stopped"), (*SMALL, "-o", "stopped")):
        refused = vae_train_here(*command)
        assert (refused.code, refused.out) == (4, "")
        assert refused.err == (
            f"vae-train: error: stopped: process {process.pid} on {platform.node()} is training in it; "
            "wait for its end, or give another folder with -o\n"
        )
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143, told
    assert not (folder / "stopped/.lock").exists()
    assert "stopped by SIGTERM" in told.splitlines()[-1]
    assert newest_checkpoint(folder / "stopped/checkpoints").position.total_steps >= 1


def test_the_way_to_go_on_that_is_told_can_be_run_as_it_stands(
    folder: Path, vae_train_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_training.progress import Observer

    def stop_at_once(self: Observer) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return False

    with monkeypatch.context() as patched:
        patched.setattr(Observer, "wants_losses", stop_at_once)
        ended = vae_train_here(*SMALL, "-o", "it's my run", "-q")
    assert ended.code == 130
    command, *arguments = shlex.split(ended.err.split("Go on with: ")[1])
    assert command == "vae-train"
    assert vae_train_here(*arguments, "-q") == (0, "", "")


def test_a_second_signal_leaves_at_once_and_nothing_half_done(
    folder: Path, trained: Path, vae_train_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_training.progress import Observer

    def stop_twice(self: Observer) -> bool:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return pytest.fail("went on")

    before = files(trained)
    monkeypatch.setattr(Observer, "wants_losses", stop_twice)
    ended = vae_train_here("--resume", "done", "--epochs", 3, "-q")
    assert (ended.code, ended.err) == (130, "vae-train: error: interrupted\n")
    after = files(trained)
    assert Config.from_toml(trained / "config.toml").training.epochs == 3
    assert {**after, "config.toml": before["config.toml"]} == before
