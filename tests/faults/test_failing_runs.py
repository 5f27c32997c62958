"""A whole run of training whose disk is full for a moment: it says so, and resumed it ends bit for bit the same."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click
import numpy as np
import pytest
from failing import FAULTS, FILE_DESCRIPTORS, SAVING, FileSystem
from resuming import sums
from small_runs import leave_out_drawings

from vae_runtime.errors import VaeError
from vae_training.cli import vae_train

# Three steps, saved in the middle of the epoch and at its end.
RUN = ("--filters", "3,4", "--latent-size", "2", "--batch-size", "4", "--epochs", "1", "--device", "cpu",
       "--save-every", "2", "-q")  # fmt: skip
FULL = FAULTS[0]
STRIDE = 7  # calls from one that fails to the next; those of each writer all fail in a test of its own


@pytest.mark.skipif(not FILE_DESCRIPTORS.exists(), reason="this system does not tell where an open file lies")
def test_a_run_whose_disk_was_full_goes_on_to_the_same_end(
    tmp_path: Path, file_system: FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out_drawings(monkeypatch)
    data = tmp_path / "images.npy"
    np.save(data, np.random.default_rng(0).integers(0, 256, (14, 8, 8), np.uint8))

    def train(*words: object) -> None:
        vae_train.main([str(word) for word in words], standalone_mode=False)

    def resume(run: Path) -> None:
        if (run / "config.toml").exists():
            with contextlib.suppress(click.UsageError):  # it is complete: the last file was not confirmed
                train("--resume", run, "-q")
        else:
            train(*start, run)

    start = ("--data", data, *RUN, "-o")
    train(*start, tmp_path / "whole")
    whole = sums(tmp_path / "whole")
    refused = 0
    for number in range(1, 10_000, STRIDE):
        run = tmp_path / f"run {number}"
        error = None
        with file_system.failing(FULL, number, run):
            try:
                train(*start, run)
            except VaeError as caught:  # and nothing else is let through
                error = caught
        if not file_system.failed:
            break
        where = f"call {number}, {file_system.failed}"
        if error is None:
            assert not SAVING & set(file_system.failed), where
        else:
            assert error.exit_code == 4, where
            refused += 1
            resume(run)
        assert sums(run) == whole, where
    assert refused > 5
