"""A run goes on where it was stopped, without a bit's difference; what it cannot go on with is refused."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import Interrupting, last, losses, resume, same_bits, train
from torch import Tensor

from vae_training.checkpoint import Position
from vae_training.config import Config
from vae_training.data import ImageSet
from vae_training.errors import CheckpointError
from vae_training.interruption import Interrupted
from vae_training.loop import Trainer
from vae_training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_pictures")


Images = Callable[..., ImageSet]
Small = Callable[..., Config]


def test_two_epochs_and_two_more_are_four(bars: Images, small: Small, tmp_path: Path) -> None:
    whole = train(small(epochs=4), bars(), tmp_path / "whole")
    train(small(epochs=2), bars(), tmp_path / "parts")
    assert len(RunFolder(tmp_path / "parts").read_metrics()) == 2
    parts = resume(small(epochs=4), bars(), tmp_path / "parts")
    assert same_bits(last(tmp_path / "parts"), last(tmp_path / "whole"))
    assert losses(parts) == losses(whole)
    assert [row["epoch"] for row in RunFolder(tmp_path / "parts").read_metrics()] == [1, 2, 3, 4]


def test_metrics_that_somebody_deleted_do_not_take_later_ones_with_them(
    bars: Images, small: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(small(epochs=1), bars(), tmp_path)
    RunFolder(tmp_path).metrics.unlink()
    resume(small(epochs=2), bars(), tmp_path)
    resume(small(epochs=3), bars(), tmp_path)
    assert [row["epoch"] for row in RunFolder(tmp_path).read_metrics()] == [2, 3]
    assert caplog.messages == []


@pytest.mark.parametrize("schedule", ["constant", "onecycle"])
def test_a_run_that_was_interrupted_in_mid_epoch_ends_as_if_it_had_not_been(
    bars: Images, small: Small, tmp_path: Path, schedule: str
) -> None:
    config = small(epochs=2, schedule=schedule)
    whole = train(config, bars(), tmp_path / "whole")
    parts = tmp_path / "parts"
    with pytest.raises(Interrupted, match="after step 2, which is saved") as stopped:
        train(config, bars(), parts, Interrupting(2))
    assert stopped.value.exit_code == 130
    assert str(parts) in str(stopped.value)
    assert dataclasses.astuple(last(parts).position) == (0, 2, 2)
    with pytest.raises(Interrupted) as stopped:  # five steps an epoch: in mid-epoch again, the second one
        resume(config, bars(), parts, Interrupting(6, signal.SIGTERM))
    assert stopped.value.exit_code == 143
    assert dataclasses.astuple(last(parts).position) == (1, 3, 8)
    rows = resume(config, bars(), parts)
    assert same_bits(last(parts), last(tmp_path / "whole"))
    assert losses(rows) == losses(whole)


@pytest.mark.parametrize(
    "settings",
    [
        {"likelihood": "gaussian"},
        {"likelihood": "gaussian", "noise_scale": "learned", "clip_gradient": 1.0},
        {"likelihood": "discretized-logistic", "beta_schedule": "cyclical"},
        {"flip": True, "shift": 1, "brightness": 0.1, "schedule": "cosine"},
        {"beta_schedule": "warmup", "free_bits": 0.1, "capacity": 2.0},
        {"bf16": True},
    ],
    ids=lambda settings: ", ".join(settings),
)
def test_every_setting_changes_the_run_and_survives_an_interruption(
    bars: Images, small: Small, tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = small(**settings)
    whole = train(config, bars(), tmp_path / "whole")
    assert losses(whole) != losses(train(small(), bars(), tmp_path / "plain"))
    with pytest.raises(Interrupted):
        train(config, bars(), tmp_path / "parts", Interrupting(7))
    rows = resume(config, bars(), tmp_path / "parts")
    assert same_bits(last(tmp_path / "parts"), last(tmp_path / "whole"))
    assert losses(rows) == losses(whole)


def test_an_interruption_in_an_epochs_last_step_loses_nothing(
    bars: Images, small: Small, tmp_path: Path
) -> None:
    whole = train(small(), bars(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(small(), bars(), tmp_path / "parts", Interrupting(5))
    rows = resume(small(), bars(), tmp_path / "parts")
    assert same_bits(last(tmp_path / "parts"), last(tmp_path / "whole"))
    assert losses(rows) == losses(whole)


def test_a_run_is_not_resumed_on_other_images(bars: Images, small: Small, tmp_path: Path) -> None:
    train(small(epochs=1), bars(), tmp_path)
    for others in (bars(seed=1), bars(47)):
        with pytest.raises(CheckpointError, match="was trained on other images than 'faces' holds now"):
            resume(small(), others, tmp_path)


def test_a_run_is_not_resumed_as_another_model(bars: Images, small: Small, tmp_path: Path) -> None:
    train(small(epochs=1), bars(), tmp_path)
    with pytest.raises(CheckpointError, match=r"weights do not fit the model: encoder\.conv1\.weight is"):
        resume(small(filters=(4, 5)), bars(), tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("random.noise", "holds no random state"),
        ("losses", "holds no losses"),
        ("optimizer.decoder.fc.bias.exp_avg", r"no fitting optimizer state 'exp_avg' for decoder\.fc\.bias"),
    ],
)
def test_a_checkpoint_without_all_of_the_state_is_not_resumed(
    bars: Images, small: Small, tmp_path: Path, name: str, words: str
) -> None:
    train(small(epochs=1), bars(), tmp_path)
    whole = last(tmp_path)
    less = {key: tensor for key, tensor in whole.training.items() if key != name}
    trainer = Trainer(small(), bars(), RunFolder(tmp_path))
    with pytest.raises(CheckpointError, match=words):
        trainer.resume(dataclasses.replace(whole, training=less))


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("random.noise", torch.zeros(16, dtype=torch.uint8), "was written on another kind of device"),
        ("random.noise", torch.zeros(5056), "was written on another kind of device"),
        ("random.noise", torch.full((5056,), 255, dtype=torch.uint8), "its random state is none"),
        ("losses", torch.zeros(1, 3), "does not hold the losses of its 0 steps"),
        ("losses", torch.zeros(0, 2), "does not hold the losses"),
        ("losses", torch.zeros(0, 3, dtype=torch.int64), "does not hold the losses"),
    ],
)
def test_a_checkpoint_whose_state_is_of_another_kind_is_not_resumed(
    bars: Images, small: Small, tmp_path: Path, name: str, tensor: Tensor, words: str
) -> None:
    train(small(epochs=1), bars(), tmp_path)
    whole = last(tmp_path)
    trainer = Trainer(small(), bars(), RunFolder(tmp_path))
    with pytest.raises(CheckpointError, match=words):
        trainer.resume(dataclasses.replace(whole, training={**whole.training, name: tensor}))


@pytest.mark.parametrize("position", [Position(1, 0, 4), Position(0, 6, 6), Position(2, 1, 6)])
def test_a_position_that_no_run_comes_to_is_not_resumed(
    bars: Images, small: Small, tmp_path: Path, position: Position
) -> None:
    train(small(epochs=1), bars(), tmp_path)  # of five steps
    trainer = Trainer(small(), bars(), RunFolder(tmp_path))
    with pytest.raises(CheckpointError, match="is not possible with 5 steps an epoch"):
        trainer.resume(dataclasses.replace(last(tmp_path), position=position))
