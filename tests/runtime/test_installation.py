"""Getting hold of onnxruntime: one wheel, new enough, without telemetry. Wheels are made up as folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from absent import NO_ONNXRUNTIME, UNREGISTERED_ONNXRUNTIME

from vae_runtime import EnvironmentProblem, installation, wheels

IMPORT = """
from vae_runtime import EnvironmentProblem
from vae_runtime.installation import import_onnxruntime
try:
    print(import_onnxruntime().__version__)
except EnvironmentProblem as error:
    print(error.exit_code, error)
"""

Wheel = Callable[..., None]


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    """Put a wheel's metadata, and its module's source, into a folder that comes first on the path."""

    def put(name: str, version: str, source: str | None = None) -> None:
        metadata = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if source is not None:
            (tmp_path / "onnxruntime.py").write_text(source)

    return put


def test_the_installed_one_is_found(run_python: Any) -> None:
    finished = run_python(IMPORT)
    assert finished.stdout.strip() == installation.import_onnxruntime().__version__, finished.stderr
    assert list(wheels.installed_wheels()) in ([name] for name in wheels._WHEELS)


def test_a_missing_one_is_told_with_both_ways_to_get_it(run_python: Any) -> None:
    said = run_python(NO_ONNXRUNTIME + IMPORT).stdout
    assert said.startswith("4 onnxruntime is not installed; ")
    assert "pip install 'vae-edge[cpu]'" in said
    assert "pip install 'vae-edge[gpu]'" in said


def test_one_that_is_too_old_is_refused(run_python: Any, wheel: Wheel, tmp_path: Path) -> None:
    wheel("onnxruntime", "1.19.2", "__version__ = '1.19.2'")
    said = run_python(IMPORT, FIRST_ON_PATH=str(tmp_path)).stdout
    oldest = ".".join(map(str, installation.OLDEST_ONNXRUNTIME))
    assert said == (
        f"4 onnxruntime 1.19.2 is too old; expected at least {oldest}: pip install --upgrade 'vae-edge[cpu]'\n"
    )


@pytest.mark.parametrize(
    "before", ["import onnxruntime\n", IMPORT], ids=["by the host", "when it was refused"]
)
@pytest.mark.parametrize(
    ("source", "said"), [("__version__ = '1.19.2'", "1.19.2 is too old"), ("", "(its module is empty)")]
)
def test_one_that_is_imported_already_is_refused_too(
    run_python: Any, wheel: Wheel, tmp_path: Path, before: str, source: str, said: str
) -> None:
    wheel("onnxruntime", "1.19.2", source)
    lines = run_python(before + IMPORT, FIRST_ON_PATH=str(tmp_path)).stdout.splitlines()
    assert len(lines) == before.count("print(error") + 1
    assert all(line.startswith("4 ") and said in line for line in lines)


def test_one_that_says_no_version_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        installation._refuse_too_old("a build of somebody's own")
    assert len(caplog.records) == 1


@pytest.mark.parametrize("version", ["9.0.0", "1.100.0", "1.99.0.dev20260101+cpu", "unknown"])
def test_one_that_is_newer_or_calls_itself_otherwise_is_taken(
    run_python: Any, wheel: Wheel, tmp_path: Path, version: str
) -> None:
    wheel("onnxruntime", "1.99", f"__version__ = {version!r}")
    assert run_python(IMPORT, FIRST_ON_PATH=str(tmp_path)).stdout == f"{version}\n"


@pytest.mark.parametrize(
    ("other", "extra"),
    [("onnxruntime-gpu", "gpu"), ("onnxruntime-directml", "cpu"), ("onnxruntime-openvino", "cpu")],
)
def test_two_wheels_are_refused_with_the_line_that_leaves_one(
    run_python: Any, wheel: Wheel, tmp_path: Path, other: str, extra: str
) -> None:
    wheel("onnxruntime", "1.30.0", "raise AssertionError('it was imported')")
    wheel(other, "1.31.0")
    said = run_python(IMPORT, FIRST_ON_PATH=str(tmp_path)).stdout
    assert said == (
        f"4 onnxruntime 1.30.0 and {other} 1.31.0 are both installed and overwrite each other's files; expected "
        f"one of them. Mend it with: pip uninstall -y onnxruntime {other} && pip install 'vae-edge[{extra}]'\n"
    )


def test_one_that_cannot_be_imported_is_told_with_the_reason(
    run_python: Any, wheel: Wheel, tmp_path: Path
) -> None:
    wheel("onnxruntime", "1.30.0", "raise ImportError('libc.so.7 is missing')")
    said = run_python(IMPORT, FIRST_ON_PATH=str(tmp_path)).stdout
    assert said.startswith("4 onnxruntime 1.30.0 is installed but cannot be imported (libc.so.7 is missing)")
    assert said.endswith("Mend it with: pip install --force-reinstall onnxruntime\n")


BREAKS = {
    "raise AttributeError('_ARRAY_API not found')": "_ARRAY_API not found",
    "raise OSError('cannot enable executable stack')": "cannot enable executable stack",
    "import onnxruntime.capi": "No module named 'onnxruntime.capi'",
    "def": "invalid syntax",
    "raise RuntimeError('two\\nlines')": "two lines",
}


@pytest.mark.parametrize(("source", "reason"), BREAKS.items(), ids=BREAKS)
def test_one_that_fails_in_any_other_way_is_told_with_the_reason(
    run_python: Any, wheel: Wheel, tmp_path: Path, source: str, reason: str
) -> None:
    wheel("onnxruntime", "1.30.0", source)
    said = run_python(IMPORT, FIRST_ON_PATH=str(tmp_path)).stdout
    assert said.startswith("4 onnxruntime 1.30.0 is installed but cannot be imported (")
    assert reason in said
    assert said.endswith("Mend it with: pip install --force-reinstall onnxruntime\n")


@pytest.mark.parametrize("registered", [True, False])
def test_an_empty_folder_that_an_uninstalled_one_left_is_told(
    run_python: Any, wheel: Wheel, tmp_path: Path, registered: bool
) -> None:
    # Of two wheels that share their files, pip takes away the other's as well.
    if registered:
        wheel("onnxruntime", "1.30.0")
    (tmp_path / "onnxruntime" / "capi").mkdir(parents=True)
    only_that = """
import importlib.machinery, sys
finder = importlib.machinery.PathFinder
class Only(finder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name == "onnxruntime":
            return finder.find_spec(name, [sys.argv[1]], target)
sys.meta_path.insert(0, Only)
"""
    said = run_python(
        (only_that if registered else UNREGISTERED_ONNXRUNTIME + only_that) + IMPORT,
        tmp_path,
        FIRST_ON_PATH=str(tmp_path),
    ).stdout
    version = "1.30.0" if registered else "of unknown origin"
    assert said == (
        f"4 onnxruntime {version} is installed but cannot be imported (its module is empty). "
        "Mend it with: pip install --force-reinstall onnxruntime\n"
    )


def test_a_wheel_whose_metadata_is_damaged_is_a_wheel(run_python: Any, wheel: Wheel, tmp_path: Path) -> None:
    wheel("onnxruntime", "1.30.0")
    (tmp_path / "onnxruntime-1.30.0.dist-info/METADATA").write_text("")
    wheel("onnxruntime-gpu", "1.31.0")
    said = run_python(IMPORT, FIRST_ON_PATH=str(tmp_path)).stdout
    assert said.startswith(
        "4 onnxruntime of unknown version and onnxruntime-gpu 1.31.0 are both installed and overwrite each"
    )


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")])
def test_telemetry_is_off_before_the_import_unless_someone_chose(
    run_python: Any, wheel: Wheel, tmp_path: Path, before: str | None, after: str
) -> None:
    wheel(
        "onnxruntime",
        "1.99.0",
        "import os; __version__ = '1.99.0'; print(os.environ['ORT_DISABLE_TELEMETRY'])",
    )
    environment = {"ORT_DISABLE_TELEMETRY": before} if before else {}
    code = IMPORT if before else "import os; os.environ.pop('ORT_DISABLE_TELEMETRY', None)\n" + IMPORT
    assert run_python(code, FIRST_ON_PATH=str(tmp_path), **environment).stdout == f"{after}\n1.99.0\n"


@pytest.mark.parametrize("chosen", [None, "0"], ids=["nobody", "the host"])
def test_of_what_the_host_imported_the_events_are_switched_off_once_unless_it_chose(
    run_python: Any, wheel: Wheel, tmp_path: Path, chosen: str | None
) -> None:
    source = "__version__ = '1.99.0'\ndef disable_telemetry_events(): print('off')"
    wheel("onnxruntime", "1.99.0", source)
    code = "import onnxruntime, os; os.environ.pop('ORT_DISABLE_TELEMETRY', None)\n"
    if chosen is not None:
        code += f"os.environ['ORT_DISABLE_TELEMETRY'] = {chosen!r}\n"
    off = "" if chosen else "off\n"
    assert run_python(code + 2 * IMPORT, FIRST_ON_PATH=str(tmp_path)).stdout == f"{off}1.99.0\n1.99.0\n"


def test_once_imported_it_is_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = installation.import_onnxruntime()
    monkeypatch.setattr(installation, "installed_wheels", lambda: {"a": "1", "b": "2"})
    assert installation.import_onnxruntime() is imported
    assert os.environ["ORT_DISABLE_TELEMETRY"]


def test_the_error_is_of_the_environment() -> None:
    assert issubclass(EnvironmentProblem, RuntimeError)


def test_threads_that_open_the_first_models_at_once_all_get_theirs(
    run_python: Any, gray_bundle: Path
) -> None:
    """The first one imports onnxruntime; the others must not take what is half imported."""
    finished = run_python(
        """
import sys, threading, vae_runtime.model
sizes = []
start = threading.Barrier(6)
def work():
    start.wait()
    sizes.append(vae_runtime.load(sys.argv[1]).sample(1).shape)
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(sizes))
""",
        gray_bundle,
    )
    assert (finished.stdout, finished.stderr) == ("6\n", "")
