"""The wheel, in an empty environment with the [cpu] extra: no checkout, no PyTorch, no onnx, no network."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[1]
LARGEST_WHEEL = 5_000_000  # bytes


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env={**outside, **environment}, capture_output=True, text=True
    )


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT, cwd=folder)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("vae_edge-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment's commands, into which the README's first install line was typed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)  # without a pip of its own, which takes longer to install than all the rest
    done = run(
        sys.executable, "-m", "pip", "--python", folder / "bin" / "python",
        "install", "--quiet", "--find-links", wheel.parent, "vae-edge[cpu]",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def test_the_wheel_is_small_and_holds_what_it_should(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST_WHEEL
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {
        "vae_runtime/py.typed",
        "vae_training/py.typed",
        "vae_export/py.typed",
        "vae_runtime/models/faces24/decoder.onnx",
        "vae_runtime/models/faces24/SHA256SUMS",
        "vae_runtime/models/faces24/prior.onnx",
        "vae_runtime/models/faces24/prior_inverse.onnx",
        "vae_runtime/models/faces24-int8/decoder.onnx",
        "vae_runtime/models/faces64/decoder.onnx",
        "vae_runtime/models/faces64-int8/decoder.onnx",
        "vae_runtime/models/drawn24/prior_density.onnx",
        "vae_runtime/models/digits/SHA256SUMS",
        "vae_training/data/faces24.npz",
    } <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {
        "vae_runtime", "vae_training", "vae_export", "vae_edge",
    }  # fmt: skip


def test_from_the_wheel_the_embedded_set_is_read_as_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(("vae_runtime", "vae_training"))]
        archive.extractall(tmp_path, [name for name in names if "/models/" not in name])
    code = (
        "import numpy as np, vae_training.data as data; print(data.__file__);"
        "np.save('images.npy', data.load_images('faces').images[..., 0])"
    )
    done = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.stdout.startswith(str(tmp_path)), done.stderr
    with np.load(ROOT / "data" / "faces24.npz") as whole:
        np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), whole["images"])


def test_nothing_heavy_comes_along(installed: Path) -> None:
    for module in ("torch", "onnx", "onnxscript", "matplotlib", "rich", "safetensors", "scipy"):
        done = run(installed / "python", "-c", f"import {module}", cwd=installed)
        assert "ModuleNotFoundError" in done.stderr, f"{module} is installed"


def test_sampling_works_at_once_without_a_network(installed: Path, tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    nowhere = "http://127.0.0.1:9"
    done = run(
        installed / "vae-run", "sample", "-o", "faces.png",
        cwd=work, HOME=str(home), http_proxy=nowhere, https_proxy=nowhere,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert size_of(work / "faces.png") == (240, 240)
    assert list(work.iterdir()) == [work / "faces.png"]
    assert list(home.iterdir()) == []


def test_the_library_works_with_warnings_as_errors(installed: Path, tmp_path: Path) -> None:
    code = "import vae_runtime; print(vae_runtime.load('faces24').sample(3, seed=0).shape)"
    done = run(installed / "python", "-W", "error", "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(3, 1, 24, 24)\n"


@pytest.mark.parametrize("command", ["vae-train", "vae-export"])
def test_the_other_commands_say_what_they_need(installed: Path, tmp_path: Path, command: str) -> None:
    arguments = {"vae-train": ["--epochs", "1"], "vae-export": ["run"]}[command]
    done = run(installed / command, *arguments, cwd=tmp_path)
    assert done.returncode == 4
    assert "pip install 'vae-edge[cpu,train]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert run(installed / command, "--help", cwd=tmp_path).returncode == 0
