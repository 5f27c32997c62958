"""Commands as processes, without waiting each time for their imports.

A server process imports what the commands import and then forks for every call: each call is a process of
its own, with its own folder, environment, limits, file descriptors, signals and exit code, as if it had been
started from a shell, and ten times faster than that.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

LONGEST = 60  # seconds a command may take

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
            sys.exit("the command came back")
        except SystemExit as end:
            if not call["at_once"]:
                raise
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


class ForkingServer:
    """Runs commands, each call in a forked process. To be used in a `with` block."""

    def __init__(
        self, modules: Sequence[str], environment: Mapping[str, str], *, leave_at_once: bool = False
    ) -> None:
        """Describe the server.

        Args:
            modules: what to import before the first call.
            environment: the variables of all calls.
            leave_at_once: commands leave without the interpreter's end, for which PyTorch takes a quarter of a second.
        """
        self._modules = modules
        self._environment = environment
        self._at_once = leave_at_once

    def __enter__(self) -> ForkingServer:
        self._folder = tempfile.TemporaryDirectory()
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER, *self._modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(self._environment),
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.communicate(timeout=LONGEST)
        self._folder.cleanup()

    def call(
        self,
        module: str,
        program: str,
        *arguments: object,
        stdout: str | None = None,
        limits: Mapping[str, int] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a command in the current folder.

        Args:
            module: whose `main` is the command.
            program: its name.
            arguments: words, paths or bytes.
            stdout: a file to take instead of a new one.
            limits: names of the resource module; RLIMIT_AS counts from what the process has at its start.
            environment: variables to set.
        """
        out, err = Path(self._folder.name, "out"), Path(self._folder.name, "err")
        call = {
            "module": module,
            "words": [program, *(as_bytes(argument).hex() for argument in arguments)],
            "folder": str(Path.cwd()),
            "longest": LONGEST,
            "at_once": self._at_once,
            "limits": dict(limits or {}),
            "environment": dict(environment or {}),
            "out": stdout or str(out),
            "err": str(err),
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(call) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        assert code != -signal.SIGALRM, f"{program} took more than {LONGEST} s: {arguments}"
        taken = b"" if stdout else out.read_bytes()
        return Ended(code, taken, err.read_bytes().decode("utf-8", "surrogateescape"))


def as_bytes(argument: Any) -> bytes:
    """A word of a command line."""
    return argument if isinstance(argument, bytes) else os.fsencode(str(argument))
