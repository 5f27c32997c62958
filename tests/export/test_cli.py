"""`vae-export` as people meet it: exit codes, one line for every error, and commands that work."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from contents import files

import vae_runtime
from vae_export.cli import vae_export
from vae_export.opsets import supported_opsets
from vae_runtime.cli.main import vae_run

Here = Callable[..., Any]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Path) -> Path:
    """Work in a folder that holds a copy of the run."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "run")
    return tmp_path


def test_a_run_becomes_a_bundle_inside_of_it(folder: Path, vae_export_here: Here) -> None:
    ended = vae_export_here("run")
    assert ended.code == 0, ended.err
    with vae_runtime.load(folder / "run/bundle") as model:
        card = model.card
    assert (card.name, card.opset, card.data) == ("run", 17, "the file noise.npy")
    assert card.recipe["training"]["seed"] == 4
    assert "bundle   run/bundle  (encoder " in ended.out
    assert "opset 17, fp32" in ended.out
    assert "absolute differences (images: noise)" in ended.err
    assert ended.err.count(" ok") == 5
    assert "FAILED" not in ended.err


def test_the_name_of_the_images_is_shown_and_not_obeyed(folder: Path, vae_export_here: Here) -> None:
    np.save("[red]\x07.npy", np.random.default_rng(1).integers(0, 256, (4, 8, 12), np.uint8))
    ended = vae_export_here("run", "-o", "out", "--data", "[red]\x07.npy")
    assert ended.code == 0, ended.err
    assert r"(images: [red]\x07)" in ended.err


def test_every_option_reaches_the_card(folder: Path, vae_export_here: Here) -> None:
    ended = vae_export_here(
        "run", "-o", "out", "--opset", 18, "--name", "My model", "--license", "CC0-1.0",
        "--data-note", "noise of my own", "--provider", "cpu", "--image-tolerance", 1e-4,
        "--latent-tolerance", 1e-3,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    with vae_runtime.load(folder / "out") as model:
        card = model.card
    assert (card.name, card.opset, card.license, card.data) == ("My model", 18, "CC0-1.0", "noise of my own")
    assert "| 0.0001 |" in (folder / "out/README.md").read_text()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_lower_precision_is_told_with_what_it_costs(
    folder: Path, vae_export_here: Here, precision: str
) -> None:
    ended = vae_export_here("run", "-o", "small", "--precision", precision)
    assert ended.code == 0, ended.err
    assert f"opset 17, {precision})" in ended.out
    assert "against float32: pictures " in ended.out
    assert ended.err.count(" dB") >= 3
    told = CliRunner().invoke(vae_run, ["info", "--model", "small"], catch_exceptions=False)
    assert precision in told.output
    again = vae_export_here("run", "-o", "small", "--precision", precision, "--no-optimize", "--overwrite")
    assert again.code == 0, again.err
    assert "--no-optimize" in (folder / "small/recipe.toml").read_text()


def test_a_precision_that_there_is_not_is_a_usage_error(vae_export_here: Here) -> None:
    ended = vae_export_here("run", "--precision", "int4")
    assert (ended.code, ended.out) == (2, "")
    assert "'int4' is not one of 'fp32', 'fp16', 'int8'" in ended.err


def test_quiet_says_nothing(vae_export_here: Here) -> None:
    assert vae_export_here("run", "-o", "out", "-q") == (0, "", "")


def test_the_commands_that_are_told_can_be_run_as_they_stand(folder: Path, vae_export_here: Here) -> None:
    told = vae_export_here("run", "-o", "it's mine").out.splitlines()[1:]
    names, commands = [], []
    for line in told:
        name, *command = shlex.split(line)
        names.append(name)
        commands.append(command)
    assert names == ["sample", "between", "check"]
    for program, *arguments in commands:
        assert program == "vae-run"
        ended = CliRunner().invoke(vae_run, arguments, catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
    assert {path.name for path in folder.glob("*.png")} == {"samples.png", "between.png"}


def test_weights_alone_are_proven_on_the_embedded_faces(
    folder: Path, vae_export_here: Here, plain_vae: Callable[..., torch.nn.Module]
) -> None:
    torch.save(plain_vae(height=8, width=20, filters=(2, 3), latents=1).state_dict(), "my weights.pth")
    ended = vae_export_here("my weights.pth", "--image-size", "8x20")
    assert ended.code == 0, ended.err
    assert "images: faces" in ended.err
    assert "Weights alone do not say whether a ReLU stands behind decoder.fc" in " ".join(ended.err.split())
    with vae_runtime.load(folder / "my weights-bundle") as model:
        card = model.card
    assert (card.name, card.data, card.recipe, card.quality) == ("my weights", "", {}, {})
    assert (card.image_shape, card.latent_size) == ((1, 8, 20), 1)


def test_the_relu_that_some_versions_have_changes_the_pictures(folder: Path, vae_export_here: Here) -> None:
    shutil.copy(max((folder / "run/checkpoints").iterdir()) / "model.safetensors", "w.safetensors")
    assert vae_export_here("w.safetensors", "-o", "without", "-q").code == 0
    ended = vae_export_here("w.safetensors", "-o", "with", "--fc-relu")
    assert "do not say whether a ReLU" not in ended.err
    with vae_runtime.load(folder / "without") as a, vae_runtime.load(folder / "with") as b:
        assert not np.allclose(a.sample(3, seed=0), b.sample(3, seed=0), atol=1e-5)


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names are always Unicode here")
def test_words_that_are_not_utf_8_are_written_escaped(folder: Path, vae_export_here: Here) -> None:
    odd = os.fsdecode(b"b\xff")
    ended = vae_export_here("run", "-o", odd, "--license", odd, "--data-note", odd)
    assert ended.code == 0, ended.err
    with vae_runtime.load(folder / odd) as model:
        assert (model.card.name, model.card.license, model.card.data) == (r"b\xff",) * 3
    assert (folder / odd / "README.md").read_text(encoding="utf-8").count(r"b\xff") >= 3


def test_parity_can_be_proven_on_other_images(folder: Path, vae_export_here: Here) -> None:
    np.save("others.npy", np.random.default_rng(5).integers(0, 256, (30, 16, 16), np.uint8))
    ended = vae_export_here("run", "--data", "others.npy", "-o", "out")
    assert ended.code == 0, ended.err
    assert "images: others" in ended.err


def test_a_run_whose_images_are_gone_says_how_to_name_them(
    run: Path, folder: Path, vae_export_here: Here
) -> None:
    (run.parent / "noise.npy").rename(folder / "noise.npy")
    try:
        ended = vae_export_here("run", "-o", "out")
    finally:
        (folder / "noise.npy").rename(run.parent / "noise.npy")
    assert (ended.code, ended.out) == (3, "")
    assert "noise.npy: cannot be read" in ended.err
    assert "say with --data where the images of run are now" in ended.err


def test_an_opset_that_cannot_be_written_lists_those_that_can(folder: Path, vae_export_here: Here) -> None:
    ended = vae_export_here("run", "-o", "out", "--opset", 14)
    assert (ended.code, ended.out) == (2, "")
    listed = ", ".join(map(str, supported_opsets()))
    assert ended.err == f"vae-export: error: opset 14 cannot be written here; expected one of {listed}\n"
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "Missing argument 'SOURCE'"),
        (["run", "--no-such"], 2, "No such option"),
        (["run", "surplus"], 2, "unexpected extra argument"),
        (["run", "--opset", "new"], 2, "not a valid integer"),
        (["run", "--opset", "99"], 2, "opset 99 cannot be written here"),
        (["run", "--image-tolerance", "0"], 2, "--image-tolerance"),
        (["run", "--latent-tolerance", "-1"], 2, "--latent-tolerance"),
        (["w.pth", "--image-size", "8x"], 2, "expected a number above 0"),
        ([""], 2, "the name is empty"),
        (["run", "--provider", "abacus"], 2, "'abacus' is not one of 'auto', 'cpu', 'cuda'"),
        (["nowhere"], 3, "no such file or folder"),
        (["empty"], 3, "holds no checkpoints"),
        (["text.pth"], 3, "text.pth: refused: not a PyTorch weights file"),
        (["model.onnx"], 3, "unknown kind"),
        (["evil.pth"], 3, "holds more than tensors, and loading that would run code"),
        (["other.pth"], 3, "not the weights of the classic architecture"),
        (["nan.pth"], 5, "NaN or infinite"),
        (["w.pth", "--image-size", "8x16"], 3, "give the right --image-size"),
        (["run", "--fc-relu"], 3, "its settings are in the folder"),
        (["run", "--data", "nowhere.npy"], 3, "nowhere.npy"),
        (["torn"], 3, "SHA-256 differs"),
        (["run", "-o", "used"], 3, "used exists already; give --overwrite"),
        (["run", "-o", "home", "--overwrite"], 3, "home holds other things than what is written here"),
        (["run", "-o", "w.pth", "--overwrite"], 3, "w.pth is a file"),
        (
            ["nowhere", "--provider", "tensorrt"],
            4,
            "provider 'tensorrt'",
        ),  # before anything is read or traced
        (["run", "--image-tolerance", "1e-30", "-o", "out"], 5, "Nothing was written"),
        (["run", "--latent-tolerance", "1e-30", "-o", "out"], 5, "on images differs by"),
        (["run", "--image-tolerance", "1e-30", "-o", "used", "--overwrite"], 5, "disagree: image on"),
        (["run", "--precision", "int8", "--least-psnr", "99", "-o", "out"], 5, "has a PSNR of"),
        (["run", "--precision", "fp16", "--image-tolerance", "1e-9", "-o", "out"], 5, "differs by"),
        (["run", "--precision", "int8", "--image-tolerance", "1", "-o", "out"], 2, "give --least-psnr"),
        (["run", "--precision", "fp16", "--least-psnr", "40", "-o", "out"], 2, "in int8 alone, not in fp16"),
        (["run", "--least-psnr", "40", "-o", "out"], 2, "in int8 alone, not in fp32"),
        (["used", "-o", "out"], 3, "encoder.onnx"),
    ],
)
def test_every_error_is_one_line_and_nothing_is_written(
    folder: Path, vae_export_here: Here, plain_vae: Callable[..., torch.nn.Module],
    arguments: list[str], code: int, words: str,
) -> None:  # fmt: skip
    state = dict(plain_vae().state_dict())
    torch.save(state, "w.pth")
    torch.save({"linear.weight": torch.zeros(2)}, "other.pth")
    torch.save({**state, "decoder.fc.bias": torch.full((20,), torch.nan)}, "nan.pth")
    torch.save({**state, "extra": os.getcwd}, "evil.pth")
    (folder / "text.pth").write_text("Hello, these are my weights.\n")
    (folder / "model.onnx").write_bytes(b"x")
    (folder / "empty").mkdir()
    (folder / "home").mkdir()
    (folder / "home/thesis.txt").touch()
    (folder / "used").mkdir()
    (folder / "used/SHA256SUMS").touch()
    shutil.copytree("run", "torn")
    for path in folder.glob("torn/checkpoints/*/model.safetensors"):
        path.write_bytes(b"torn")
    before = files(folder)
    ended = vae_export_here(*arguments)
    assert (ended.code, ended.out) == (code, "")
    *said, line = ended.err.splitlines()
    assert line.startswith("vae-export: error: ")
    assert not any("error" in earlier or "Warning" in earlier for earlier in said)
    assert words in line
    assert files(folder) == before
    assert not (folder / "out").exists()
    if code in (2, 3):
        assert said == []


def test_a_folder_that_is_there_is_replaced_where_that_is_wished(folder: Path, vae_export_here: Here) -> None:
    assert vae_export_here("run", "-o", "used", "-q").code == 0
    (folder / "used/left-over.txt").touch()
    assert vae_export_here("run", "-o", "used", "--overwrite", "-q").code == 0
    assert not (folder / "used/left-over.txt").exists()
    assert (folder / "used/SHA256SUMS").is_file()


def test_help_and_version_need_neither_torch_nor_anything_heavy(run_python: Callable[..., Any]) -> None:
    heavy = ["torch", "onnx", "onnxruntime", "onnxscript", "safetensors", "rich", "matplotlib", "tomli_w"]
    without = f"import sys; sys.modules.update(dict.fromkeys({json.dumps(heavy)})); "
    start = f"{without} from vae_export.cli import main; main()"
    helped = run_python(start, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "SOURCE is a run folder of vae-train" in helped.stdout
    missing = run_python(start, "run")
    assert (missing.returncode, missing.stdout) == (4, "")
    assert missing.stderr.count("\n") == 1
    assert "pip install 'vae-edge[cpu,train]'" in missing.stderr


def test_help_names_every_option() -> None:
    shown = CliRunner().invoke(vae_export, ["--help"]).output
    for parameter in vae_export.params:
        if parameter.param_type_name == "option":
            assert parameter.opts[0] in shown
