"""What a run leaves in its folder, and when it saves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import last, losses, same_bits, train

from vae_training import loop
from vae_training.checkpoint import Position, list_checkpoints
from vae_training.config import Config
from vae_training.data import ImageSet
from vae_training.loop import Trainer
from vae_training.progress import Observer
from vae_training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_pictures")


Images = Callable[..., ImageSet]
Small = Callable[..., Config]


def test_every_epoch_leaves_curve_sheets_metrics_and_checkpoint(
    bars: Images, small: Small, tmp_path: Path, with_pictures: None
) -> None:
    train(small(epochs=3), bars(), tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        *(
            f"checkpoints/step-000000{step}/{name}"
            for step in (10, 15)
            for name in ("model.safetensors", "state.json", "training.safetensors")
        ),
        *(f"samples/epoch-000{n}.png" for n in (1, 2, 3)),
        "loss.png",
        "metrics.jsonl",
        "reconstructions.png",
    }


class Listing(Observer):
    """Notes which checkpoints there are at each step."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path).checkpoints
        self.seen: list[list[int]] = []

    def wants_losses(self) -> bool:
        self.seen.append([int(path.name[5:]) for path in list_checkpoints(self.folder)])
        return False


def test_inside_an_epoch_it_saves_every_so_many_steps(bars: Images, small: Small, tmp_path: Path) -> None:
    whole = train(small(), bars(), tmp_path / "whole")
    observer = Listing(tmp_path / "run")
    rows = Trainer(small(), bars(), RunFolder(tmp_path / "run"), observer, save_every=2).run()
    assert observer.seen == [[], [], [2], [2], [2, 4], [4, 5], [5, 6], [5, 6], [6, 8], [6, 8]]
    assert same_bits(last(tmp_path / "run"), last(tmp_path / "whole"))
    assert losses(rows) == losses(whole)


def test_an_epochs_last_step_is_saved_once(
    bars: Images, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    monkeypatch.setattr(loop, "save_checkpoint", lambda *_, position, **__: saved.append(position))
    Trainer(small(), bars(), RunFolder(tmp_path), save_every=5).run()
    assert saved == [Position(1, 0, 5), Position(2, 0, 10)]


def test_without_being_told_it_saves_inside_an_epoch_when_ten_minutes_have_gone_by(
    bars: Images, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loop._SAVE_AFTER == 600
    now = 0.0
    monkeypatch.setattr(loop.time, "monotonic", lambda: now)

    class Slow(Listing):
        def wants_losses(self) -> bool:
            nonlocal now
            now += 250.0
            return super().wants_losses()

    observer = Slow(tmp_path)
    Trainer(small(epochs=1), bars(), RunFolder(tmp_path), observer).run()
    assert observer.seen == [[], [], [], [3], [3]]
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == [
        "step-00000003",
        "step-00000005",
    ]
