"""The errors of `vae-train`: their exit codes, one line each, and nothing written."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from contents import files
from PIL import Image
from small_commands import SMALL, VAE_TRAIN

from vae_training.cli import vae_train

Here = Callable[..., Any]
Start = Callable[..., subprocess.Popen[str]]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="this system has no limit on the size of files")
@pytest.mark.parametrize("most", [300, 1000, 3000])  # bytes a file may have
def test_a_full_disk_is_exit_code_4_and_what_was_there_stays(
    trained: Path, vae_train_here: Here, most: int
) -> None:
    import resource

    before, limit = files(trained), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limit[1]))
    try:
        ended = vae_train_here("--resume", "done", "--epochs", 3, "-q")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert ended.code == 4
    assert ended.err.startswith("vae-train: error: cannot write done/")
    assert ended.err.endswith("nothing was changed there\n")
    after = files(trained)
    assert after.keys() == before.keys()
    kept = [name for name in before if name.startswith("checkpoints/")]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert vae_train_here("--resume", "done", "--epochs", 3, "-q").code == 0


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no such terminals")
def test_on_a_terminal_an_error_stands_on_a_line_of_its_own(folder: Path, start_python: Start) -> None:
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(folder / name)
    (folder / "c.png").write_bytes(b"text")
    ours, theirs = os.openpty()
    line = ("--data", ".", "--image-size", 8, "--dry-run")
    with start_python(VAE_TRAIN, *line, cwd=folder, stderr=theirs) as process:
        os.close(theirs)
        assert process.wait(timeout=60) == 3
    counted, said, _ = os.read(ours, 10_000).decode().split("\r\n")
    os.close(ours)
    assert counted.endswith("reading pictures: 2 of 3")
    assert said.startswith("vae-train: error: c.png: not a picture")


@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="needs a folder nobody can write to")
def test_a_folder_that_cannot_be_written_to_is_exit_code_4(folder: Path, vae_train_here: Here) -> None:
    ended = vae_train_here(*SMALL, "-o", "/sys/kernel/run")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith("vae-train: error: cannot write /sys/kernel/run: ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--no-such"], 2, "No such option"),
        (["surplus"], 2, "unexpected extra argument"),
        (["--epochs", "0"], 2, "--epochs"),
        (["--epochs", "many"], 2, "not a valid integer"),
        (["--batch-size", "-1"], 2, "--batch-size"),
        (["--learning-rate", "0"], 2, "--learning-rate"),
        (["--beta", "-1"], 2, "--beta"),
        (["--seed", "-1"], 2, "--seed"),
        (["--validation", "1"], 2, "--validation"),
        (["--latent-size", "0"], 2, "--latent-size"),
        (["--filters", "1,,3"], 2, "expected numbers above 0 of at most 9 digits, as in 32,64"),
        (["--filters", "1,2,3"], 2, "model.filters is (1, 2, 3); expected two numbers from 1 to 65536"),
        (["--image-size", "0x8"], 2, "or two as in 24x32"),
        (["--channels", "2"], 2, "--channels"),
        (["--schedule", "sawtooth"], 2, "--schedule"),
        (["--device", "tpu"], 2, "--device"),
        (["--compile", "yes"], 2, "--compile"),
        (["--save-every", "0"], 2, "--save-every"),
        (["--resume", "nowhere", "--seed", "3"], 2, "--seed cannot be changed by --resume"),
        (["--resume", "nowhere", "-o", "x", "--config", "y"], 2, "--config, --output cannot be changed"),
        (["--resume", "nowhere"], 3, "no such folder; expected a folder that vae-train wrote"),
        (["--resume", "."], 3, "no checkpoint"),
        (["--resume", "bars.npy"], 3, "no such folder"),
        (["--data", "nowhere.npy"], 3, "nowhere.npy"),
        (["--data", "nonsense"], 3, "no data set, file or folder of that name"),
        (["--data", "text.npy"], 3, "text.npy"),
        (["--data", "\udcff.npy"], 2, "expected a name in UTF-8"),
        (["--data", "narrow.npy"], 3, "give --image-size 12x16"),
        (["--data", "bars.npy", "--image-size", "10"], 2, "divisible by 4"),
        (["--data", "bars.npy", "--array", "x"], 3, "--array"),
        (["--config", "nowhere.toml"], 3, "not a readable TOML file"),
        (["--config", "text.npy"], 3, "not a readable TOML file"),
        (["--config", "wrong.toml"], 3, "unknown setting epoch"),
        (["--learning-rate", "5000"], 2, "below 1000"),
        (["--learning-rate", "inf"], 2, "below 1000"),
        (["--clip-gradient", "1e9"], 2, "below 1000000000"),
        (["--beta", "inf"], 2, "below 1000000"),
        (["--noise-scale", "nan"], 2, "or a number from 0.0001 to 1"),
        (["--blocks", "2"], 2, "the classic architecture has none to count"),
        (["--prior", "flow", "--latent-size", "1"], 2, "2 to 1024 with a flow as prior"),
        *(([option, ""], 2, f"'{option}'") for option in ("--config", "--resume", "--init-from", "--array")),
        (["-o", ""], 2, "'-o' / '--output': the name is empty"),
        (["evaluate", ""], 2, "the name is empty"),
        (["--data", "bars.npy", "-o", "used"], 3, "used exists and is not empty"),
        (["--data", "bars.npy", "-o", "bars.npy"], 3, "bars.npy is not a folder"),
        (
            ["--data", "text.npy", "-o", "used"],
            3,
            "used exists and is not empty",
        ),  # told before images are read
    ],
)
def test_every_error_is_one_line_and_nothing_is_written(
    folder: Path, vae_train_here: Here, arguments: list[str], code: int, words: str
) -> None:
    (folder / "text.npy").write_text("not an array\n")
    (folder / "wrong.toml").write_text("[training]\nepoch = 3\n")
    np.save("narrow.npy", np.zeros((4, 13, 16), np.uint8))
    (folder / "used").mkdir()
    (folder / "used/thesis.txt").touch()
    before = files(folder)
    ended = vae_train_here(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith("vae-train: error: ")
    assert ended.err.count("\n") == 1
    assert words in ended.err
    assert files(folder) == before
    assert not (folder / "runs").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_cuda_where_there_is_none_is_an_error_of_the_environment(folder: Path, vae_train_here: Here) -> None:
    (folder / "text.npy").write_text("not an array, which is never read\n")
    ended = vae_train_here("--data", "text.npy", "--device", "cuda", "-o", "run")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith("vae-train: error: device 'cuda' is not available")
    assert ended.err.count("\n") == 1
    assert not (folder / "run").exists()


def test_a_loss_that_is_not_a_number_is_exit_code_5(folder: Path, vae_train_here: Here) -> None:
    ended = vae_train_here(*SMALL, "--learning-rate", 900, "--epochs", 9, "-o", "run", "-q")
    assert (ended.code, ended.out) == (5, "")
    assert "loss became" in ended.err
    assert ended.err.count("\n") == 1


HEAVY = ["torch", "onnx", "onnxruntime", "onnxscript", "safetensors", "rich", "matplotlib", "tomli_w"]
WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({HEAVY})); {VAE_TRAIN}"


def test_help_and_version_need_neither_torch_nor_anything_heavy(folder: Path, start_python: Start) -> None:
    for flag, words in (("--help", "Train a variational autoencoder"), ("--version", "vae-train, version")):
        process = start_python(WITHOUT, flag, cwd=folder)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert words in out


def test_without_torch_it_says_what_to_install(folder: Path, start_python: Start) -> None:
    process = start_python(WITHOUT, "--data", "bars.npy", cwd=folder)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (4, "")
    assert err == (
        "vae-train: error: torch is not installed; this command needs it: pip install 'vae-edge[cpu,train]'\n"
    )


VALUES = {"image_size": "8x8", "filters": "4,8", "validation": "0.5", "ema": "0.5"}
MAY_CHANGE = {"source", "epochs", "sharpen_epochs", "device", "resume", "save_every", "quiet", "version"}
SETTINGS = [param for param in vae_train.params if param.name not in (*MAY_CHANGE, "dry_run")]


@pytest.mark.parametrize("option", SETTINGS, ids=lambda option: str(option.name))
def test_no_other_setting_of_a_run_is_changed_when_it_goes_on(
    folder: Path, vae_train_here: Here, option: click.Option
) -> None:
    value = VALUES.get(option.name or "", "1")
    if isinstance(option.type, click.Choice):
        value = option.type.choices[0]
    typed = max(option.opts, key=len)
    ended = vae_train_here("--resume", "nowhere", typed, *([] if option.is_flag else [value]))
    assert (ended.code, ended.out) == (2, "")
    assert f"error: {typed} cannot be changed by --resume" in ended.err
