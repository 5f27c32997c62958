"""`vae-train --resume`: runs that go on, and those that cannot."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contents import files
from small_commands import SMALL, same_weights

from vae_training.config import Config
from vae_training.data import ImageSet
from vae_training.run_folder import RunFolder

Here = Callable[..., Any]
Start = Callable[..., subprocess.Popen[str]]


def test_a_run_that_was_killed_before_its_first_checkpoint_is_begun_anew_by_resume(
    folder: Path, trained: Path, vae_train_here: Here
) -> None:
    (folder / "killed").mkdir()
    (folder / "killed/config.toml").write_bytes((trained / "config.toml").read_bytes())
    (folder / "killed/.lock").write_text("4711 elsewhere\n")
    (folder / "killed/metrics.jsonl").write_bytes((trained / "metrics.jsonl").read_bytes()[:-9])
    ended = vae_train_here("--resume", "killed")
    assert ended.code == 0, ended.err
    assert ended.err.splitlines()[0] == "killed was stopped before its first checkpoint: it begins anew"
    assert same_weights(folder / "killed", trained)
    assert [row["epoch"] for row in RunFolder(folder / "killed").read_metrics()] == [1, 2]


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(
    trained: Path, vae_train_here: Here
) -> None:
    for path in trained.glob("checkpoints/*/state.json"):
        path.write_bytes(b"{}")
    before = files(trained)
    ended = vae_train_here("--resume", "done", "--epochs", 3)
    assert (ended.code, ended.out) == (3, "")
    assert "state.json: format version None" in ended.err
    assert files(trained) == before


def test_resuming_lengthens_a_run(folder: Path, trained: Path, vae_train_here: Here) -> None:
    assert vae_train_here("--resume", "done", "--epochs", 3, "-q") == (0, "", "")
    assert [row["epoch"] for row in RunFolder(trained).read_metrics()] == [1, 2, 3]
    assert Config.from_toml(trained / "config.toml").training.epochs == 3
    assert vae_train_here(*SMALL, "--epochs", 3, "-o", "whole", "-q").code == 0
    assert same_weights(trained, folder / "whole")


def test_a_run_that_is_complete_is_not_resumed_without_more_epochs(
    trained: Path, vae_train_here: Here
) -> None:
    before = files(trained)
    ended = vae_train_here("--resume", "done")
    assert (ended.code, ended.out) == (2, "")
    assert "done is complete: 2 epochs are done. Give more with --epochs" in ended.err
    assert files(trained) == before


def test_a_run_that_was_lengthened_and_killed_before_it_saved_is_as_long_when_it_goes_on(
    trained: Path, vae_train_here: Here
) -> None:
    lengthened = (trained / "config.toml").read_text().replace("epochs = 2", "epochs = 3")
    (trained / "config.toml").write_text(lengthened)
    assert vae_train_here("--resume", "done", "-q") == (0, "", "")
    assert [row["epoch"] for row in RunFolder(trained).read_metrics()] == [1, 2, 3]


def test_other_settings_that_somebody_changed_in_a_runs_folder_stay_as_they_were_and_that_is_told(
    trained: Path, vae_train_here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    before = Config.from_toml(trained / "config.toml")
    changed = (trained / "config.toml").read_text().replace("beta = 0.5", "beta = 2.0")
    (trained / "config.toml").write_text(changed)
    assert vae_train_here("--resume", "done", "--epochs", 3, "-q").code == 0
    assert "settings other than epochs, sharpen_epochs, device, source stay" in caplog.text
    assert Config.from_toml(trained / "config.toml").training == replace(before.training, epochs=3)


@pytest.mark.parametrize("content", [None, b"epochs: 3"], ids=["missing", "damaged"])
def test_settings_that_are_gone_come_from_the_checkpoint(
    trained: Path, vae_train_here: Here, content: bytes | None
) -> None:
    before = Config.from_toml(trained / "config.toml")
    (trained / "config.toml").unlink()
    if content is not None:
        (trained / "config.toml").write_bytes(content)
    assert vae_train_here("--resume", "done", "--epochs", 3, "-q").code == 0
    assert Config.from_toml(trained / "config.toml").training == replace(before.training, epochs=3)


def test_a_run_is_resumed_where_its_images_went(folder: Path, trained: Path, vae_train_here: Here) -> None:
    (folder / "bars.npy").rename(folder / "moved.npy")
    ended = vae_train_here("--resume", "done", "--epochs", 3)
    assert ended.code == 3
    assert "say with --data where the images of done are now" in ended.err
    assert vae_train_here("--resume", "done", "--epochs", 3, "--data", "moved.npy", "-q").code == 0


def test_a_run_is_not_resumed_on_other_images(
    folder: Path, trained: Path, vae_train_here: Here, bars: Callable[..., ImageSet]
) -> None:
    np.save("others.npy", bars(seed=1).images)
    before = files(trained)
    ended = vae_train_here("--resume", "done", "--epochs", 3, "--data", "others.npy")
    assert (ended.code, ended.out) == (3, "")
    assert "was trained on other images than 'others.npy' holds now" in ended.err
    assert files(trained) == before
