"""The folder of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vae_training.config import Config, TrainingConfig
from vae_training.errors import ConfigError
from vae_training.run_folder import RunFolder, next_free_folder

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


def test_a_folder_with_something_in_it_is_refused_with_both_ways_out(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="exists and is not empty; give another folder with -o") as refused:
        RunFolder(tmp_path).refuse_used()
    assert "vae-train --resume" in str(refused.value)


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(ConfigError, match="exists"):
        RunFolder(tmp_path / "run").refuse_used()


def test_metrics_read_back_as_they_were_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.read_metrics() == []
    folder.write_metrics(ROWS)
    assert folder.read_metrics() == ROWS
    folder.write_metrics(ROWS[:1])  # anew, not appended
    assert folder.read_metrics() == ROWS[:1]


@given(kept=st.integers(0, 130))
@settings(max_examples=40, deadline=None)
def test_a_line_cut_short_ends_the_metrics(tmp_path_factory: pytest.TempPathFactory, kept: int) -> None:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.write_metrics(ROWS)
    folder.metrics.write_bytes(folder.metrics.read_bytes()[:kept])
    read = folder.read_metrics()
    assert read == ROWS[: len(read)]
    assert len(read) >= folder.metrics.read_bytes().count(b"\n")


def test_the_next_folder_is_the_first_free_number(tmp_path: Path) -> None:
    assert next_free_folder(tmp_path, "faces") == tmp_path / "faces-1"
    (tmp_path / "faces-1").mkdir()
    (tmp_path / "faces-2").touch()
    (tmp_path / "faces-4").mkdir()
    assert next_free_folder(tmp_path, "faces") == tmp_path / "faces-3"
    assert next_free_folder(tmp_path, "digits") == tmp_path / "digits-1"
    assert next_free_folder(tmp_path / "runs", "faces") == tmp_path / "runs" / "faces-1"
