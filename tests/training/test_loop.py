"""The loop: the classic recipe step by step, repeated without a bit's difference, and what it tells of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_vae import PlainVAE
from small_runs import last, losses, same_bits, train

from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.data import ImageSet, split
from vae_training.loop import Trainer, fit_model_to_images
from vae_training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_pictures")


Images = Callable[..., ImageSet]
Small = Callable[..., Config]


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


def test_a_short_run_does_not_drag_the_noise_of_its_beginning_along(small: Small, tmp_path: Path) -> None:
    dark = np.random.default_rng(0).integers(20, 40, (96, 8, 8, 1), np.uint8)
    config = small(likelihood="gaussian", epochs=3, learning_rate=0.05, batch_size=16)  # 15 steps
    trainer = Trainer(config, ImageSet(dark, None, "dark", "drawn for a test"), RunFolder(tmp_path))
    rows = trainer.run()
    with torch.no_grad():
        image = trainer.batches.images.float() / 255
        logits, *_ = trainer.model(image, torch.randn(len(image), 2))
        spread = (torch.sigmoid(logits) - image).square().mean().sqrt().item()
    assert rows[-1]["noise_scale"] == pytest.approx(spread, rel=0.2)


def test_no_gradient_is_longer_than_it_may_be(bars: Images, small: Small, tmp_path: Path) -> None:
    norms: list[float] = []
    config = small(clip_gradient=0.5)
    trainer = Trainer(config, bars(), RunFolder(tmp_path))
    step = trainer.learner.optimizer.step

    def note(*arguments: Any) -> Any:
        parts = [p.grad.norm() for p in trainer.model.parameters()]
        norms.append(torch.stack(parts).norm().item())
        return step(*arguments)

    trainer.learner.optimizer.step = note  # type: ignore[method-assign]  # a look at what it is given
    trainer.run()
    assert len(norms) == 10
    assert max(norms) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("architecture", ["classic", "residual"])
def test_layers_in_16_bits_train_as_those_in_32_and_are_kept_in_32(
    bars: Images, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    seen: set[torch.dtype] = set()
    linear = torch.nn.functional.linear

    def noting(*given: torch.Tensor) -> torch.Tensor:
        made = linear(*given)
        seen.add(made.dtype)
        return made

    monkeypatch.setattr(torch.nn.functional, "linear", noting)
    config = small(epochs=3)
    config = dataclasses.replace(config, model=ModelConfig(8, 8, architecture=architecture))
    plain = train(config, bars(), tmp_path / "plain")
    assert seen == {torch.float32}
    seen.clear()
    rounded = dataclasses.replace(config, training=dataclasses.replace(config.training, bf16=True))
    rows = train(rounded, bars(), tmp_path / "rounded")
    assert seen == {torch.bfloat16, torch.float32}  # those of held-out images are in 32 still
    for row, expected in zip(rows, plain, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=5e-3)
        assert row["validation_loss"] == pytest.approx(expected["validation_loss"], rel=5e-3)
    assert {weight.dtype for weight in last(tmp_path / "rounded").weights.values()} == {torch.float32}


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
