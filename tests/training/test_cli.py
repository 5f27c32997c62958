"""`vae-train` as people meet it: exit codes, one line for every error, signals, and what is left behind."""

from __future__ import annotations

import os
import platform
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from torch import Tensor

from vae_export.cli import vae_export
from vae_training import loop
from vae_training.checkpoint import newest_checkpoint
from vae_training.cli import vae_train
from vae_training.config import Config
from vae_training.data import ImageSet
from vae_training.run_folder import RunFolder

VAE_TRAIN = "from vae_training.cli import main; main()"
# Of a run that takes no time: five steps of eight 8x8 images an epoch.
SMALL = (
    "--data", "bars.npy", "--filters", "3,4", "--latent-size", 2, "--batch-size", 8, "--epochs", 2,
    "--seed", 7, "--device", "cpu",
)  # fmt: skip

Here = Callable[..., Any]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bars: Callable[..., ImageSet]) -> Path:
    """Work in a folder that holds one file of images. What runs in this process leaves out the drawing."""
    for name in ("plot_losses", "write_sample_sheet", "write_reconstruction_sheet"):
        monkeypatch.setattr(loop, name, lambda *_: None)
    monkeypatch.chdir(tmp_path)
    np.save("bars.npy", bars().images[..., 0])
    return tmp_path


def weights(run: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(
        newest_checkpoint(RunFolder(run).checkpoints).path / "model.safetensors"
    )


def same_weights(a: Path, b: Path) -> bool:
    ours, theirs = weights(a), weights(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def trained(folder: Path, vae_train_here: Here) -> Path:
    """The folder of a run that is done."""
    assert vae_train_here(*SMALL, "-o", "done").code == 0
    return folder / "done"


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
        (["--init-from", "nowhere"], 3, "nowhere: no checkpoint; expected a folder that vae-train wrote"),
        (["--init-from", "bars.npy"], 3, "bars.npy: no checkpoint"),
        (["--init-from", "done/config.toml"], 3, "no checkpoint"),
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
        "--brightness", 0.5, "--ema", 0.5, "--seed", 3, "--device", "cpu", "--compile", "off", "-o", "run", "-q",
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
            "device": "cpu", "compile": "off",
        },
    }  # fmt: skip


def interrupted(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal once training has begun, and return all that came on stderr."""
    assert process.stderr is not None
    began = process.stderr.readline()
    assert " epochs of " in began, began + process.stderr.read()
    process.send_signal(number)
    _, rest = process.communicate(timeout=60)
    return rest


LONG = (*SMALL, "--batch-size", 1, "--epochs", 40)


def test_a_run_stopped_by_sigint_goes_on_to_the_same_weights(
    folder: Path, start_python: Start, vae_train_here: Here
) -> None:
    process = start_python(VAE_TRAIN, *LONG, "-o", "stopped", cwd=folder)
    told = interrupted(process, signal.SIGINT)
    assert process.returncode == 130, told
    line = told.splitlines()[-1]
    assert line.startswith("vae-train: error: stopped by SIGINT after step ")
    position = newest_checkpoint(folder / "stopped/checkpoints").position
    assert f"after step {position.total_steps}, which is saved" in line
    assert not list((folder / "stopped").rglob(".tmp-*"))

    epochs = position.epoch + 2  # enough to see that it goes on, and no more
    shorter = (*SMALL, "--batch-size", 1, "--epochs", epochs, "-q")
    assert vae_train_here(*shorter, "-o", "whole") == (0, "", "")
    assert vae_train_here("--resume", "stopped", "--epochs", epochs, "-q") == (0, "", "")
    assert same_weights(folder / "stopped", folder / "whole")


def test_a_second_process_is_refused_and_sigterm_is_143_and_saves_too(
    folder: Path, start_python: Start, vae_train_here: Here
) -> None:
    process = start_python(VAE_TRAIN, *LONG, "-o", "stopped", cwd=folder)
    assert process.stderr is not None
    assert " epochs of " in process.stderr.readline()
    for command in (("--resume", "stopped"), (*SMALL, "-o", "stopped")):
        refused = vae_train_here(*command)
        assert (refused.code, refused.out) == (4, "")
        assert refused.err == (
            f"vae-train: error: stopped: process {process.pid} on {platform.node()} is training in it; "
            "wait for its end, or give another folder with -o\n"
        )
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143, told
    assert not (folder / "stopped/.lock").exists()
    assert "stopped by SIGTERM" in told.splitlines()[-1]
    assert newest_checkpoint(folder / "stopped/checkpoints").position.total_steps >= 1


def test_the_way_to_go_on_that_is_told_can_be_run_as_it_stands(
    folder: Path, vae_train_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_training.progress import Observer

    def stop_at_once(self: Observer) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return False

    with monkeypatch.context() as patched:
        patched.setattr(Observer, "wants_losses", stop_at_once)
        ended = vae_train_here(*SMALL, "-o", "it's my run", "-q")
    assert ended.code == 130
    command, *arguments = shlex.split(ended.err.split("Go on with: ")[1])
    assert command == "vae-train"
    assert vae_train_here(*arguments, "-q") == (0, "", "")


def test_a_second_signal_leaves_at_once_and_nothing_half_done(
    folder: Path, trained: Path, vae_train_here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_training.progress import Observer

    def stop_twice(self: Observer) -> bool:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return pytest.fail("went on")

    before = files(trained)
    monkeypatch.setattr(Observer, "wants_losses", stop_twice)
    ended = vae_train_here("--resume", "done", "--epochs", 3, "-q")
    assert (ended.code, ended.err) == (130, "vae-train: error: interrupted\n")
    after = files(trained)
    assert Config.from_toml(trained / "config.toml").training.epochs == 3
    assert {**after, "config.toml": before["config.toml"]} == before


def test_a_run_that_was_killed_before_its_first_checkpoint_is_begun_anew_by_resume(
    folder: Path, trained: Path, vae_train_here: Here
) -> None:
    (folder / "killed").mkdir()
    (folder / "killed/config.toml").write_bytes((trained / "config.toml").read_bytes())
    (folder / "killed/.lock").write_text("4711 elsewhere\n")
    (folder / "killed/metrics.jsonl").write_bytes((trained / "metrics.jsonl").read_bytes()[:-9])
    ended = vae_train_here("--resume", "killed")
    assert ended.code == 0, ended.err
    assert ended.err.splitlines()[0] == "killed was stopped before its first checkpoint: it begins anew"
    assert same_weights(folder / "killed", trained)
    assert [row["epoch"] for row in RunFolder(folder / "killed").read_metrics()] == [1, 2]


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(
    trained: Path, vae_train_here: Here
) -> None:
    for path in trained.glob("checkpoints/*/state.json"):
        path.write_bytes(b"{}")
    before = files(trained)
    ended = vae_train_here("--resume", "done", "--epochs", 3)
    assert (ended.code, ended.out) == (3, "")
    assert "state.json: format version None" in ended.err
    assert files(trained) == before


def test_a_run_saves_inside_of_epochs_when_asked_to(folder: Path, vae_train_here: Here) -> None:
    assert vae_train_here(*SMALL, "--epochs", 1, "--save-every", 4, "-o", "run", "-q").code == 0
    assert [path.name for path in sorted((folder / "run/checkpoints").iterdir())] == [
        "step-00000004",
        "step-00000006",
    ]
    assert newest_checkpoint(folder / "run/checkpoints").position.epoch == 1
    assert vae_train_here(*SMALL, "--epochs", 1, "-o", "plain", "-q").code == 0
    assert same_weights(folder / "run", folder / "plain")


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


@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="needs a folder nobody can write to")
def test_a_folder_that_cannot_be_written_to_is_exit_code_4(folder: Path, vae_train_here: Here) -> None:
    ended = vae_train_here(*SMALL, "-o", "/sys/kernel/run")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith("vae-train: error: cannot write /sys/kernel/run: ")
    assert ended.err.count("\n") == 1


def test_resuming_lengthens_a_run(folder: Path, trained: Path, vae_train_here: Here) -> None:
    assert vae_train_here("--resume", "done", "--epochs", 3, "-q") == (0, "", "")
    assert [row["epoch"] for row in RunFolder(trained).read_metrics()] == [1, 2, 3]
    assert Config.from_toml(trained / "config.toml").training.epochs == 3
    assert vae_train_here(*SMALL, "--epochs", 3, "-o", "whole", "-q").code == 0
    assert same_weights(trained, folder / "whole")


def test_a_run_that_is_complete_is_not_resumed_without_more_epochs(
    trained: Path, vae_train_here: Here
) -> None:
    before = files(trained)
    ended = vae_train_here("--resume", "done")
    assert (ended.code, ended.out) == (2, "")
    assert "done is complete: 2 epochs are done. Give more with --epochs" in ended.err
    assert files(trained) == before


def test_a_run_is_resumed_where_its_images_went(folder: Path, trained: Path, vae_train_here: Here) -> None:
    (folder / "bars.npy").rename(folder / "moved.npy")
    assert vae_train_here("--resume", "done", "--epochs", 3).code == 3
    assert vae_train_here("--resume", "done", "--epochs", 3, "--data", "moved.npy", "-q").code == 0


def test_a_run_is_not_resumed_on_other_images(
    folder: Path, trained: Path, vae_train_here: Here, bars: Callable[..., ImageSet]
) -> None:
    np.save("others.npy", bars(seed=1).images)
    before = files(trained)
    ended = vae_train_here("--resume", "done", "--epochs", 3, "--data", "others.npy")
    assert (ended.code, ended.out) == (3, "")
    assert "was trained on other images than 'others.npy' holds now" in ended.err
    assert files(trained) == before


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
        (["--filters", "1,2,3"], 3, "model.filters is (1, 2, 3); expected two numbers from 1 to 65536"),
        (["--image-size", "0x8"], 2, "or two as in 24x32"),
        (["--channels", "2"], 2, "--channels"),
        (["--schedule", "sawtooth"], 2, "--schedule"),
        (["--device", "tpu"], 2, "--device"),
        (["--compile", "yes"], 2, "--compile"),
        (["--save-every", "0"], 2, "--save-every"),
        (["--resume", "nowhere", "--seed", "3"], 2, "--seed cannot be changed by --resume"),
        (["--resume", "nowhere", "-o", "x", "--config", "y"], 2, "--config, --output cannot be changed"),
        (["--resume", "nowhere"], 3, "no checkpoint; expected a folder that vae-train wrote"),
        (["--resume", "."], 3, "no checkpoint"),
        (["--resume", "bars.npy"], 3, "no checkpoint"),
        (["--data", "nowhere.npy"], 3, "nowhere.npy"),
        (["--data", "nonsense"], 3, "no data set, file or folder of that name"),
        (["--data", "text.npy"], 3, "text.npy"),
        (["--data", "\udcff.npy"], 3, "expected a name in UTF-8"),
        (["--data", "narrow.npy"], 3, "give --image-size 12x16"),
        (["--data", "bars.npy", "--image-size", "10"], 3, "divisible by 4"),
        (["--data", "bars.npy", "--array", "x"], 3, "--array"),
        (["--config", "nowhere.toml"], 3, "not a readable TOML file"),
        (["--config", "text.npy"], 3, "not a readable TOML file"),
        (["--config", "wrong.toml"], 3, "unknown setting epoch"),
        (["--learning-rate", "5000"], 3, "below 1000"),
        (["--data", "bars.npy", "-o", "used"], 3, "used exists and is not empty"),
        (["--data", "bars.npy", "-o", "bars.npy"], 3, "exists"),
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
    ended = vae_train_here("--data", "bars.npy", "--device", "cuda", "-o", "run")
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


def test_help_names_every_option_with_its_default() -> None:
    shown = CliRunner().invoke(vae_train, ["--help"]).output
    for option in vae_train.params:
        assert option.opts[0] in shown
    for default in ("faces", "20", "32,64", "5", "64", "0.001", "0.5", "auto"):
        assert f"[default: {default}]" in shown
