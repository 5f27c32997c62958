"""The loop: the classic recipe step by step, resumed and repeated without a bit's difference."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_vae import PlainVAE
from torch import Tensor

from vae_training import loop
from vae_training.checkpoint import Checkpoint, Position, list_checkpoints, newest_checkpoint
from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.data import ImageSet, split
from vae_training.errors import CheckpointError, DivergedError
from vae_training.interruption import Interrupted
from vae_training.loop import Trainer, fit_model_to_images
from vae_training.progress import Observer
from vae_training.run_folder import RunFolder

_LOSSES = ("loss", "reconstruction", "kl", "validation_loss", "validation_reconstruction", "validation_kl")


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing, which takes most of the time of runs as small as these."""
    if "with_pictures" not in request.fixturenames:
        for name in ("plot_losses", "write_sample_sheet", "write_reconstruction_sheet"):
            monkeypatch.setattr(loop, name, lambda *_: None)


@pytest.fixture
def with_pictures() -> None:
    """Draw curve and sheets after all."""


Images = Callable[..., ImageSet]
Small = Callable[..., Config]


def train(
    config: Config, images: ImageSet, path: Path, observer: Observer | None = None
) -> list[dict[str, Any]]:
    return Trainer(config, images, RunFolder(path), observer).run()


def resume(
    config: Config, images: ImageSet, path: Path, observer: Observer | None = None
) -> list[dict[str, Any]]:
    folder = RunFolder(path)
    trainer = Trainer(config, images, folder, observer)
    trainer.resume(newest_checkpoint(folder.checkpoints))
    return trainer.run()


def last(path: Path) -> Checkpoint:
    return newest_checkpoint(RunFolder(path).checkpoints)


def same_bits(a: Checkpoint, b: Checkpoint) -> bool:
    """Whether weights, the optimizer's moments and the random state are all equal."""
    return all(
        ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
        for ours, theirs in ((a.weights, b.weights), (a.training, b.training))
    )


def losses(rows: list[dict[str, Any]]) -> list[list[float]]:
    return [[row[name] for name in _LOSSES] for row in rows]


class Interrupting(Observer):
    """Sends a signal to this process in the middle of a step of the run."""

    def __init__(self, step: int, number: signal.Signals = signal.SIGINT) -> None:
        self.left, self.number = step, number

    def wants_losses(self) -> bool:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        return False


class Poisoning(Observer):
    """Puts NaN into a weight at the beginning of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.trainer: Trainer | None = None

    def epoch_began(self, epoch: int, step: int) -> None:  # noqa: ARG002 - as every observer
        if epoch == self.epoch and self.trainer:
            self.trainer.model.decoder.fc.bias.data[0] = float("nan")


def test_training_is_the_classic_recipe_step_by_step(bars: Images, tmp_path: Path) -> None:
    images = bars(40, 24, 24)
    config = Config(
        data=DataConfig(validation=0.0),
        training=TrainingConfig(epochs=2, batch_size=16, seed=5, device="cpu", compile="off"),
    )
    rows = train(config, images, tmp_path)

    torch.manual_seed(5)
    plain = PlainVAE()
    adam = torch.optim.Adam(plain.parameters(), lr=1e-3)
    noise = torch.Generator().manual_seed(5)
    pixels = torch.from_numpy(images.images[..., 0]).float()[:, None] / 255
    means = []
    for epoch in range(2):
        order = np.random.Generator(np.random.PCG64([5, epoch])).permutation(40)
        order = np.concatenate([order, order])[:48]
        seen = []
        for batch in order.reshape(3, 16):
            x, eps = pixels[batch], torch.randn(16, 20, generator=noise)
            mu, logvar = plain.encode(x)
            reconstruction = plain.decode(mu + eps * torch.exp(logvar / 2))
            bce = torch.nn.functional.binary_cross_entropy(reconstruction, x, reduction="sum")
            kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
            loss = (bce + 0.5 * kl) / 16
            adam.zero_grad()
            loss.backward()
            adam.step()
            seen.append(loss.item())
        means.append(np.mean(seen))

    assert [row["loss"] for row in rows] == pytest.approx(means, rel=1e-5)
    found, expected = last(tmp_path).weights, plain.state_dict()
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(
    bars: Images, small: Small, tmp_path: Path, threads: int
) -> None:
    torch.set_num_threads(threads)
    runs = [tmp_path / name for name in ("first", "again", "other")]
    rows = [train(small(seed=seed), bars(), path) for seed, path in zip((3, 3, 4), runs, strict=True)]
    torch.set_num_threads(1)
    first, again, other = map(last, runs)
    assert same_bits(first, again)
    assert losses(rows[0]) == losses(rows[1])
    assert not any(torch.equal(first.weights[name], other.weights[name]) for name in first.weights)


def test_two_epochs_and_two_more_are_four(bars: Images, small: Small, tmp_path: Path) -> None:
    whole = train(small(epochs=4), bars(), tmp_path / "whole")
    train(small(epochs=2), bars(), tmp_path / "parts")
    assert len(RunFolder(tmp_path / "parts").read_metrics()) == 2
    parts = resume(small(epochs=4), bars(), tmp_path / "parts")
    assert same_bits(last(tmp_path / "parts"), last(tmp_path / "whole"))
    assert losses(parts) == losses(whole)
    assert [row["epoch"] for row in RunFolder(tmp_path / "parts").read_metrics()] == [1, 2, 3, 4]


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


def test_the_noise_scale_is_told_and_is_the_error_of_a_gaussians_reconstructions(
    bars: Images, small: Small, tmp_path: Path
) -> None:
    config = small(likelihood="gaussian", epochs=30, learning_rate=0.01, batch_size=16)
    trainer = Trainer(config, bars(96), RunFolder(tmp_path))
    rows = trainer.run()
    assert rows[-1]["noise_scale"] < rows[0]["noise_scale"]
    with torch.no_grad():
        image = trainer.batches.images.float() / 255
        logits, *_ = trainer.model(image, torch.randn(len(image), 2))
        spread = (torch.sigmoid(logits) - image).square().mean().sqrt().item()
    assert rows[-1]["noise_scale"] == pytest.approx(spread, rel=0.2)
    assert "noise_scale" not in train(small(), bars(), tmp_path / "plain")[0]


def test_no_gradient_is_longer_than_it_may_be(bars: Images, small: Small, tmp_path: Path) -> None:
    norms: list[float] = []
    config = small(clip_gradient=0.5)
    trainer = Trainer(config, bars(), RunFolder(tmp_path))
    step = trainer.optimizer.step

    def note(*arguments: Any) -> Any:
        parts = [p.grad.norm() for p in trainer.model.parameters()]
        norms.append(torch.stack(parts).norm().item())
        return step(*arguments)

    trainer.optimizer.step = note  # type: ignore[method-assign]  # a look at what it is given
    trainer.run()
    assert len(norms) == 10
    assert max(norms) == pytest.approx(0.5, rel=1e-3)


def test_an_interruption_in_an_epochs_last_step_loses_nothing(
    bars: Images, small: Small, tmp_path: Path
) -> None:
    whole = train(small(), bars(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(small(), bars(), tmp_path / "parts", Interrupting(5))
    rows = resume(small(), bars(), tmp_path / "parts")
    assert same_bits(last(tmp_path / "parts"), last(tmp_path / "whole"))
    assert losses(rows) == losses(whole)


def test_the_loss_falls(bars: Images, small: Small, tmp_path: Path) -> None:
    rows = train(small(epochs=6, learning_rate=1e-2), bars(96), tmp_path)
    for name in ("loss", "validation_loss"):
        values = [row[name] for row in rows]
        assert values == sorted(values, reverse=True), name
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]


def test_a_row_of_metrics_says_where_the_run_is_and_how_it_goes(
    bars: Images, small: Small, tmp_path: Path
) -> None:
    rows = train(small(beta=0.5), bars(), tmp_path)
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 5), (2, 10)]
    for row in rows:
        assert row["loss"] == pytest.approx(row["reconstruction"] + 0.5 * row["kl"])
        assert row["validation_loss"] == pytest.approx(
            row["validation_reconstruction"] + 0.5 * row["validation_kl"]
        )
        assert row["learning_rate"] == 1e-3
        assert row["seconds"] >= 0
        assert row["images_per_second"] > 0
    assert RunFolder(tmp_path).read_metrics() == rows


def test_held_out_images_are_measured_and_never_trained_on(
    bars: Images, small: Small, tmp_path: Path
) -> None:
    images, config = bars(), small(validation=0.25)
    training, held_out = split(images, 0.25, config.training.seed)
    assert len(held_out) == 12
    changed = images.images.copy()
    changed[held_out] = 255 - changed[held_out]
    others = dataclasses.replace(images, images=changed)
    rows = [train(config, chosen, tmp_path / name) for chosen, name in ((images, "a"), (others, "b"))]
    assert same_bits(last(tmp_path / "a"), last(tmp_path / "b"))
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]
    assert all(a["validation_loss"] != b["validation_loss"] for a, b in zip(*rows, strict=True))

    changed = images.images.copy()
    changed[training[0]] = 255 - changed[training[0]]
    train(config, dataclasses.replace(images, images=changed), tmp_path / "c")
    assert not same_bits(last(tmp_path / "a"), last(tmp_path / "c"))


def test_nothing_is_held_out_where_nothing_is_to_be(bars: Images, small: Small, tmp_path: Path) -> None:
    rows = train(small(validation=0.0, epochs=1), bars(), tmp_path)
    assert not any(name.startswith("validation") for name in rows[0])
    assert rows[0]["step"] == 6


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
    with pytest.raises(DivergedError, match=r"decoder\.fc\.bias") as stopped:
        observer.trainer.run()
    assert stopped.value.exit_code == 5
    assert last(tmp_path).position.epoch == 1
    assert not RunFolder(tmp_path).sheet(2).exists()


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


def test_the_models_shape_follows_the_images(bars: Images) -> None:
    config = fit_model_to_images(Config(), bars(2, 16, 20, 3))
    assert config.model == ModelConfig(16, 20, 3, (32, 64), 20)


def test_the_fingerprint_tells_images_apart(bars: Images) -> None:
    prints = [
        images.fingerprint()
        for images in (
            bars(),
            bars(seed=1),
            bars(47),
            bars(48, 8, 12),
            bars(48, 12, 8),
            dataclasses.replace(bars(), groups=np.arange(48)),
            dataclasses.replace(bars(), groups=np.zeros(48, np.int64)),
        )
    ]
    assert len(set(prints)) == len(prints)
    assert bars().fingerprint() == prints[0]
