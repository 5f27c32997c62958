"""The walls between the packages, each looked at from inside a process of its own.

The runtime runs where neither PyTorch nor the onnx package is installed, and its library where neither
click nor Pillow is. Importing it does nothing to the machine.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from absent import NO_ONNXRUNTIME, wall

import vae_runtime
from vae_runtime.installation import OLDEST_ONNXRUNTIME
from vae_runtime.scan import MOST_NODES, MOST_TENSORS
from vae_runtime.wire import MOST_FIELDS

ROOT = Path(__file__).resolve().parents[1]

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
        "score {0}/one.png -o {0}/new.csv",
        "score {0}",
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
    finished = run_python(
        NO_ONNXRUNTIME + RUN_COMMAND, "sample", "--model", gray_bundle, "-o", tmp_path / "a.png"
    )
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


@pytest.mark.parametrize("package", ["vae_runtime", "vae_training", "vae_export"])
def test_each_package_is_its_command_where_no_script_is_on_the_path(package: str) -> None:
    if package != "vae_runtime":
        pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-m", package, "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    command = {"vae_runtime": "vae-run", "vae_training": "vae-train", "vae_export": "vae-export"}[package]
    assert (done.stdout, done.stderr) == (f"{command}, version {vae_runtime.__version__}\n", "")


def test_what_freezes_programs_sees_that_onnxruntime_is_needed() -> None:
    source = (ROOT / "runtime/vae_runtime/installation.py").read_text(encoding="utf-8")
    imported = {
        name.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    assert "onnxruntime" in imported


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


# What a stranger's file could make run is not there to be run.

DANGEROUS_MODULES = {
    "pickle", "marshal", "shelve", "dill", "joblib", "subprocess", "socket", "ssl", "http", "urllib", "ftplib",
    "requests", "multiprocessing", "code", "codeop", "runpy", "pty", "telnetlib", "xmlrpc", "webbrowser",
}  # fmt: skip
DANGEROUS_CALLS = {
    "eval", "exec", "compile", "__import__", "system", "popen", "spawn", "spawnl", "spawnv", "startfile", "execv",
    "execve", "execvp", "posix_spawn", "unpack_archive", "extractall", "extract", "load_library",
    "register_custom_ops_library", "enable_profiling", "unsafe_load", "load_pickle",
}  # fmt: skip


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", sources("runtime"), ids=lambda path: path.stem)
def test_the_runtime_has_no_way_to_run_code_start_programs_or_open_sockets(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & DANGEROUS_MODULES
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in DANGEROUS_MODULES
        elif isinstance(node, ast.Call):
            called = node.func
            # `re.compile` and its like are harmless: what is meant are the built-in functions.
            bare = called.id if isinstance(called, ast.Name) else ""
            name = called.attr if isinstance(called, ast.Attribute) else bare
            assert name not in DANGEROUS_CALLS - {"compile"}, f"line {node.lineno}"
            assert bare != "compile", f"line {node.lineno}"


@pytest.mark.parametrize("path", sources("runtime", "export", "training"), ids=lambda path: path.stem)
def test_files_are_read_without_unpickling(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        called = ast.unparse(node.func)
        settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called == "torch.load":
            assert settings.get("weights_only") == "True", f"line {node.lineno}"
        assert settings.get("allow_pickle") in (None, "False"), f"line {node.lineno}"
        if called in ("np.load", "numpy.load", "np.lib.format.read_array"):
            assert settings.get("allow_pickle") == "False", f"line {node.lineno}"
        assert called not in ("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load"), (
            f"line {node.lineno}"
        )


def test_the_lints_above_see_what_they_look_for(tmp_path: Path) -> None:
    for line in (
        "import pickle",
        "from subprocess import run",
        "eval('1')",
        "os.system('true')",
        "compile('', '', '')",
    ):
        bad = tmp_path / "bad.py"
        bad.write_text(line, encoding="utf-8")
        with pytest.raises(AssertionError):
            test_the_runtime_has_no_way_to_run_code_start_programs_or_open_sockets(bad)
    for line in (
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
    ):
        bad.write_text(line, encoding="utf-8")
        with pytest.raises(AssertionError):
            test_files_are_read_without_unpickling(bad)


# Versions

REQUIREMENT = re.compile(r'"([\w.-]+)(?:\[[\w,]+\])?>=([\d.]+)(?:; *python_version *(>=|<) *\'3\.11\')?"')


def declared() -> dict[tuple[str, str], str]:
    """Lower bounds by the name of a distribution, and by what they say of Python."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found: dict[tuple[str, str], str] = {}
    for name, version, condition in REQUIREMENT.findall(text[: text.index("[project.scripts]")]):
        assert found.setdefault((name, condition), version) == version
    return found


def test_the_bounds_of_onnxruntime_are_those_that_are_checked_when_it_is_imported() -> None:
    checked = ".".join(map(str, OLDEST_ONNXRUNTIME))
    condition = ">=" if sys.version_info >= (3, 11) else "<"
    for wheel in ("onnxruntime", "onnxruntime-gpu"):
        assert declared()[wheel, condition] == checked
        assert declared()[wheel, ">="] == "1.27"


def test_versions_with_known_holes_are_below_the_bounds() -> None:
    bounds = {name: tuple(map(int, version.split("."))) for (name, _), version in declared().items()}
    assert bounds["torch"] >= (2, 10)  # CVE-2026-24747
    assert bounds["onnx"] >= (1, 21)  # CVE-2026-27489
    assert bounds["Pillow"] >= (12, 3)  # CVE-2026-59199


def test_the_page_on_security_names_the_bounds_and_limits_that_hold() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for number in (MOST_FIELDS, MOST_NODES, MOST_TENSORS):
        assert f"{number:,} " in text
    assert "onnxruntime older than 1.27" in text
    assert "PyTorch older than 2.10" in text
    assert "onnx older than 1.21" in text


@pytest.mark.skipif(not shutil.which("prlimit"), reason="this system has no prlimit")
def test_the_sandbox_on_the_page_on_security_works(tmp_path: Path, gray_bundle: Path) -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"```bash sandbox\n(.*?)```", text, re.DOTALL)
    try:
        subprocess.run(["unshare", "--map-root-user", "--net", "--pid", "--fork", "true"], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system does not let a process give up its network")
    vae_run = tmp_path / "vae-run"
    vae_run.write_text(f"#!{sys.executable}\nfrom vae_runtime.cli import main\nmain()\n", encoding="utf-8")
    vae_run.chmod(0o755)
    (tmp_path / "bundle").symlink_to(gray_bundle)
    paths = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "runtime")}
    finished = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env={**os.environ, **paths}, capture_output=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "faces.png").stat().st_size > 100
