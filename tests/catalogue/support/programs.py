"""The three commands as processes, without waiting each time for their imports.

A server process imports what the commands import and then forks for every call: each call is a process of
its own, with its own folder, environment, limits, file descriptors and exit code, as if it had been started
from a shell. Nothing about warnings is set, so that the tests see what people see.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
LONGEST = 30  # seconds a command may take
MIB = 1 << 20

# What each program is made of, and what else its server imports beforehand.
MODULES = {
    "vae-run": ("vae_runtime.cli", "vae_runtime.cli.inputs", "vae_runtime.cli.outputs", "vae_runtime.model",
                "vae_runtime.cli.sheets", "onnxruntime", "PIL.PngImagePlugin"),
    "vae-train": ("vae_training.cli", "vae_training.data", "vae_training.loop", "vae_training.progress",
                  "vae_export.bundle", "vae_export.sources", "rich.console", "rich.table"),
    "vae-export": ("vae_export.cli",),
}  # fmt: skip

SERVER = """
import gc, importlib, json, os, resource, signal, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
gc.freeze()  # a child that looks at these objects would copy their pages
for line in sys.stdin:
    call = json.loads(line)
    child = os.fork()
    if child == 0:
        signal.alarm(call["longest"])
        os.chdir(call["folder"])
        os.environ.update(call["environment"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, path in ((1, call["out"]), (2, call["err"])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        for limit, value in call["limits"].items():
            if limit == "RLIMIT_AS":  # so much more than the process has already
                value += int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(getattr(resource, limit), (value, value))
        program, *arguments = call["words"]
        sys.argv = [program, *map(os.fsdecode, map(bytes.fromhex, arguments))]
        try:
            importlib.import_module(call["module"]).main()
        except SystemExit as end:
            # Not through the interpreter's end: PyTorch takes a quarter of a second to tidy up.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code or 0)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (of a signal: minus its number) and all that it wrote."""

    code: int
    out: bytes
    err: str


class Programs:
    """Runs the three commands, each call in a forked process."""

    def __init__(self) -> None:
        self._servers: dict[str, subprocess.Popen[str]] = {}
        self._folder = tempfile.TemporaryDirectory()

    def __enter__(self) -> Programs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers.values():
            server.communicate(timeout=LONGEST)
        self._folder.cleanup()

    def run(
        self,
        program: str,
        *arguments: object,
        stdout: str | None = None,
        limits: Mapping[str, int] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a command in the current folder.

        Args:
            program: `vae-run`, `vae-train` or `vae-export`.
            arguments: words, paths or bytes.
            stdout: a file to take instead of a new one.
            limits: names of the resource module; RLIMIT_AS counts from what the process has at its start.
            environment: variables to set.
        """
        server = self._server("vae-run" if program == "vae-run" else "vae-train")
        out, err = Path(self._folder.name, "out"), Path(self._folder.name, "err")
        call = {
            "module": MODULES[program][0],
            "words": [program, *(_as_bytes(argument).hex() for argument in arguments)],
            "folder": str(Path.cwd()),
            "longest": LONGEST,
            "limits": dict(limits or {}),
            "environment": dict(environment or {}),
            "out": stdout or str(out),
            "err": str(err),
        }
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(call) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        assert code != -signal.SIGALRM, f"{program} took more than {LONGEST} s: {arguments}"
        taken = b"" if stdout else out.read_bytes()
        return Ended(code, taken, err.read_bytes().decode("utf-8", "surrogateescape"))

    def _server(self, program: str) -> subprocess.Popen[str]:
        """Return the server of a program. Training and export share one: both import PyTorch."""
        if program not in self._servers:
            modules = (
                MODULES[program] if program == "vae-run" else (*MODULES["vae-train"], *MODULES["vae-export"])
            )
            self._servers[program] = subprocess.Popen(
                [sys.executable, "-c", SERVER, *modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment(),
                text=True,
            )
        return self._servers[program]


def environment(**more: str) -> dict[str, str]:
    """As a user's shell has it: nothing of Python's own, the packages found, no telemetry."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    paths = os.pathsep.join(str(ROOT / package) for package in ("training", "export", "runtime"))
    return {**inherited, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1", **more}


def _as_bytes(argument: Any) -> bytes:
    return argument if isinstance(argument, bytes) else os.fsencode(str(argument))
