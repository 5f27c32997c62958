"""A run whose numbers are none any more stops, and what it saved stays good."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_runs import Interrupting, last, losses, train

from vae_training.config import Config
from vae_training.data import ImageSet
from vae_training.errors import DivergedError
from vae_training.loop import Trainer
from vae_training.progress import Observer
from vae_training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_pictures")


Images = Callable[..., ImageSet]
Small = Callable[..., Config]


class Poisoning(Observer):
    """Puts NaN into a weight at the beginning of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.trainer: Trainer | None = None

    def epoch_began(self, epoch: int, step: int) -> None:  # noqa: ARG002 - as every observer
        if epoch == self.epoch and self.trainer:
            self.trainer.model.decoder.fc.bias.data[0] = float("nan")


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_good_checkpoint(
    bars: Images, small: Small, tmp_path: Path
) -> None:
    observer = Poisoning(epoch=2)
    observer.trainer = Trainer(small(epochs=3, learning_rate=0.002), bars(), RunFolder(tmp_path), observer)
    with pytest.raises(
        DivergedError, match=r"the loss became nan at step 6, with learning rate 0\.002"
    ) as stop:
        observer.trainer.run()
    assert stop.value.exit_code == 5
    assert f"the last good checkpoint is kept in {tmp_path / 'checkpoints'}" in str(stop.value)
    assert "Try a lower --learning-rate" in str(stop.value)
    assert last(tmp_path).position.epoch == 1
    assert all(tensor.isfinite().all() for tensor in last(tmp_path).weights.values())
    assert [row["epoch"] for row in RunFolder(tmp_path).read_metrics()] == [1]


@pytest.mark.parametrize("batch_size", [8, 64], ids=["many steps", "one step"])
def test_a_learning_rate_that_is_far_too_large_is_told_as_such(
    bars: Images, small: Small, tmp_path: Path, batch_size: int
) -> None:
    with pytest.raises(DivergedError, match="with learning rate 900") as stopped:
        train(small(learning_rate=900.0, batch_size=batch_size, epochs=5), bars(), tmp_path)
    assert ("validation loss" in str(stopped.value)) == (batch_size == 64)
    for row in RunFolder(tmp_path).read_metrics():
        assert np.isfinite(losses([row])).all()


def test_weights_that_broke_in_the_last_step_are_not_saved(
    bars: Images, small: Small, tmp_path: Path, with_pictures: None
) -> None:
    class PoisoningLastStep(Poisoning):
        def wants_losses(self) -> bool:
            if self.trainer and self.trainer.position.total_steps == 12:
                super().epoch_began(2, 0)
            return False

        def epoch_began(self, epoch: int, step: int) -> None:
            """Not yet."""

    observer = PoisoningLastStep(epoch=2)
    observer.trainer = Trainer(small(validation=0.0), bars(), RunFolder(tmp_path), observer)
    with pytest.raises(DivergedError, match=r"the state \(decoder\.fc\.bias.*\) became NaN") as stopped:
        observer.trainer.run()
    assert "at step 12, with learning rate 0.001; the last good checkpoint is kept in" in str(stopped.value)
    assert stopped.value.exit_code == 5
    assert last(tmp_path).position.epoch == 1
    assert not RunFolder(tmp_path).sheet(2).exists()


def test_a_moment_that_overflowed_before_any_loss_stops_the_run_with_all_that_belongs_to_it_as_it_was(
    bars: Images, small: Small, tmp_path: Path
) -> None:
    class Overflowing(Observer):
        def wants_losses(self) -> bool:
            if trainer.position.total_steps == 12:
                moments = trainer.learner.optimizer.state[trainer.model.decoder.fc.bias]
                moments["exp_avg_sq"][0] = float("inf")
            return False

    trainer = Trainer(small(validation=0.0), bars(), RunFolder(tmp_path), Overflowing())
    with pytest.raises(
        DivergedError, match=r"the state \(.*exp_avg_sq\) became .* at step 12, with learning"
    ):
        trainer.run()
    assert last(tmp_path).position.epoch == 1
    assert [row["epoch"] for row in RunFolder(tmp_path).read_metrics()] == [1]


def test_a_state_that_has_diverged_is_not_saved_on_a_signal_either(
    bars: Images, small: Small, tmp_path: Path
) -> None:
    class Both(Poisoning, Interrupting):
        def __init__(self) -> None:
            Poisoning.__init__(self, epoch=1)
            Interrupting.__init__(self, step=2)

    observer = Both()
    observer.trainer = Trainer(small(), bars(), RunFolder(tmp_path), observer)
    with pytest.raises(DivergedError, match="no checkpoint is there yet"):
        observer.trainer.run()
    assert not (tmp_path / "checkpoints").exists()
