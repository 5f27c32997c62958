"""`vae-run` as a process, without waiting each time for its imports.

A server process imports what the command imports and then forks for every call: each call is a process
of its own with its own file descriptors, signals and exit code, ten times faster than from nothing. Where
there is no fork, and where a test asks for it, a fresh interpreter runs the command.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vae_runtime

RUNTIME = Path(vae_runtime.__file__).resolve().parents[1]
MAIN = "from vae_runtime.cli import main; main()"
LIMIT = 60  # seconds

SERVER = """
import gc, json, os, signal, sys
import numpy, PIL.Image, PIL.PngImagePlugin
import vae_runtime.cli.inputs, vae_runtime.cli.outputs, vae_runtime.cli.self_test, vae_runtime.cli.sheets
from vae_runtime.cli import main
from vae_runtime.installation import import_onnxruntime
import_onnxruntime()
gc.freeze()  # a child that looks at these objects would copy their pages
for line in sys.stdin:
    call = json.loads(line)
    child = os.fork()
    if child == 0:
        signal.alarm(call["limit"])
        os.chdir(call["folder"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, path in ((1, call["out"]), (2, call["err"])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        sys.argv = ["vae-run", *map(os.fsdecode, map(bytes.fromhex, call["arguments"]))]
        main()
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@dataclass(frozen=True)
class Finished:
    code: int
    out: bytes
    err: str


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**inherited, "PYTHONPATH": str(RUNTIME), "PYTHONWARNINGS": "error", **more}


def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
    """Start `vae-run` in a fresh interpreter; `options` as Popen takes them."""
    options.setdefault("env", environment())
    return subprocess.Popen([sys.executable, "-c", MAIN, *map(os.fspath, map(_text, arguments))], **options)


def run_fresh(*arguments: Any, **more_environment: str) -> Finished:
    """Run `vae-run` in a fresh interpreter to its end."""
    with start(
        *arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**more_environment),
    ) as process:
        out, err = process.communicate(timeout=LIMIT)
    return Finished(process.returncode, out, err.decode("utf-8", "surrogateescape"))


class CommandServer:
    """Runs commands, each in a forked process."""

    def __enter__(self) -> CommandServer:
        self._server = None
        if hasattr(os, "fork"):
            self._server = subprocess.Popen(
                [sys.executable, "-c", SERVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment(),
                text=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.communicate(timeout=LIMIT)

    def run(self, *arguments: Any, stdout: str | None = None) -> Finished:
        """Run `vae-run` in the current folder; `stdout` names a file to take instead of a new one."""
        if self._server is None:
            return run_fresh(*arguments)
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            call = {
                "arguments": [os.fsencode(_text(argument)).hex() for argument in arguments],
                "folder": str(Path.cwd()),
                "limit": LIMIT,
                "out": stdout or str(out),
                "err": str(err),
            }
            self._server.stdin.write(json.dumps(call) + "\n")
            self._server.stdin.flush()
            code = int(self._server.stdout.readline())
            assert code != -signal.SIGALRM, f"vae-run took more than {LIMIT} s: {arguments}"
            taken = b"" if stdout else out.read_bytes()
            return Finished(code, taken, err.read_bytes().decode("utf-8", "surrogateescape"))


def _text(argument: Any) -> str | bytes:
    return (
        argument
        if isinstance(argument, (str, bytes))
        else os.fspath(argument)
        if isinstance(argument, Path)
        else str(argument)
    )
