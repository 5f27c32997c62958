"""The second stage: what it changes and what it leaves, what it keeps, and that it can be stopped anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from small_runs import last
from torch import Tensor

from vae_training import sharpening
from vae_training.config import Config, ModelConfig
from vae_training.data import ImageSet
from vae_training.detail import detail_distance
from vae_training.discriminator import Discriminator
from vae_training.errors import CheckpointError
from vae_training.likelihood import Likelihood
from vae_training.loop import Trainer
from vae_training.model import VAE
from vae_training.priors import flow_fitting
from vae_training.progress import Observer
from vae_training.run_folder import RunFolder

Images = Callable[..., ImageSet]
Small = Callable[..., Config]


pytestmark = pytest.mark.usefixtures("no_pictures")


def same(a: Any, b: Any, prefix: str = "") -> bool:
    return all(torch.equal(a[name], b[name]) for name in a if name.startswith(prefix))


def test_only_the_decoder_changes(bars: Images, small: Small, tmp_path: Path) -> None:
    rows = Trainer(small(sharpen_epochs=2, prior="flow"), bars(), RunFolder(tmp_path / "sharp")).run()
    Trainer(small(prior="flow"), bars(), RunFolder(tmp_path / "soft")).run()
    sharp, soft = last(tmp_path / "sharp"), last(tmp_path / "soft")
    assert same(sharp.weights, soft.weights, "encoder.")
    assert sharp.prior is not None
    assert same(sharp.prior, soft.prior)
    assert not same(sharp.weights, soft.weights, "decoder.")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert sharp.position.epoch == 4
    assert rows[2]["validation_kl"] == pytest.approx(rows[1]["validation_kl"], rel=1e-6)
    assert {row["learning_rate"] for row in rows[2:]} == {5e-4}


def test_its_epochs_tell_the_loss_that_the_others_tell(bars: Images, small: Small, tmp_path: Path) -> None:
    config = small(sharpen_epochs=1, beta=0.25, capacity=1000.0)  # more than there is: KL counts as 1000 - KL
    for row in Trainer(config, bars(), RunFolder(tmp_path)).run():
        for stage in ("", "validation_"):
            divergence = 0.25 * (1000.0 - row[f"{stage}kl"])
            assert row[f"{stage}loss"] == pytest.approx(row[f"{stage}reconstruction"] + divergence, rel=1e-6)


def test_the_average_that_measured_best_is_kept(
    bars: Images, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    averages: list[Tensor] = []
    distances = iter([3.0, 1.0, 2.0])
    trainer = Trainer(small(epochs=1, sharpen_epochs=3), bars(), RunFolder(tmp_path))

    def measured(photographs: Tensor, drawn: Tensor) -> float:
        assert photographs.shape == (12, 1, 8, 8)
        assert len(drawn) == 12
        assert trainer.sharpening is not None
        averages.append(trainer.sharpening.average.model.decoder.fc.weight.clone())
        return next(distances)

    monkeypatch.setattr(sharpening, "detail_distance", measured)
    trainer.run()
    assert torch.equal(last(tmp_path).weights["decoder.fc.weight"], averages[1])
    assert not torch.equal(averages[1], averages[2])


class StoppingAfter(Observer):
    def __init__(self, steps: int) -> None:
        self.left = steps

    def wants_losses(self) -> bool:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return False


AVERAGED = {"ema": 0.9, "likelihood": "gaussian", "flip": True}


@pytest.mark.parametrize(
    ("settings", "steps"),
    [({}, 6), ({}, 9), ({}, 12), (AVERAGED, 6), (AVERAGED, 9), (AVERAGED, 12), ({"prior": "flow"}, 9)],
    ids=str,
)
def test_stopped_at_any_step_it_goes_on_to_the_same_bits(
    bars: Images,
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    steps: int,
) -> None:
    monkeypatch.setattr(flow_fitting, "_STEPS", 50)  # enough to have looked at what was held out
    config = small(epochs=1, sharpen_epochs=2, **settings)  # five steps an epoch
    whole = Trainer(config, bars(), RunFolder(tmp_path / "whole")).run()
    folder = RunFolder(tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        Trainer(config, bars(), folder, StoppingAfter(steps + 1), save_every=1).run()
    assert last(tmp_path / "parts").position.total_steps == steps
    rest = Trainer(config, bars(), folder)
    rest.resume(last(tmp_path / "parts"))
    rows = rest.run()
    one, other = last(tmp_path / "whole"), last(tmp_path / "parts")
    assert one.training.keys() == other.training.keys()
    assert same(one.weights, other.weights)
    assert same(one.training, other.training)
    assert same(one.prior or {}, other.prior or {})
    names = ("loss", "reconstruction", "kl", "validation_loss")
    assert [[row[name] for name in names] for row in rows] == [[row[name] for name in names] for row in whole]


def test_more_epochs_of_it_may_follow_but_not_of_the_first_stage(
    bars: Images, small: Small, tmp_path: Path
) -> None:
    Trainer(small(sharpen_epochs=1), bars(), RunFolder(tmp_path)).run()
    longer = Trainer(small(sharpen_epochs=2), bars(), RunFolder(tmp_path))
    longer.resume(last(tmp_path))
    assert [row["epoch"] for row in longer.run()] == [1, 2, 3, 4]
    Trainer(small(sharpen_epochs=2), bars(), RunFolder(tmp_path / "whole")).run()
    assert same(last(tmp_path / "whole").training, last(tmp_path).training)
    for epochs in (1, 3, 4, 9):  # of which 3 and 4 are no more than all that are done
        other = Trainer(small(epochs=epochs, sharpen_epochs=3), bars(), RunFolder(tmp_path))
        with pytest.raises(CheckpointError, match=rf"after 2 epochs, which --epochs {epochs} would undo"):
            other.resume(last(tmp_path))


def test_it_does_not_begin_before_what_is_done(bars: Images, small: Small, tmp_path: Path) -> None:
    Trainer(small(), bars(), RunFolder(tmp_path)).run()
    fewer = Trainer(small(epochs=1, sharpen_epochs=3), bars(), RunFolder(tmp_path))
    with pytest.raises(CheckpointError, match="2 epochs are done; expected --epochs of at least so many"):
        fewer.resume(last(tmp_path))


@pytest.mark.parametrize(
    "name", ["steps", "distance", "discriminator.fc.bias", "average.fc.bias", "optimizer.fc.bias.exp_avg"]
)
def test_a_checkpoint_without_all_of_its_state_is_not_resumed(
    bars: Images, small: Small, tmp_path: Path, name: str
) -> None:
    config = small(epochs=1, sharpen_epochs=1)
    Trainer(config, bars(), RunFolder(tmp_path)).run()
    whole = last(tmp_path)
    less = {key: tensor for key, tensor in whole.training.items() if key != f"sharpening.{name}"}
    assert len(less) == len(whole.training) - 1
    with pytest.raises(CheckpointError, match="it cannot be resumed"):
        Trainer(config, bars(), RunFolder(tmp_path)).resume(type(whole)(**{**vars(whole), "training": less}))


def stage(small: Small) -> sharpening.Sharpening:
    torch.manual_seed(0)
    config = small(likelihood="gaussian")
    return sharpening.Sharpening(
        VAE(config.model), Likelihood(config.training), None, decay=0.0, seed=0, on_cpu=False
    )


def test_the_discriminator_learns_to_tell_photographs_from_what_is_drawn(small: Small) -> None:
    game = stage(small)
    draws = torch.Generator().manual_seed(0)
    photographs = torch.rand(32, 1, 8, 8, generator=draws)  # noise, which an untrained decoder does not draw
    drawn = torch.full((32, 1, 8, 8), 0.5)
    for _ in range(60):
        game._teach_discriminator(photographs, drawn)
        game.steps += 1
    assert game.discriminator(photographs).min() > game.discriminator(drawn).max()


def test_photographs_gradients_are_held_small_every_eighth_step(small: Small) -> None:
    """R1 is half of the squared norm of the discriminator's gradient, here weighted to the same in eight steps."""
    game = stage(small)
    photographs = torch.rand(8, 1, 8, 8)
    losses = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sharpening, "_take_step", lambda _, loss: losses.append(loss.item()))
        for game.steps in (0, 1):
            game._teach_discriminator(photographs, photographs)
    one = photographs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(game.discriminator(one).sum(), one)
    penalty = 0.5 * 8 * (gradient.flatten(1).norm(dim=1) ** 2).mean()
    assert losses[0] - losses[1] == pytest.approx(penalty.item(), rel=1e-4)


class LikesItBright(torch.nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return 10.0 * image.mean((1, 2, 3))


def test_the_decoder_learns_to_draw_what_the_discriminator_likes_and_keeps_to_photographs(
    small: Small,
) -> None:
    game = stage(small)
    game.discriminator = LikesItBright()  # type: ignore[assignment]  # a judge whose taste is known
    game._teach_discriminator = lambda *_: None  # type: ignore[method-assign]
    photographs = torch.full((16, 1, 8, 8), 0.3)
    latents = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    before = game.model.decoder(latents).mean().item()
    draws = torch.Generator().manual_seed(0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sharpening, "_FIDELITY", 0.0)
        for _ in range(100):
            game.step(photographs, draws)
        assert game.model.decoder(latents).mean().item() > before + 0.03
        patched.setattr(sharpening, "_FIDELITY", 2000.0)
        for _ in range(300):
            game.step(photographs, draws)
    mean, _ = game.model.encoder(photographs)
    assert game.model.decoder(mean).mean().item() < before - 0.05


def test_detail_distance_is_zero_between_equal_sets_and_grows_with_blur() -> None:
    images = torch.rand(400, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    assert detail_distance(images, images) == pytest.approx(0.0, abs=1e-6)
    blurred = [images]
    for _ in range(3):
        blurred.append(F.avg_pool2d(F.pad(blurred[-1], (1, 1, 1, 1), mode="replicate"), 3, stride=1))
    distances = [detail_distance(images, others) for others in blurred]
    assert distances == sorted(distances)
    assert distances[1] > 1


def test_detail_distance_is_frechets_between_normal_distributions() -> None:
    """Flat images of one brightness each: all detail is the same, and six by six cells are equally bright."""
    draws = torch.Generator().manual_seed(0)
    first = (0.4 + 0.05 * torch.randn(5000, 1, 1, 1, generator=draws)).expand(-1, 1, 24, 24)
    second = (0.6 + 0.1 * torch.randn(5000, 1, 1, 1, generator=draws)).expand(-1, 1, 24, 24)
    means = (first[:, 0, 0, 0].mean() - second[:, 0, 0, 0].mean()).item()
    spreads = (first[:, 0, 0, 0].std(correction=0) - second[:, 0, 0, 0].std(correction=0)).item()
    assert detail_distance(first, second) == pytest.approx(36 * (means**2 + spreads**2), rel=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(
    "config", [ModelConfig(8, 12, 3, (2, 3), 2), ModelConfig(24, 24, 1), ModelConfig(64, 40, 1)]
)
def test_a_discriminator_takes_any_batch_and_sees_whether_images_differ(config: ModelConfig) -> None:
    torch.manual_seed(0)
    network = Discriminator(config)
    for count in (1, 7, 8, 64):
        assert network(torch.rand(count, *config.image_shape)).shape == (count,)
    one = torch.rand(1, *config.image_shape)
    alone = network(one)
    among_copies = network(one.repeat(8, 1, 1, 1))[:1]
    among_others = network(torch.cat([one, torch.rand(7, *config.image_shape)]))[:1]
    torch.testing.assert_close(among_copies, alone)
    assert not torch.allclose(among_others, alone)
    assert math.isfinite(float(among_others))


@pytest.mark.parametrize(
    ("size", "halvings", "grid"),
    [((24, 24), 2, 36), ((8, 8), 2, 4), ((64, 64), 3, 64), ((28, 128), 2, 7 * 32)],
)
def test_a_discriminator_of_larger_images_looks_further(
    size: tuple[int, int], halvings: int, grid: int
) -> None:
    network = Discriminator(ModelConfig(*size))
    assert len(network.halvings) == halvings
    assert network.fc.in_features == 96 * grid
