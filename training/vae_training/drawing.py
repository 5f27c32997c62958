"""Matplotlib, wherever we run."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from types import ModuleType

_BACKEND = "MPLBACKEND"


def import_matplotlib() -> ModuleType:
    """Import matplotlib, whatever backend the environment names.

    A notebook names its own for every process that it starts, and where that is not installed, the import fails. We
    draw into files, without a backend; for others in this process it stays the one that is named.
    """
    if "matplotlib" in sys.modules:
        return sys.modules["matplotlib"]
    named = os.environ.pop(_BACKEND, None)
    try:
        matplotlib = importlib.import_module("matplotlib")
    finally:
        if named is not None:
            os.environ[_BACKEND] = named
    if named:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = named
    return matplotlib
