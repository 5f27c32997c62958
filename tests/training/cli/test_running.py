"""`vae-train` as people meet it: what a run leaves behind and says, and where its settings come from."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner
from contents import files
from small_commands import SMALL, VAE_TRAIN, same_weights

from vae_export.cli import vae_export
from vae_training.checkpoint import newest_checkpoint
from vae_training.cli import vae_train
from vae_training.config import Config
from vae_training.run_folder import RunFolder

Here = Callable[..., Any]
Start = Callable[..., subprocess.Popen[str]]


def test_a_run_leaves_a_folder_with_everything_and_says_where(folder: Path, start_python: Start) -> None:
    process = start_python(VAE_TRAIN, *SMALL, "-o", "my run", cwd=folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert {name for name in files(folder / "my run") if not name.startswith("checkpoints/")} == {
        "config.toml",
        "metrics.jsonl",
        "loss.png",
        "reconstructions.png",
        "samples/epoch-0001.png",
        "samples/epoch-0002.png",
    }
    assert Config.from_toml(folder / "my run" / "config.toml").training.seed == 7
    assert [row["epoch"] for row in RunFolder(folder / "my run").read_metrics()] == [1, 2]
    first, *epochs = err.splitlines()
    assert first.startswith("43 images 1x8x8, 5 held out; ")
    assert first.endswith("; 2 epochs of 6 steps")
    assert [line[:9] for line in epochs] == ["epoch 1/2", "epoch 2/2"]
    assert "\x1b" not in err
    told = {line.split()[0]: line for line in out.splitlines()}
    assert list(told) == ["run", "curve", "samples", "images", "next"]


def test_the_next_command_that_is_told_can_be_run_as_it_stands(folder: Path, vae_train_here: Here) -> None:
    told = vae_train_here(*SMALL, "-o", "it's my run").out.splitlines()[-1]
    name, command, *arguments = shlex.split(told)
    assert (name, command) == ("next", "vae-export")
    context = vae_export.make_context(command, arguments)
    assert context.params["source"] == Path("it's my run")
    assert context.params["output"] == Path("it's my run/bundle")


def test_without_an_output_runs_are_numbered(folder: Path, vae_train_here: Here) -> None:
    for _ in range(2):
        assert vae_train_here(*SMALL, "--epochs", 1, "-q").code == 0
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["bars-1", "bars-2"]


def test_quiet_says_nothing(folder: Path, vae_train_here: Here) -> None:
    assert vae_train_here(*SMALL, "-o", "run", "--quiet") == (0, "", "")


def test_the_settings_of_a_run_make_the_same_weights_again(
    folder: Path, trained: Path, vae_train_here: Here
) -> None:
    again = vae_train_here("--config", "done/config.toml", "-o", "again", "-q")
    assert again == (0, "", "")
    assert same_weights(folder / "again", trained)
    assert (folder / "again/config.toml").read_bytes() == (trained / "config.toml").read_bytes()


def test_options_go_before_the_settings_of_a_file(folder: Path, trained: Path, vae_train_here: Here) -> None:
    vae_train_here("--config", "done/config.toml", "--seed", 8, "--epochs", 1, "-o", "other", "-q")
    config = Config.from_toml(folder / "other/config.toml")
    assert (config.training.seed, config.training.epochs) == (8, 1)
    assert config.model == Config.from_toml(trained / "config.toml").model
    assert not same_weights(folder / "other", trained)


def test_every_option_reaches_its_setting(folder: Path, vae_train_here: Here) -> None:
    np.savez("set.npz", pictures=np.random.default_rng(0).integers(0, 256, (20, 12, 16, 3), np.uint8),
             who=np.arange(20) // 2, more=np.zeros((20, 9, 9), np.uint8))  # fmt: skip
    ended = vae_train_here(
        "--data", "set.npz", "--array", "pictures", "--groups", "who", "--image-size", "8x12", "--channels", 1,
        "--validation", 0.2, "--skip-bad", "--latent-size", 3, "--filters", "2,5", "--epochs", 1,
        "--batch-size", 4, "--learning-rate", 0.01, "--schedule", "onecycle", "--clip-gradient", 9,
        "--likelihood", "gaussian", "--noise-scale", 0.25, "--beta", 0.25, "--beta-schedule", "warmup",
        "--free-bits", 0.125, "--capacity", 4, "--prior", "flow", "--sharpen-epochs", 1, "--flip", "--shift", 1,
        "--brightness", 0.5, "--ema", 0.5, "--seed", 3, "--device", "cpu", "--compile", "off", "--bf16",
        "-o", "run", "-q",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert Config.from_toml(folder / "run/config.toml").to_dict() == {
        "data": {
            "source": "set.npz", "array": "pictures", "groups": "who", "image_size": [8, 12], "channels": 1,
            "validation": 0.2, "skip_bad": True,
        },
        "model": {
            "height": 8, "width": 12, "channels": 1, "filters": [2, 5], "latent_size": 3, "fc_relu": False,
            "architecture": "classic", "blocks": 1,
        },
        "training": {
            "epochs": 1, "batch_size": 4, "learning_rate": 0.01, "schedule": "onecycle",
            "clip_gradient": 9, "likelihood": "gaussian", "noise_scale": "0.25", "beta": 0.25,
            "beta_schedule": "warmup", "free_bits": 0.125, "capacity": 4, "prior": "flow",
            "sharpen_epochs": 1, "flip": True, "shift": 1, "brightness": 0.5, "ema": 0.5, "seed": 3,
            "device": "cpu", "compile": "off", "bf16": True,
        },
    }  # fmt: skip


def test_a_run_saves_inside_of_epochs_when_asked_to(folder: Path, vae_train_here: Here) -> None:
    assert vae_train_here(*SMALL, "--epochs", 1, "--save-every", 4, "-o", "run", "-q").code == 0
    assert [path.name for path in sorted((folder / "run/checkpoints").iterdir())] == [
        "step-00000004",
        "step-00000006",
    ]
    assert newest_checkpoint(folder / "run/checkpoints").position.epoch == 1
    assert vae_train_here(*SMALL, "--epochs", 1, "-o", "plain", "-q").code == 0
    assert same_weights(folder / "run", folder / "plain")


def test_help_names_every_option_with_its_default() -> None:
    shown = CliRunner().invoke(vae_train, ["--help"]).output
    for option in vae_train.params:
        assert option.opts[0] in shown
    for default in ("faces", "20", "32,64", "5", "64", "0.001", "0.5", "auto"):
        assert f"[default: {default}]" in shown


def test_a_name_that_no_terminal_takes_is_a_runs_and_shown_escaped(
    folder: Path, vae_train_here: Here
) -> None:
    name = "na\udcefve\n\x1b[2J"
    ended = vae_train_here(*SMALL, "--epochs", 1, "-o", name)
    assert ended.code == 0, ended.err
    first, *_, last = ended.out.splitlines()
    assert first == r"run      na\udcefve\n\x1b[2J"
    assert last.startswith("next     vae-export 'na")
    assert (folder / name / "config.toml").is_file()
