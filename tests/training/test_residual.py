"""The residual architecture: any size that can be halved, linear to begin with, and trained as every other one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import last, same_bits

from vae_training.architectures.residual import ResidualDecoder, ResidualEncoder
from vae_training.checkpoint import model_from_weights
from vae_training.config import Config, ModelConfig, TrainingConfig
from vae_training.data import ImageSet
from vae_training.errors import CheckpointError, ConfigError
from vae_training.interruption import Interrupted
from vae_training.loop import Trainer
from vae_training.model import VAE
from vae_training.run_folder import RunFolder

Images = Callable[..., ImageSet]
Here = Callable[..., Any]

SMALL = ModelConfig(8, 8, 1, (3, 4), 2, architecture="residual")

widths = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@st.composite
def models(draw: st.DrawFn) -> ModelConfig:
    """Any sizes that can be halved as often as there are filters, and are no smaller than models may be."""
    filters = tuple(draw(widths))
    least = max(8, 4 * -(-(2 ** len(filters)) // 4))
    step = max(4, 2 ** len(filters))
    height, width = (step * draw(st.integers(-(-least // step), 40 // step)) for _ in range(2))
    channels, latents, blocks = (
        draw(st.sampled_from([1, 3])),
        draw(st.integers(1, 5)),
        draw(st.integers(0, 2)),
    )
    return ModelConfig(height, width, channels, filters, latents, architecture="residual", blocks=blocks)


def shaken(config: ModelConfig, seed: int = 0) -> VAE:
    """A model none of whose weights is zero."""
    torch.manual_seed(seed)
    model = VAE(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@torch.no_grad()
@given(models(), st.integers(1, 3))
@settings(max_examples=30)
def test_shapes_follow_the_images_whatever_their_size(config: ModelConfig, count: int) -> None:
    model = shaken(config)
    image, noise = torch.rand(count, *config.image_shape), torch.randn(count, config.latent_size)
    logits, mean, logvar = model(image, noise)
    assert logits.shape == image.shape
    assert mean.shape == logvar.shape == noise.shape
    drawn = model.decoder(noise)
    torch.testing.assert_close(drawn, torch.sigmoid(model.decoder.logits(noise)))
    assert drawn.shape == image.shape


@torch.no_grad()
@given(models())
@settings(max_examples=20)
def test_every_pixel_and_every_latent_counts(config: ModelConfig) -> None:
    """Changing any one of them changes what comes out: nothing is cut off or laid out twice."""
    model = shaken(config).double()
    image = torch.rand(1, *config.image_shape, dtype=torch.float64, requires_grad=True)
    latent = torch.randn(1, config.latent_size, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        mean, logvar = model.encoder(image)
        weights = torch.randn(2, *mean.shape, dtype=torch.float64)
        (of_pixels,) = torch.autograd.grad((weights[0] * mean + weights[1] * logvar).sum(), image)
        logits = model.decoder.logits(latent)
        (of_latents,) = torch.autograd.grad((torch.randn_like(logits) * logits).sum(), latent)
    assert (of_pixels != 0).all()
    assert (of_latents != 0).all()


@pytest.mark.parametrize(
    ("size", "widths", "grid"),
    [
        ((8, 8), (16,), (4, 4)),
        ((24, 24), (16, 32), (6, 6)),
        ((28, 28), (16, 32), (7, 7)),
        ((32, 48), (16, 32, 48), (4, 6)),
        ((64, 64), (16, 32, 48, 64), (4, 4)),
        ((128, 128), (16, 32, 48, 64, 96), (4, 4)),
    ],
)
def test_without_filters_it_is_as_deep_as_the_images_ask_for(
    size: tuple[int, int], widths: tuple[int, ...], grid: tuple[int, int]
) -> None:
    config = ModelConfig(*size, architecture="residual")
    assert (config.widths, config.grid) == (widths, grid)


@torch.no_grad()
def test_it_begins_as_a_linear_autoencoder_that_keeps_the_size_of_what_goes_through() -> None:
    torch.manual_seed(0)
    model = VAE(ModelConfig(32, 32, 3, latent_size=64, architecture="residual", blocks=2))
    images, latents = torch.randn(2, 64, 3, 32, 32), torch.randn(2, 64, 64)
    for half, (one, other) in (
        (lambda x: model.encoder(x)[0], images),
        (lambda x: model.encoder(x)[1], images),
        (model.decoder.logits, latents),
    ):
        between = half(0.25 * one + 0.75 * other)
        torch.testing.assert_close(between, 0.25 * half(one) + 0.75 * half(other), atol=1e-5, rtol=1e-4)
        assert 0.5 < float(half(one).std()) < 2.0


@pytest.mark.usefixtures("no_pictures")
def test_its_branches_begin_to_bend_with_the_first_steps(bars: Images, tmp_path: Path) -> None:
    trainer = Trainer(run_config(epochs=1), bars(), RunFolder(tmp_path))
    trainer.run()
    for half in (trainer.model.encoder, trainer.model.decoder):
        assert isinstance(half, (ResidualEncoder, ResidualDecoder))
        for blocks in half.blocks:
            for block in blocks:
                assert block.conv2.weight.detach().abs().max() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"filters": []}, r"model.filters is \(\); expected 1 to 12 numbers from 1 to 65536"),
        ({"filters": [4, 0]}, "expected 1 to 12 numbers"),
        ({"filters": [2] * 13}, "expected 1 to 12 numbers"),
        ({"filters": [70_000]}, "expected 1 to 12 numbers"),
        ({"blocks": -1}, "model.blocks is -1; expected 0 to 64"),
        ({"blocks": 65}, "model.blocks is 65; expected 0 to 64"),
        ({"fc_relu": True}, "model.fc_relu is True; expected false: it is of the classic"),
    ],
)
def test_a_setting_that_is_none_of_its_own_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Config.from_dict({"model": {"architecture": "residual", **settings}})


def test_images_that_cannot_be_halved_so_often_are_refused_before_anything_is_written(
    bars: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vae_train_here: Here
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("bars.npy", bars(8, 8, 12).images[..., 0])
    line = "--data bars.npy --architecture residual --filters 2,3,4 --epochs 1 -o run"
    code, _, err = vae_train_here(*line.split())
    assert code == 3
    assert err == (
        "vae-train: error: model.filters is (2, 3, 4); expected fewer, or images whose sides 8 divides, "
        "where these have 8x12\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["bars.npy"]


@pytest.mark.usefixtures("no_pictures")
def test_the_command_spells_out_the_sizes_and_a_change_of_architecture_keeps_none(
    bars: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vae_train_here: Here
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("bars.npy", bars(16, 16, 8).images[..., 0])
    shared = ("--data", "bars.npy", "--epochs", 1, "--latent-size", 3, "--device", "cpu", "-q")
    assert vae_train_here(*shared, "--filters", "5,7", "-o", "classic").code == 0
    again = ("--config", "classic/config.toml", "-q", "--architecture", "residual")
    assert vae_train_here(*again, "-o", "default").code == 0
    assert vae_train_here(*again, "--filters", "2,3,4", "--blocks", 0, "-o", "chosen").code == 0

    def model(run: str) -> tuple[object, ...]:
        config = Config.from_toml(Path(run, "config.toml")).model
        return config.architecture, config.filters, config.blocks, config.latent_size

    assert model("classic") == ("classic", (5, 7), 1, 3)
    assert model("default") == ("residual", (16,), 1, 3)
    assert model("chosen") == ("residual", (2, 3, 4), 0, 3)


def run_config(**training: Any) -> Config:
    defaults = {"epochs": 2, "batch_size": 8, "device": "cpu", "compile": "off", "seed": 3}
    return Config(model=SMALL, training=TrainingConfig(**{**defaults, **training}))


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("stopped_after", [3, 9, 15])  # in training, in its last epoch, in sharpening
def test_a_run_that_was_stopped_anywhere_resumes_bit_for_bit(
    bars: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_after: int
) -> None:
    config = run_config(ema=0.5, sharpen_epochs=1, likelihood="gaussian", flip=True)
    images = bars(56)
    Trainer(config, images, RunFolder(tmp_path / "whole")).run()
    halting = Trainer(config, images, RunFolder(tmp_path / "halted"))

    def stop(*_: object) -> bool:
        if halting.position.total_steps == stopped_after:
            halting._save_step()
            raise Interrupted("enough", 130)
        return False

    monkeypatch.setattr(halting, "_saving_is_due", stop)
    with pytest.raises(Interrupted):
        halting.run()
    resumed = Trainer(config, images, RunFolder(tmp_path / "halted"))
    resumed.resume(last(tmp_path / "halted"))
    resumed.run()
    assert same_bits(last(tmp_path / "whole"), last(tmp_path / "halted"))


@pytest.mark.usefixtures("no_pictures")
def test_it_learns_to_draw_what_it_sees(bars: Images, tmp_path: Path) -> None:
    config = run_config(epochs=12, likelihood="gaussian", learning_rate=3e-3, beta=1.0)
    config = dataclasses.replace(config, model=ModelConfig(8, 8, 1, (8, 12), 4, architecture="residual"))
    images = bars(120)
    trainer = Trainer(config, images, RunFolder(tmp_path))
    rows = trainer.run()
    pixels = torch.from_numpy(images.images).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        again = trainer.kept.decoder(trainer.kept.encoder(pixels)[0])
    unexplained = float((again - pixels).square().mean() / pixels.var())
    assert unexplained < 0.1
    assert rows[-1]["validation_kl"] > 3.0  # nats that go through the latents


@pytest.mark.usefixtures("no_pictures")
def test_a_checkpoint_whose_settings_no_images_fit_is_refused(bars: Images, tmp_path: Path) -> None:
    Trainer(run_config(epochs=1), bars(), RunFolder(tmp_path)).run()
    weights = last(tmp_path).weights
    unfit = dataclasses.replace(SMALL, height=12, filters=(3, 4, 5))
    with pytest.raises(
        CheckpointError, match=r"is no model .*expected fewer, or images whose sides 8 divides"
    ):
        model_from_weights(unfit, weights, "here")
    with pytest.raises(CheckpointError, match="weights do not fit the model"):
        model_from_weights(dataclasses.replace(SMALL, blocks=2), weights, "here")
