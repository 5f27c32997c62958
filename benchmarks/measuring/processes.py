"""Whole processes: how long each takes, and how much memory at most."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
VAE_RUN = "import sys; from vae_runtime.cli.main import main; sys.exit(main())"
"""What the command `vae-run` is; written out so that it is the one of this checkout."""


@dataclass(frozen=True)
class Run:
    """One process, from its start to its end."""

    seconds: float
    peak_bytes: int


def run_process(command: Sequence[str | Path]) -> Run:
    """Run a command and measure it from a process of its own.

    A child's peak of memory counts what its parent held when it started the child, so the parent must be
    small: not the one that has loaded PyTorch.

    Raises:
        RuntimeError: the command failed.
    """
    launcher = [sys.executable, "-S", str(SCRIPTS / "launch.py")]
    ended = subprocess.run(
        [*launcher, *map(str, command)], env=_environment(), capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {ended.returncode}\n{ended.stderr}")
    figures = json.loads(ended.stdout.splitlines()[-1])
    return Run(figures["seconds"], figures["peak_bytes"])


def _environment() -> dict[str, str]:
    """Return an environment in which the packages of this checkout are found, and telemetry is off.

    They are compiled by whoever imports them first, and not every time anew: pip compiles what it installs.
    """
    paths = os.pathsep.join(path for path in sys.path if path)
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**ours, "PYTHONPATH": paths, "ORT_DISABLE_TELEMETRY": "1"}
