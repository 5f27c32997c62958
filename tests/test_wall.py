"""The walls between the packages, each looked at from inside a process of its own.

The runtime runs where neither PyTorch nor the onnx package is installed, and its library where neither
click nor Pillow is. Importing it does nothing to the machine.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import pytest

import vae_runtime

ROOT = Path(__file__).resolve().parents[1]

# Importing what is behind the wall fails as if it were not installed.
WALL = """
import importlib.abc, sys
class Wall(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Wall())
"""
HEAVY = ("torch", "onnx", "onnxscript", "safetensors", "vae_training", "vae_export", "rich", "matplotlib")
ONLY_CLI = ("click", "PIL")

USE_LIBRARY = """
import sys, numpy as np, vae_runtime
with vae_runtime.load(sys.argv[1]) as model:
    pictures = model.sample(70, seed=7, dtype="uint8")
    assert pictures.shape == (70, 8, 12)
    assert model.encode(pictures).mean.shape == (70, 3)
    assert model.reconstruct(pictures).shape == (70, 1, 8, 12)
    assert model.interpolate(np.zeros(3), np.ones(3), 5).shape == (5, 1, 8, 12)
    assert vae_runtime.grid(pictures).shape == (8 * 8, 9 * 12)
"""

RUN_COMMAND = """
sys.argv[0] = "vae-run"
from vae_runtime.cli import main
main()
"""


def wall(*blocked: str) -> str:
    return WALL.format(blocked=blocked)


def modules(package: Any) -> list[str]:
    return [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]


LIBRARY = ["vae_runtime", *(name for name in modules(vae_runtime) if not name.startswith("vae_runtime.cli"))]


def test_the_library_works_without_torch_onnx_training_and_export(run_python: Any, gray_bundle: Path) -> None:
    finished = run_python(wall(*HEAVY) + USE_LIBRARY, gray_bundle)
    assert finished.returncode == 0, finished.stderr


def test_the_library_works_without_click_and_pillow(run_python: Any, gray_bundle: Path) -> None:
    finished = run_python(wall(*HEAVY, *ONLY_CLI) + USE_LIBRARY, gray_bundle)
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize(
    "line",
    [
        "sample -n 5 -o {0}/new.png",
        "sample -n 5 -o {0}/new",
        "interpolate 1 2 --steps 4 -o {0}/new.png",
        "interpolate {0}/one.png 2 -o {0}/new.npy",
        "reconstruct {0} -o {0}/new.png",
        "encode {0}/one.png -o {0}/new.npz",
        "decode {0}/latents.npy -o {0}/new.png",
        "info",
        "check",
    ],
)
def test_every_command_works_without_torch_onnx_training_and_export(
    run_python: Any, gray_bundle: Path, tmp_path: Path, line: str
) -> None:
    numpy = pytest.importorskip("numpy")
    image = pytest.importorskip("PIL.Image")
    image.fromarray(numpy.zeros((8, 12), numpy.uint8)).save(tmp_path / "one.png")
    numpy.save(tmp_path / "latents.npy", numpy.zeros((2, 3), numpy.float32))
    arguments = [word.format(tmp_path) for word in line.split()]
    finished = run_python(wall(*HEAVY) + RUN_COMMAND, *arguments, "--model", gray_bundle)
    assert finished.returncode == 0, finished.stderr
    assert any(path.stem == "new" for path in tmp_path.iterdir()) == ("-o" in line)


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_work_without_onnxruntime_and_numpy(run_python: Any, argument: str) -> None:
    finished = run_python(wall(*HEAVY, "onnxruntime", "numpy", "PIL") + RUN_COMMAND, argument)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert "vae-run" in finished.stdout


def test_without_onnxruntime_a_command_says_how_to_get_it(
    run_python: Any, gray_bundle: Path, tmp_path: Path
) -> None:
    # Its metadata must be gone too, or it counts as installed and broken.
    gone = """
import importlib.metadata
found = importlib.metadata.version
def version(name):
    if name.startswith("onnxruntime"):
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.version = version
"""
    code = wall("onnxruntime") + gone + RUN_COMMAND
    finished = run_python(code, "sample", "--model", gray_bundle, "-o", tmp_path / "a.png")
    assert finished.returncode == 4
    assert finished.stderr.startswith("vae-run: error: onnxruntime is not installed; ")
    assert "pip install 'vae-edge[cpu]'" in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_library_loads_neither_click_nor_pillow_nor_anything_heavy(run_python: Any) -> None:
    imports = "".join(f"import {name}\n" for name in LIBRARY)
    finished = run_python(
        f"import sys\n{imports}print(sorted(set(sys.modules) & set({(*HEAVY, *ONLY_CLI, 'scipy', 'pickle')!r})))"
    )
    loaded = finished.stdout.strip()
    # numpy itself imports pickle; nothing else may come along.
    assert loaded in ("[]", "['pickle']"), finished.stderr


def test_importing_the_package_alone_loads_not_even_numpy(run_python: Any) -> None:
    finished = run_python("import sys, vae_runtime; print({'numpy', 'onnxruntime'} & set(sys.modules))")
    assert finished.stdout == "set()\n", finished.stderr


@pytest.mark.parametrize("name", ["vae_training", "vae_export"])
def test_the_source_of_the_runtime_does_not_name_the_other_packages_in_an_import(name: str) -> None:
    for path in (ROOT / "runtime").rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        named = [line for line in lines if line.lstrip().startswith(("import ", "from ")) and name in line]
        assert named == [], path


def test_the_training_does_not_import_the_export() -> None:
    for path in (ROOT / "training").rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        named = [
            line for line in lines if line.lstrip().startswith(("import ", "from ")) and "vae_export" in line
        ]
        assert named == [], path


def test_no_warning_is_given(run_python: Any, gray_bundle: Path) -> None:
    finished = run_python(USE_LIBRARY, gray_bundle, flags=("-W", "error"))
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")


def test_nothing_is_written_to_the_home_folder(run_python: Any, gray_bundle: Path, tmp_path: Path) -> None:
    finished = run_python(
        "import os; os.environ.pop('ORT_DISABLE_TELEMETRY', None)\n" + USE_LIBRARY,
        gray_bundle,
        HOME=str(tmp_path),
        USERPROFILE=str(tmp_path),
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    assert finished.returncode == 0, finished.stderr
    assert list(tmp_path.iterdir()) == []


def test_telemetry_is_off_after_loading(run_python: Any, gray_bundle: Path) -> None:
    finished = run_python(
        "import os; os.environ.pop('ORT_DISABLE_TELEMETRY', None)\n"
        + USE_LIBRARY
        + "print(os.environ['ORT_DISABLE_TELEMETRY'])",
        gray_bundle,
    )
    assert finished.stdout == "1\n", finished.stderr


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="this system does not list a process's threads"
)
def test_no_thread_is_started_by_importing_and_loading(run_python: Any, gray_bundle: Path) -> None:
    finished = run_python(
        """
import os, sys, time
os.environ.pop("ORT_DISABLE_TELEMETRY", None)
def threads():
    until = time.monotonic() + 10  # one that has ended is listed for a moment
    while len(os.listdir("/proc/self/task")) > before and time.monotonic() < until:
        time.sleep(0.01)
    return len(os.listdir("/proc/self/task"))
import numpy  # its matrix library may have threads of its own
before = len(os.listdir("/proc/self/task"))
import vae_runtime
model = vae_runtime.load(sys.argv[1])
model.sample(1)
print(threads() - before)
model.sample(1000)
print(threads() - before)
""",
        gray_bundle,
    )
    assert finished.stdout == "0\n0\n", finished.stderr


def test_no_socket_is_opened_no_program_started_and_nothing_written(
    run_python: Any, gray_bundle: Path, tmp_path: Path
) -> None:
    finished = run_python(
        """
import os, sys
import numpy, onnxruntime  # what these do is theirs
events = []
def listen(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "ctypes.", "pickle.")):
        events.append(event)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        events.append(arguments)
sys.addaudithook(listen)
"""
        + USE_LIBRARY
        + "assert events == [], events",
        gray_bundle,
        ORT_DISABLE_TELEMETRY="1",
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert finished.returncode == 0, finished.stderr


def test_what_is_public_is_there_and_explained() -> None:
    assert len(set(vae_runtime.__all__)) == len(vae_runtime.__all__)
    assert dir(vae_runtime) == sorted(vae_runtime.__all__)
    for name in vae_runtime.__all__:
        value = getattr(vae_runtime, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__name__ == name
            assert value.__module__.startswith("vae_runtime.")
            assert inspect.getdoc(value), name
    with pytest.raises(AttributeError, match="module 'vae_runtime' has no attribute 'nonsense'"):
        _ = vae_runtime.nonsense


def test_every_name_for_type_checkers_is_public_and_the_other_way_round() -> None:
    """The imports under TYPE_CHECKING must list what `__all__` lists."""
    lines = Path(vae_runtime.__file__).read_text(encoding="utf-8").splitlines()
    declared = [line.split(" as ")[1] for line in lines if line.startswith("    from vae_runtime.")]
    assert sorted([*declared, "__version__"]) == sorted(vae_runtime.__all__)


@pytest.mark.parametrize("name", [*LIBRARY, *(name for name in modules(vae_runtime) if name not in LIBRARY)])
def test_every_public_function_and_class_of_a_module_is_explained(name: str) -> None:
    module = importlib.import_module(name)
    assert inspect.getdoc(module)
    for member, value in vars(module).items():
        ours = getattr(value, "__module__", None) == name and not member.startswith("_")
        if not ours or not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        assert inspect.getdoc(value), f"{name}.{member}"
        if inspect.isclass(value):
            for inner, function in vars(value).items():
                if inspect.isfunction(function) and not inner.startswith("_"):
                    assert inspect.getdoc(function), f"{name}.{member}.{inner}"


def test_no_public_name_is_hidden_by_a_module_of_the_same_name() -> None:
    # Importing a submodule sets its name on the package, whoever imports it and whenever.
    package = Path(vae_runtime.__file__).parent
    modules = {path.stem for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not modules & set(vae_runtime.__all__)
