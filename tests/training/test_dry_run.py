"""`vae-train --dry-run`: what it says is so, what it prints is a file of settings, and it leaves nothing behind."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import leave_out_drawings

from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.costs import parameter_count
from vae_training.data import ImageSet
from vae_training.dry_run import describe_run
from vae_training.loop import Trainer
from vae_training.model import VAE
from vae_training.run_folder import RunFolder

Images = Callable[..., ImageSet]
Here = Callable[..., Any]

ROOT = Path(__file__).resolve().parents[2]
RUN = (
    "--data", "bars.npy", "--validation", 0.25, "--latent-size", 3, "--batch-size", 8, "--epochs", 7,
    "--likelihood", "gaussian", "--ema", 0.5, "--device", "cpu",
)  # fmt: skip
RESIDUAL = ("--architecture", "residual", "--sharpen-epochs", 2)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bars: Images) -> Path:
    """Work in a folder that holds one file of 48 images."""
    leave_out_drawings(monkeypatch)
    monkeypatch.chdir(tmp_path)
    np.save("bars.npy", bars(48, 16, 8).images[..., 0])
    return tmp_path


def described(model: ModelConfig, images: ImageSet, **training: Any) -> str:
    config = Config(DataConfig(), model, TrainingConfig(device="cpu", compile="off", **training))
    return describe_run(Trainer(config, images, RunFolder(Path("never"))))


def numbers(text: str, name: str) -> list[int]:
    (line,) = re.findall(rf"^# {name} .*$", text, re.MULTILINE)
    return [int(number.replace(",", "")) for number in re.findall(r"(?<= )[\d,]+", line.split(name)[1])]


@pytest.mark.parametrize("options", [(), RESIDUAL], ids=["classic", "residual"])
def test_it_prints_the_settings_that_the_run_would_have_and_writes_nothing(
    folder: Path, vae_train_here: Here, options: tuple[object, ...]
) -> None:
    told = vae_train_here(*RUN, *options, "--dry-run")
    assert (told.code, told.err) == (0, "")
    assert [path.name for path in folder.iterdir()] == ["bars.npy"]
    (folder / "told.toml").write_text(told.out)
    assert vae_train_here(*RUN, *options, "--epochs", 1, "-q", "-o", "run").code == 0
    done = Config.from_toml(folder / "run/config.toml")
    expected = dataclasses.replace(done, training=dataclasses.replace(done.training, epochs=7))
    assert Config.from_toml(folder / "told.toml") == expected


def test_the_classic_recipe_costs_what_is_known_of_it(bars: Images) -> None:
    told = described(ModelConfig(), bars(8, 24, 24), batch_size=2)
    assert numbers(told, "multiply-adds an image") == [1_345_536, 1_299_456, 2_644_992]
    assert numbers(told, "parameters")[2] == 207_273
    assert "a faster form is written, which may be larger" in told


@pytest.mark.parametrize("name", ["faces24", "faces64"])
def test_the_files_that_it_foretells_are_as_large_as_those_that_were_written(name: str, bars: Images) -> None:
    model = Config.from_toml(ROOT / "models" / name / "recipe.toml").model
    told = described(model, bars(8, model.height, model.width), batch_size=2)
    for precision, folder in (("fp32", name), ("int8", f"{name}-int8")):
        written = [ROOT / "models" / folder / f"{role}.onnx" for role in ("encoder", "decoder")]
        for found, path in zip(numbers(told, f"bytes in {precision}, about"), written, strict=False):
            is_of_another_form = (precision, path.stem, model.architecture) == ("int8", "decoder", "classic")
            if path.exists() and not is_of_another_form:
                stored = found / 2 if precision == "fp32" else found  # the shipped ones are compact
                assert stored == pytest.approx(path.stat().st_size, rel=0.05)


def test_steps_and_time_follow_from_the_images_and_what_a_step_takes(vae_train_here: Here) -> None:
    told = vae_train_here(*RUN, *RESIDUAL, "--dry-run").out
    assert "# images      36 to train on, 12 held out\n" in told
    found = re.findall(r"# (\w+) +(\d+) epochs of (\d+) steps, ([\d,.]+) ms each", told)
    assert [row[:3] for row in found] == [("training", "7", "5"), ("sharpening", "2", "5")]
    seconds = sum(int(epochs) * int(steps) * float(each.replace(",", "")) for _, epochs, steps, each in found)
    (whole,) = re.findall(r"# time        about (\d+) s, besides", told)
    assert int(whole) == pytest.approx(seconds / 1000, abs=1)


def test_the_memory_of_a_step_holds_every_layers_output_and_grows_with_the_batch(bars: Images) -> None:
    config, images = ModelConfig(64, 64, 3, latent_size=8, architecture="residual"), bars(64, 64, 64, 3)

    def megabytes(batch: int) -> float:
        return numbers(described(config, images, batch_size=batch), "memory")[0]

    model, outputs = VAE(config), []
    for layer in model.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear)):
            layer.register_forward_hook(lambda _, __, output: outputs.append(output.nbytes))
    with torch.no_grad():
        model(torch.zeros(1, *config.image_shape), torch.zeros(1, 8))
    weights = 4 * 4 * parameter_count(model) / 1e6
    few, many = megabytes(8), megabytes(32)
    assert 8 * sum(outputs) / 1e6 < few - weights < 4 * 8 * sum(outputs) / 1e6
    assert many - weights == pytest.approx(4 * (few - weights), rel=0.1)


def test_what_the_run_would_be_refused_for_it_is_refused_for(folder: Path, vae_train_here: Here) -> None:
    (folder / "used").mkdir()
    (folder / "used" / "notes.txt").touch()
    for options, code, words in (
        (("-o", "used"), 3, "used exists and is not empty"),
        (("--data", "none.npy"), 3, "none.npy"),
        (("--architecture", "residual", "--filters", "1,2,3,4"), 3, "images whose sides 16 divides"),
        (("--init-from", "nowhere"), 3, "nowhere"),
    ):
        ended = vae_train_here(*RUN, *options, "--dry-run")
        assert (ended.code, ended.out) == (code, "")
        assert words in ended.err
    ended = vae_train_here("--resume", "used", "--dry-run")
    assert ended.code == 2
    assert "--dry-run is for new runs" in ended.err
    assert sorted(path.name for path in folder.iterdir()) == ["bars.npy", "used"]
