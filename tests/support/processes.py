"""Processes of Python as a user's shell would start them, with the project's packages found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = tuple(str(ROOT / name) for name in ("training", "export", "runtime"))


def environment(*first_on_path: str, **more: str) -> dict[str, str]:
    """The variables of this process without those of Python's own; the packages are found."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**inherited, "PYTHONPATH": os.pathsep.join((*first_on_path, *PACKAGES)), **more}


def run_to_its_end(*words: object, timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run Python with these words on its command line; `options` as subprocess.run takes them."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout,
        check=False,
        **options,
    )
