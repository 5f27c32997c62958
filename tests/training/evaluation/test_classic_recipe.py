"""Beside every model stands the classic recipe, trained on the images that the model was trained on and no others."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import make_run

from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.data import ImageSet, split
from vae_training.evaluation.classic_recipe import train_classic_recipe
from vae_training.evaluation.material import gather
from vae_training.evaluation.subjects import RunSubject
from vae_training.interruption import Interrupted

Here = Callable[..., Any]
QUICK = ("--importance-samples", 40, "--importance-images", 6)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, which is empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_its_figures_are_those_of_a_run_by_the_defaults_on_what_is_not_held_out(
    in_a_folder: Path,
    temporary: Path,
    run: Path,
    run_subject: RunSubject,
    run_data: ImageSet,
    vae_train_here: Here,
) -> None:
    assert run_subject.config is not None
    config = run_subject.config
    training, _ = split(run_data, config.data.validation, config.training.seed)
    _, height, width = run_subject.image_shape
    classic = Config(
        DataConfig(validation=0.0), ModelConfig(height, width), TrainingConfig(device="cpu", compile="off")
    )
    rest = ImageSet(run_data.images[training], None, "rest", "")
    named = make_run(classic, rest, in_a_folder / "classic recipe")
    ended = vae_train_here("evaluate", run, *QUICK, "--json", "a.json")
    assert (ended.code, ended.err) == (0, "")
    assert vae_train_here("evaluate", run, *QUICK, "--against", named, "--json", "b.json").code == 0
    ours, theirs = (json.loads(Path(name).read_bytes()) for name in ("a.json", "b.json"))
    assert ours["against"] == theirs["against"]
    assert ours["model"] == theirs["model"]
    header = next(line for line in ended.out.splitlines() if "real images" in line)
    assert header.split("  ")[-1] == "classic recipe"
    assert [*temporary.iterdir()] == []


def test_an_interruption_while_it_is_trained_says_that_nothing_is_written(
    run_subject: RunSubject, run_data: ImageSet, temporary: Path
) -> None:
    with pytest.raises(Interrupted, match="nothing is written") as stopped:
        train_classic_recipe(gather(run_subject, run_data), lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert stopped.value.exit_code == 143
    assert [*temporary.iterdir()] == []


def test_alone_and_against_is_wrong_usage(in_a_folder: Path, run: Path, vae_train_here: Here) -> None:
    ended = vae_train_here("evaluate", run, "--alone", "--against", run)
    assert (ended.code, ended.out) == (2, "")
    assert "--alone and --against" in ended.err
