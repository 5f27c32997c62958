"""`vae-run` as a process. Warnings are errors in it.

Where there is no fork, and where a test asks for it, a fresh interpreter runs the command.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any

import processes
from forking import LONGEST, Ended, ForkingServer, as_bytes

MAIN = "from vae_runtime.cli import main; main()"
MODULES = (
    "numpy", "PIL.Image", "PIL.PngImagePlugin", "onnxruntime", "vae_runtime.model", "vae_runtime.cli",
    "vae_runtime.cli.inputs", "vae_runtime.cli.outputs", "vae_runtime.cli.scores", "vae_runtime.cli.self_test",
    "vae_runtime.cli.sheets",
)  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    """As a user's shell has it, but for warnings."""
    return processes.environment(PYTHONWARNINGS="error", **more)


class Started(subprocess.Popen[bytes]):
    """A process that is not waited for by a test that has failed already."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, error, trace)


def start(*arguments: Any, **options: Any) -> Started:
    """Start `vae-run` in a fresh interpreter; `options` as Popen takes them."""
    options.setdefault("env", environment())
    return Started([sys.executable, "-c", MAIN, *map(os.fsdecode, map(as_bytes, arguments))], **options)


def run_fresh(*arguments: Any, **more_environment: str) -> Ended:
    """Run `vae-run` in a fresh interpreter to its end."""
    return _to_its_end(*arguments, env=environment(**more_environment))


def run_within(limit: int, most: int, *arguments: Any) -> Ended:
    """Run `vae-run` in a fresh interpreter that may have no more than `most` of what a limit of `resource` names.

    Beyond a file's size, RLIMIT_FSIZE, writing fails as on a full disk.
    """
    import resource  # not on Windows

    return _to_its_end(
        *arguments,
        preexec_fn=lambda: resource.setrlimit(limit, (most, most)),
        env=environment(PYTHONDONTWRITEBYTECODE="1"),  # or the limit would meet compiled modules
    )


def _to_its_end(*arguments: Any, **options: Any) -> Ended:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(*arguments, **pipes, **options) as process:
        out, err = process.communicate(timeout=LONGEST)
    return Ended(process.returncode, out, err.decode("utf-8", "surrogateescape"))


@contextmanager
def command_server() -> Iterator[Callable[..., Ended]]:
    """Give the function that runs `vae-run` in the current folder.

    Its keyword `stdout` names a file to take instead of a new one.
    """
    if not hasattr(os, "fork"):
        yield run_fresh
        return
    with ForkingServer(MODULES, environment(ORT_DISABLE_TELEMETRY="1")) as server:
        yield partial(server.call, "vae_runtime.cli", "vae-run")
