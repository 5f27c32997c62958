"""The machine's faults: packages that are missing, doubled or broken, no GPU, no room, nowhere to write."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from programs import Ended, Programs, environment

from vae_runtime import available_providers

Refuses = Callable[..., str]

# The same for all commands that open a model.
OPENING = (
    "sample -n 2 -o new.npy",
    "interpolate 1 2 -o new.png",
    "encode images.npy -o new.npy",
    "decode latents.npy -o new.png",
    "info",
)


@pytest.fixture(autouse=True)
def _inputs(place: Path) -> None:
    np.save("images.npy", np.zeros((2, 8, 12), np.uint8))
    np.save("latents.npy", np.zeros((2, 3), np.float32))


@pytest.mark.skipif(available_providers() != ("cpu",), reason="this onnxruntime has more than the CPU")
@pytest.mark.parametrize("words", OPENING, ids=lambda words: words.split()[0])
def test_a_provider_that_is_not_here_is_refused_and_nothing_runs_elsewhere(
    refuses: Refuses, words: str
) -> None:
    refuses(
        f"vae-run {words} --model BUNDLE --provider cuda", None, 4,
        "provider 'cuda' is not in the installed onnxruntime", "which has cpu", "Mend it with: pip ",
    )  # fmt: skip


def test_a_gpu_to_train_on_that_is_not_here_is_refused(refuses: Refuses) -> None:
    said = refuses(
        "vae-train --data images.npy --device cuda -o run", None, 4, "device 'cuda'",
        environment={"CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert "device 'cpu' trains without one" in said


BROKEN = {
    "missing": (None, {}, "onnxruntime is not installed; expected its CPU wheel (pip install 'vae-edge[cpu]')"),
    "too old": ("__version__ = '1.9.0'", {"onnxruntime": "1.9.0"}, "onnxruntime 1.9.0 is too old; expected at least"),
    "doubled": (
        "raise AssertionError", {"onnxruntime": "1.30.0", "onnxruntime-gpu": "1.30.0"},
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'vae-edge[gpu]'",
    ),
    "broken": ("import nothing_of_that_name", {"onnxruntime": "1.30.0"}, "pip install --force-reinstall onnxruntime"),
    "broken otherwise": ("1/0", {"onnxruntime": "1.30.0"}, "cannot be imported (division by zero)"),
}  # fmt: skip

# Python finds no other onnxruntime than the one in the folder that comes first, nor its metadata.
ALONE = """
import importlib.machinery, importlib.metadata, sys
sys.dont_write_bytecode = True
folder = sys.argv.pop(1)
finder = importlib.machinery.PathFinder
class Only(finder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "onnxruntime":
            found = finder.find_spec(name, [folder], target)
            if found is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return found
sys.meta_path.insert(0, Only)
sys.path.append(folder)
version = importlib.metadata.version
def version_in_folder(name):
    if name.startswith(("onnxruntime", "ort-")):
        for found in importlib.metadata.distributions(name=name, path=[folder]):
            return found.version
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = version_in_folder
from vae_runtime.cli import main
main()
"""


@pytest.mark.parametrize(("module", "wheels", "words"), BROKEN.values(), ids=BROKEN)
def test_an_onnxruntime_that_cannot_be_used_is_told_with_the_line_that_mends_it(
    tmp_path: Path, gray_bundle: Path, module: str | None, wheels: dict[str, str], words: str
) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    if module is not None:
        (packages / "onnxruntime.py").write_text(module)
    for name, version in wheels.items():
        folder = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, packages, "sample", "--model", gray_bundle, "-o", "new.npy"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("vae-run: error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert not Path("new.npy").exists()


def test_nothing_is_written_but_the_output_and_no_home_is_needed(
    place: Path, gray_bundle: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.write_text("a file")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for command in ("info", "check", f"encode images.npy -o {tmp_path / 'new.npy'}"):
        done = subprocess.run(
            [sys.executable, "-c", "from vae_runtime.cli import main; main()", *command.split(),
             "--model", gray_bundle],
            capture_output=True,
            env=environment(HOME=str(home), TMPDIR=str(home), XDG_CACHE_HOME=str(home)),
            timeout=30,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    (tmp_path / "new.npy").unlink()
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert after == before


@pytest.mark.skipif(not Path("/sys/kernel").exists(), reason="no folder where nobody may write")
@pytest.mark.parametrize("name", ["new.npy", "new.png", "new"])
def test_a_folder_that_cannot_be_written_leaves_with_4(refuses: Refuses, name: str) -> None:
    refuses(f"vae-run sample -n 2 --model BUNDLE -o /sys/{name}", None, 4, f"cannot write /sys/{name}: ")


@pytest.mark.parametrize("name", ["out.png --scale 16", "out.npy", "new.npz", "new --scale 16"])
def test_a_full_disk_leaves_with_4_and_what_was_there(refuses: Refuses, name: str) -> None:
    said = refuses(
        f"vae-run sample -n 500 --model BUNDLE --overwrite -o {name}", None, 4,
        limits={"RLIMIT_FSIZE": 300},
    )  # fmt: skip
    assert f"cannot write {name.split()[0]}: the file would exceed the size limit" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no such device")
@pytest.mark.parametrize("command", ["sample -n 2 -o -", "info", "sample --help"])
def test_a_full_disk_behind_stdout_leaves_with_4(run: Callable[..., Ended], command: str) -> None:
    ended = run(
        f"vae-run {command}" + (" --model BUNDLE" if "--help" not in command else ""), stdout="/dev/full"
    )
    assert ended.code == 4
    assert ended.err == "vae-run: error: input or output: No space left on device\n"


def test_too_few_descriptors_leave_with_4(run: Callable[..., Ended]) -> None:
    Path("folder").mkdir()
    ended = run("vae-run encode images.npy --model BUNDLE -o new.npy", limits={"RLIMIT_NOFILE": 4})
    assert ended.code in (3, 4), ended.err
    assert ended.err.startswith("vae-run: error: ")
    assert "Too many open files" in ended.err
    assert len(ended.err.splitlines()) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")
def test_a_process_bound_to_one_processor_says_so(place: Path, gray_bundle: Path) -> None:
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); from vae_runtime.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "info", "--model", gray_bundle],
        capture_output=True, text=True, env=environment(), timeout=30, check=True,
    )  # fmt: skip
    assert any(line.split() == ["processors", "1"] for line in done.stdout.splitlines())


def test_a_reader_that_left_is_no_error(place: Path, gray_bundle: Path) -> None:
    command = [sys.executable, "-c", "from vae_runtime.cli import main; main()", "sample", "-n", "20000",
               "--model", gray_bundle, "-o", "-"]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141


def test_a_large_request_is_worked_off_in_little_memory(
    run: Callable[..., Ended], programs: Programs
) -> None:
    ended = run(
        "vae-run sample -n 200000 --threads 1 --model BUNDLE -o new.npy", limits={"RLIMIT_AS": 200 << 20}
    )
    assert ended.code == 0, ended.err
    assert np.load("new.npy", mmap_mode="r").shape == (200_000, 8, 12)
