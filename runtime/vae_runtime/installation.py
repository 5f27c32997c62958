"""Getting hold of onnxruntime: quietly, new enough, and from exactly one wheel."""

from __future__ import annotations

import _thread
import functools
import importlib
import logging
import os
import sys
from types import ModuleType

from vae_runtime.errors import EnvironmentProblem, one_line
from vae_runtime.wheels import installed_wheels, is_surely_alone

_log = logging.getLogger(__name__)

# Before 1.27 a model could read files outside its folder; Python 3.10 has nothing newer than 1.23.
OLDEST_ONNXRUNTIME = (1, 27) if sys.version_info >= (3, 11) else (1, 20)

_NO_TELEMETRY = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime with its telemetry off, after checking that it is there, alone and new enough.

    Sets the environment variable ORT_DISABLE_TELEMETRY to 1 unless it is set. From version 1.29 the mere
    import would otherwise write files to the home folder and start a thread that makes forked children hang.

    Raises:
        EnvironmentProblem: missing, doubled, broken or too old, with the pip lines that mend it; or no use here.
    """
    imported = sys.modules.get("onnxruntime")
    if imported is not None and not _is_being_imported(imported):
        _silence(imported)
        return _checked(imported)
    if _in_sub_interpreter():
        raise EnvironmentProblem(
            "onnxruntime hangs when a sub-interpreter imports it; expected the process's main interpreter "
            "(with mod_wsgi: WSGIApplicationGroup %{GLOBAL})"
        )
    os.environ.setdefault(_NO_TELEMETRY, "1")
    if not is_surely_alone():
        installed = installed_wheels()
        if len(installed) > 1:
            raise EnvironmentProblem(_doubled_message(installed))
    try:
        import onnxruntime  # as a statement, which tools that freeze programs see
    except Exception as error:
        installed = installed_wheels()
        # Half overwritten or built for another numpy, it fails in ways of its own.
        if not installed and isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
            raise EnvironmentProblem(
                "onnxruntime is not installed; expected its CPU wheel (pip install 'vae-edge[cpu]') "
                "or, for CUDA, its GPU wheel (pip install 'vae-edge[gpu]')"
            ) from error
        raise EnvironmentProblem(_broken_message(installed, one_line(error))) from error
    return _checked(onnxruntime)


def _in_sub_interpreter() -> bool:
    is_main = getattr(_thread, "_is_main_interpreter", None)
    if is_main is not None:
        return not is_main()
    try:
        interpreters = importlib.import_module("_xxsubinterpreters")  # what there is before Python 3.13
    except ImportError:
        return False
    return bool(interpreters.get_current() != interpreters.get_main())


def _is_being_imported(module: ModuleType) -> bool:
    """Tell whether another thread is in the midst of importing it: an import then waits for that thread."""
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _silence(onnxruntime: ModuleType) -> None:
    """Do what can still be done for a process that imported onnxruntime before us."""
    if os.environ.get(_NO_TELEMETRY) is None:
        # Too late for the thread and the files; events at least are not sent from here on.
        os.environ[_NO_TELEMETRY] = "1"
        _log.info(
            "onnxruntime was imported before vae_runtime: set %s=1 to keep its telemetry off", _NO_TELEMETRY
        )
        if hasattr(onnxruntime, "disable_telemetry_events"):
            onnxruntime.disable_telemetry_events()


def _checked(onnxruntime: ModuleType) -> ModuleType:
    """Return onnxruntime, whoever imported it: the host, perhaps, or we, when it was refused before."""
    if not hasattr(onnxruntime, "__version__"):
        # What is left of its folder where one of two wheels was uninstalled: Python imports it as empty.
        raise EnvironmentProblem(_broken_message(installed_wheels(), "its module is empty"))
    _refuse_too_old(str(onnxruntime.__version__))
    return onnxruntime


@functools.cache
def _refuse_too_old(version: str) -> None:
    oldest = ".".join(map(str, OLDEST_ONNXRUNTIME))
    try:
        parts = tuple(int(part) for part in version.split(".")[:2])
    except ValueError:
        _log.warning("onnxruntime calls itself %r: cannot tell whether that is at least %s", version, oldest)
        return
    if parts < OLDEST_ONNXRUNTIME:
        raise EnvironmentProblem(
            f"onnxruntime {version} is too old; expected at least {oldest}: pip install --upgrade 'vae-edge[cpu]'"
        )


def _doubled_message(installed: dict[str, str]) -> str:
    found = " and ".join(f"{name} {version}" for name, version in installed.items())
    extra = "gpu" if "onnxruntime-gpu" in installed else "cpu"
    return (
        f"{found} are both installed and overwrite each other's files; expected one of them. Mend it with: "
        f"pip uninstall -y {' '.join(installed)} && pip install 'vae-edge[{extra}]'"
    )


def _broken_message(installed: dict[str, str], reason: str) -> str:
    name, version = next(iter(installed.items()), ("onnxruntime", "of unknown origin"))
    return (
        f"{name} {version} is installed but cannot be imported ({reason}). Mend it with: "
        f"pip install --force-reinstall {name}"
    )
