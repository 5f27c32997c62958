"""Commands in forked children of a process that has imported what is slow to import."""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

_LIMIT = 120  # seconds a command
_RUNTIME = (
    "PIL.Image", "PIL.PngImagePlugin", "vae_runtime.model", "vae_runtime.cli.inputs", "vae_runtime.cli.outputs",
    "vae_runtime.cli.sheets", "vae_runtime.cli.pictures",
)  # fmt: skip
_TRAINING = (
    "vae_training.cli",
    "vae_training.loop",
    "vae_training.data",
    "vae_export.cli",
    "vae_export.bundle",
)


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    errors: int
    """Lines of error that it wrote."""
    words: str


def import_first(*, training: bool = False) -> None:
    """Import here what every child would import again."""
    from vae_runtime.installation import import_onnxruntime

    for module in (*_RUNTIME, *(_TRAINING if training else ())):
        importlib.import_module(module)
    import_onnxruntime()
    if training:
        import torch

        torch.set_num_threads(1)  # a forked child has no other threads


def run_command(
    name: str, *arguments: object, limit: int | None = None, kill_after: float | None = None
) -> Ended:
    """Run `vae-run`, `vae-train` or `vae-export` in a forked child.

    Args:
        name: the command.
        arguments: its arguments.
        limit: how many bytes a file may have that it writes.
        kill_after: seconds after which it is killed.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        with _ends_here():
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            signal.alarm(_LIMIT)
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            _command(name)(list(map(str, arguments)))
    os.close(writing)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading, errors="replace") as pipe:
        words = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    errors = [line for line in words.splitlines() if ": error: " in line or "Traceback" in line]
    return Ended(code, len(errors), words[-300:])


def require_done(ended: Ended) -> None:
    if ended.code != 0:
        raise RuntimeError(f"a command that should work left with {ended.code}: {ended.words}")


def _command(name: str) -> Callable[[list[str]], None]:
    from vae_runtime.cli.exits import run_command as run

    module, command = {
        "vae-run": ("vae_runtime.cli.main", "vae_run"),
        "vae-train": ("vae_training.cli", "vae_train"),
        "vae-export": ("vae_export.cli", "vae_export"),
    }[name]
    return lambda arguments: run(getattr(importlib.import_module(module), command), name, arguments)


@contextlib.contextmanager
def _ends_here() -> Iterator[None]:
    """End this process with the block, with the code that the block leaves with."""
    code = 70
    try:
        yield
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
