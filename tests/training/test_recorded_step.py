"""Steps that are recorded: with a recorder that needs no GPU, since what CUDA does in its place only a GPU shows.

Like CUDA, it does nothing while it records, and repeats what was done in the places in memory where it was done.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import last, losses
from torch import Tensor

from vae_training import learning
from vae_training.config import Config
from vae_training.data import ImageSet
from vae_training.loop import Trainer
from vae_training.progress import Observer
from vae_training.recorded_step import WARM_UP, RecordedStep, Recording
from vae_training.run_folder import RunFolder

Images = Callable[..., ImageSet]
Small = Callable[..., Config]
Take = Callable[[], Tensor]


class Notes:
    """Records by keeping the step; `spoil` is what goes wrong when that is repeated."""

    def __init__(self, spoil: Callable[[Take], Tensor] = lambda take: take()) -> None:
        self.spoil = spoil
        self.recorded, self.replayed = 0, 0

    def beside(self, take: Take) -> Tensor:
        return take()

    def record(self, take: Take) -> Recording:
        self.recorded += 1
        output = torch.empty(3)

        def replay() -> None:
            self.replayed += 1
            output.copy_(self.spoil(take))

        return Recording(replay, output)


class Adding:
    """A step that adds images and a number to a sum, and counts."""

    def __init__(self) -> None:
        self.sum, self.count = torch.zeros(3), torch.zeros(())

    def __call__(self, image: Tensor, number: Tensor) -> Tensor:
        assert number.shape == ()
        self.sum += image + number
        self.count += 1
        return image * 2

    def changed(self) -> list[Tensor]:
        return [self.sum, self.count]


def take_steps(step: Adding, recorded: RecordedStep, count: int) -> None:
    """Take steps of other images and numbers, and look at each output and what has been added up."""
    expected = torch.zeros(3)
    for number in range(count):
        image = torch.tensor([1.0, 2.0, 3.0]) * (number + 1)
        assert torch.equal(recorded(image, 10.0 * number), image * 2)
        expected += image + 10.0 * number
        assert torch.equal(step.sum, expected)
        assert step.count == number + 1


def test_a_recorded_step_does_with_every_input_what_the_step_does() -> None:
    step, notes, heard = Adding(), Notes(), list[str]()
    take_steps(step, RecordedStep(step, step.changed, heard.append, notes), 10)
    assert (notes.recorded, notes.replayed) == (1, 10 - WARM_UP)
    assert heard == []


def forgets(take: Take) -> Tensor:
    """As if what a step adds were not on the GPU."""
    step: Adding = take.__self__._step  # type: ignore[attr-defined]  # of the RecordedStep that it belongs to
    kept = [value.clone() for value in step.changed()]
    output = take()
    for value, before in zip(step.changed(), kept, strict=True):
        value.copy_(before)
    return output


def repeats(take: Take) -> Tensor:
    """As if a step were recorded with the one before."""
    take()
    return take()


def counts_twice(take: Take) -> Tensor:
    """As if one of many tensors were changed otherwise."""
    take.__self__._step.count += 1  # type: ignore[attr-defined]  # of the RecordedStep that it belongs to
    return take()


@pytest.mark.parametrize(
    "spoil", [forgets, repeats, counts_twice, lambda take: take() + 1.0, lambda take: take() * torch.nan]
)
def test_a_recording_that_ends_elsewhere_is_given_up_and_the_step_taken_as_it_is(
    spoil: Callable[[Take], Tensor],
) -> None:
    step, notes, heard = Adding(), Notes(spoil), list[str]()
    take_steps(step, RecordedStep(step, step.changed, heard.append, notes), 10)
    assert (notes.recorded, notes.replayed) == (1, 1)
    assert heard == [
        "steps are launched one operation at a time: a CUDA graph of them ended elsewhere than the step itself"
    ]


def test_what_cannot_be_recorded_is_taken_as_it_is() -> None:
    class Unable(Notes):
        def record(self, take: Take) -> Recording:  # noqa: ARG002 - as every recorder
            self.recorded += 1
            raise RuntimeError("operation not permitted when stream is capturing\nCompile with ...")

    step, notes, heard = Adding(), Unable(), list[str]()
    take_steps(step, RecordedStep(step, step.changed, heard.append, notes), 10)
    assert (notes.recorded, notes.replayed) == (1, 0)
    (line,) = heard
    assert "a CUDA graph of them failed: operation not permitted when stream is capturing" in line
    assert "\n" not in line


class Hearing(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def told(self, line: str) -> None:
        self.heard.append(line)


@pytest.fixture
def train(
    bars: Images, no_pictures: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[dict[str, Any]]]:
    """Return the function that trains a run into a folder of this name, with a recorder or none."""

    def run(name: str, config: Config, notes: Notes | None, observer: Observer | None = None) -> Any:
        trainer = Trainer(config, bars(), RunFolder(tmp_path / name), observer)
        trainer.learner.is_arranged = False  # as on a GPU
        trainer.learner.records = notes is not None

        def recorded(*arguments: Any) -> RecordedStep:
            return RecordedStep(*arguments, notes)

        monkeypatch.setattr(learning, "RecordedStep", recorded)
        return trainer.run()

    return run


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "discretized-logistic"])
def test_a_run_whose_steps_are_recorded_ends_where_the_plain_one_does(
    small: Small, train: Callable[..., list[dict[str, Any]]], tmp_path: Path, likelihood: str
) -> None:
    """All that is another one at every step: rate, weight of the KL divergence, share of the noise scale, average."""
    config = small(
        epochs=3, likelihood=likelihood, beta_schedule="cyclical", schedule="onecycle", ema=0.9,
        clip_gradient=1.0, flip=True, sharpen_epochs=1,
    )  # fmt: skip
    notes, hearing = Notes(), Hearing()
    plain, recorded = train("plain", config, None), train("recorded", config, notes, hearing)
    # A rate is rounded to 32 bits where it lies on the device.
    assert losses(recorded) == [pytest.approx(row, rel=1e-5) for row in losses(plain)]
    found, expected = last(tmp_path / "recorded"), last(tmp_path / "plain")
    for name, value in expected.training.items():
        torch.testing.assert_close(found.training[name], value, rtol=1e-3, atol=1e-6)
    assert notes.replayed == 3 * 5 - WARM_UP  # and none of the sharpening
    assert hearing.heard == []


def test_only_a_gpu_records_and_only_where_compiling_is_not_off(
    bars: Images, small: Small, tmp_path: Path
) -> None:
    for choice in ("auto", "off"):
        trainer = Trainer(small(compile=choice), bars(), RunFolder(tmp_path / choice))
        assert not trainer.learner.records
        assert not isinstance(trainer.learner._updater(), RecordedStep)
