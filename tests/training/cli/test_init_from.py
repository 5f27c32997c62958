"""`vae-train --init-from`: a new run with the weights of another."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from contents import files
from small_commands import same_weights, weights

from vae_training.checkpoint import newest_checkpoint
from vae_training.config import Config
from vae_training.data import ImageSet

Here = Callable[..., Any]
Start = Callable[..., subprocess.Popen[str]]


def test_a_new_run_begins_with_the_weights_of_another_and_nothing_else(
    folder: Path, trained: Path, vae_train_here: Here, bars: Callable[..., ImageSet]
) -> None:
    before = files(trained)
    np.save("others.npy", bars(seed=1).images)
    told = vae_train_here(
        "--init-from", "done", "--data", "others.npy", "--learning-rate", 1e-30, "--epochs", 1,
        "--device", "cpu", "-o", "tuned", "-q",
    )  # fmt: skip
    assert told == (0, "", "")
    assert same_weights(folder / "tuned", trained)  # at a learning rate that changes nothing
    assert newest_checkpoint(folder / "tuned/checkpoints").position.total_steps < 10
    config = Config.from_toml(folder / "tuned/config.toml")
    assert config.model == Config.from_toml(trained / "config.toml").model  # filters and latents came along
    assert (config.training.init_from, config.training.batch_size) == ("done", 64)
    assert files(trained) == before
    again = vae_train_here("--config", "tuned/config.toml", "-o", "again", "-q")
    assert again.code == 0
    assert same_weights(folder / "again", trained)


def test_one_checkpoint_can_be_begun_with_and_a_killed_run_begins_with_it_again(
    folder: Path, trained: Path, vae_train_here: Here
) -> None:
    first = trained / "checkpoints/step-00000006"
    still = ("--learning-rate", 1e-30, "--data", "bars.npy", "--epochs", 1, "--device", "cpu", "-q")
    assert vae_train_here("--init-from", first, *still, "-o", "tuned").code == 0
    assert torch.equal(
        weights(folder / "tuned")["decoder.fc.weight"],
        safetensors.torch.load_file(first / "model.safetensors")["decoder.fc.weight"],
    )
    (folder / "killed").mkdir()
    (folder / "killed/config.toml").write_bytes((folder / "tuned/config.toml").read_bytes())
    assert vae_train_here("--resume", "killed", "-q").code == 0
    assert same_weights(folder / "killed", folder / "tuned")
    for path in first.iterdir():  # once there is a checkpoint, the run needs the other one no more
        path.unlink()
    assert vae_train_here("--resume", "tuned", "--epochs", 2, "-q").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["--init-from", "done", "--latent-size", 3],
            3,
            "weights do not fit the model: encoder.fc_mu.weight",
        ),
        (["--init-from", "done", "--image-size", "12"], 3, "weights do not fit the model"),
        (["--init-from", "nowhere"], 3, "nowhere: no such folder; expected a folder that vae-train wrote"),
        (["--init-from", "bars.npy"], 3, "bars.npy: no such folder"),
        (["--init-from", "done/config.toml"], 3, "no such folder"),
        (["--resume", "done", "--init-from", "done"], 2, "--init-from cannot be changed by --resume"),
    ],
)
def test_weights_that_cannot_be_begun_with_are_refused_before_anything_is_written(
    folder: Path, trained: Path, vae_train_here: Here, arguments: list[str], code: int, words: str
) -> None:
    before = files(folder)
    output = [] if "--resume" in arguments else ["-o", "run"]
    ended = vae_train_here(*arguments, "--data", "bars.npy", *output)
    assert (ended.code, ended.out) == (code, "")
    assert words in ended.err
    assert files(folder) == before
    assert not (folder / "run").exists()
