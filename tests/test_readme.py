"""Every code block of the README does what the page says."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from preloaded import preloaded_commands

import vae_runtime

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w[\w ]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
KINDS = {"bash make", "bash install", "python", "python service", "python training", "bash"}


def blocks(kind: str) -> list[str]:
    return [text for info, text in BLOCKS if info == kind]


def size_of(file: Path | io.BytesIO) -> tuple[int, int]:
    with Image.open(file) as picture:
        return picture.size


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """The environment of a user who has installed the project."""
    return {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for the whole page: later blocks use what earlier ones wrote."""
    return tmp_path_factory.mktemp("readme")


def test_every_block_is_of_a_kind_that_is_run_here() -> None:
    assert {info for info, _ in BLOCKS} == KINDS


def test_the_python_example_runs(folder: Path, environment: dict[str, str]) -> None:
    for code in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "(240, 240) (20, 1, 24, 24) (100, 1, 24, 24)" in done.stdout


def test_training_and_export_run_from_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks("python training")
    monkeypatch.chdir(tmp_path)
    images = vae_runtime.load("drawn24").sample(200, seed=1, dtype="uint8")
    np.save("faces.npy", images)
    (tmp_path / "mine.py").write_text(code)
    runpy.run_path("mine.py")  # here, where PyTorch is imported already
    assert "Model 'mine'" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"faces.npy", "mine.py", "runs", "python"}


@pytest.mark.long
def test_the_commands_run_in_their_order(folder: Path, environment: dict[str, str], tmp_path: Path) -> None:
    # PyTorch imported ten times over would take half a minute; `make demo` starts the commands as they are installed.
    with preloaded_commands(tmp_path) as commands:
        environment = {**environment, "PATH": os.pathsep.join([str(commands), environment["PATH"]])}
        for script in blocks("bash"):
            done = subprocess.run(
                ["bash", "-euxo", "pipefail", "-c", script],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
    assert size_of(folder / "grid.png") == (240, 240)
    assert (folder / "runs" / "again" / "loss.png").is_file()


def test_the_web_service_answers_with_a_picture(folder: Path, environment: dict[str, str]) -> None:
    (code,) = blocks("python service")
    port = _free_port()
    service = subprocess.Popen(
        [sys.executable, "-c", code, str(port)], cwd=folder, env=environment, stderr=subprocess.PIPE
    )
    try:
        first = _fetch(f"http://127.0.0.1:{port}/faces/7", service)
        assert size_of(io.BytesIO(first)) == (24, 24)
        assert _fetch(f"http://127.0.0.1:{port}/faces/7", service) == first
        assert _fetch(f"http://127.0.0.1:{port}/faces/8", service) != first
        for other in ("/favicon.ico", "/", "/faces/x", "/faces/-1", f"/faces/{'9' * 5000}"):
            assert _status(port, other) == 404
    finally:
        service.terminate()
        _, said = service.communicate()
    assert b"Traceback" not in said


@pytest.mark.long
def test_make_demo_makes_its_pictures(tmp_path: Path) -> None:
    if not (Path(sys.prefix) / ".installed").exists():
        pytest.skip("this environment was not made by `make`, which would install into it anew")
    (script,) = blocks("bash make")
    assert script.splitlines() == ["make demo", "make test"]
    settings = [f"VENV={sys.prefix}", f"OUT={tmp_path / 'demo'}", "EPOCHS=1"]
    done = subprocess.run(["make", "demo", *settings], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert size_of(tmp_path / "demo" / "faces.png") == (720, 720)
    assert size_of(tmp_path / "demo" / "interpolation.png") == (720, 576)
    assert (tmp_path / "demo" / "reconstruction.png").is_file()
    for step in ("train", "export", "sample", "interpolate", "reconstruct"):
        assert re.search(rf"^{step} +\d+ s$", done.stdout, re.MULTILINE)


def test_make_test_would_run_pytest() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True)
    assert "-m pytest" in done.stdout


def test_the_install_lines_name_extras_that_the_wheel_has() -> None:
    # tests/test_wheel.py installs the first of them for real.
    metadata = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for script in blocks("bash install"):
        match = re.fullmatch(r"pip install 'vae-edge\[([\w,]+)\]'\n", script)
        assert match is not None
        for extra in match[1].split(","):
            assert re.search(rf"^{extra} = \[", metadata, re.MULTILINE)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


def _fetch(url: str, service: subprocess.Popen[bytes]) -> bytes:
    """Ask until the service is up; at most 30 seconds."""
    # Through no proxy, neither of this machine nor of a test that urllib remembers.
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(300):
        try:
            with directly.open(url, timeout=10) as answer:
                return bytes(answer.read())
        except ConnectionError:
            pass
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionError):
                raise
        assert service.poll() is None, service.communicate()[1]
        time.sleep(0.1)
    raise AssertionError("the service did not come up")
