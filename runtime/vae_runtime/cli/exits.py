"""How a command ends: errors as one line on stderr, and the exit codes that the README lists.

Used by all three commands.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click

from vae_runtime.errors import VaeError, one_line, printable, shortened

UNFORESEEN, USAGE, BAD_INPUT, ENVIRONMENT, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 130, 143
_CLOSED_PIPE = 141  # 128 + SIGPIPE, as the shell has it

# What the operating system says where the name that was given is at fault, and not the machine.
_BAD_NAMES = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EEXIST,
              errno.ENOTEMPTY, errno.EINVAL, errno.EILSEQ)  # fmt: skip

# PyTorch has no MemoryError of its own on the CPU: this is how its allocator words it.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")

# What to install where a module is missing.
_EXTRAS = {
    "torch": "train",
    "onnx": "train",
    "onnxscript": "train",
    "safetensors": "train",
    "rich": "train",
    "matplotlib": "train",
    "tomli_w": "train",
    "tomli": "train",
    "torchmetrics": "train",
    "skimage": "datasets",
}


def run_command(command: click.Command, name: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a click command as a process's whole work, and leave with the exit code that its end deserves.

    Unforeseen errors become one line too; with VAE_EDGE_DEBUG=1 in the environment their traceback shows.
    """
    signal.signal(signal.SIGTERM, _terminate)
    _stand_in_for_closed_streams()
    if not sys.warnoptions:
        # Libraries' advice to programmers, several lines of it, means nothing to who reads our one line.
        warnings.simplefilter("ignore")
    try:
        # Not command.main(): it prints an empty line on interruption, and leaves by itself on a closed pipe.
        with command.make_context(name, list(sys.argv[1:] if arguments is None else arguments)) as context:
            code = command.invoke(context)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last resort of a process
        code = _end(_stop_behind(error) or error, name)
    _give_up_streams_that_fail()
    sys.exit(code if isinstance(code, int) else 0)


def _stop_behind(error: BaseException) -> BaseException | None:
    """Return what a signal raised, where an error is only what a library made of that; else None.

    One that is stopped in the middle of an import may fail with anything.
    """
    seen: list[BaseException] = []
    ahead: list[BaseException | None] = [error]
    while ahead:
        found = ahead.pop()
        if found is None or any(found is known for known in seen):
            continue
        if isinstance(found, (KeyboardInterrupt, _Terminated)):
            return found
        seen.append(found)
        ahead += [found.__cause__, found.__context__]
    return None


class _Terminated(SystemExit):
    """SIGTERM came; an exception, so that temporary files are taken away on the way out."""


@functools.singledispatch
def _end(error: BaseException, name: str) -> int:
    """Say on stderr what went wrong, where that is not said yet, and return the exit code."""
    _debug()
    _say(name, f"unforeseen {type(error).__name__}: {error}. VAE_EDGE_DEBUG=1 shows where")
    return UNFORESEEN


@_end.register
def _(error: VaeError, name: str) -> int:
    _debug()
    _say(name, str(error))
    return error.exit_code


@_end.register
def _(error: click.exceptions.Exit, name: str) -> int:  # noqa: ARG001 - as all of them
    return error.exit_code


@_end.register
def _(error: click.ClickException, name: str) -> int:
    _say(name, error.format_message())
    return error.exit_code


@_end.register
def _(error: click.UsageError, name: str) -> int:
    # A group names its subcommand; the bare exception would print its usage over several lines.
    where = error.ctx.command_path if error.ctx else name
    if type(error).__name__ == "NoArgsIsHelpError":  # click has it from 8.2 on
        with contextlib.suppress(OSError):
            error.show()
    else:
        _say(name, f"{error.format_message()} (see {where} --help)")
    return USAGE


@_end.register(KeyboardInterrupt)
@_end.register(click.Abort)
def _(error: BaseException, name: str) -> int:  # noqa: ARG001 - as all of them
    _say(name, "interrupted")
    return INTERRUPTED


@_end.register
def _(error: _Terminated, name: str) -> int:  # noqa: ARG001 - as all of them
    return TERMINATED


@_end.register
def _(error: ModuleNotFoundError, name: str) -> int:
    _debug()
    module = (error.name or "").split(".")[0]
    extra = _EXTRAS.get(module)
    if extra is None:
        _say(name, f"unforeseen: {error}. VAE_EDGE_DEBUG=1 shows where")
        return UNFORESEEN
    _say(name, f"{module} is not installed; this command needs it: pip install 'vae-edge[cpu,{extra}]'")
    return ENVIRONMENT


@_end.register
def _(error: MemoryError, name: str) -> int:
    _debug()
    reason = f" ({error})" if str(error) else ""
    _say(name, f"not enough memory{reason}; ask for less at a time")
    return ENVIRONMENT


@_end.register
def _(error: RuntimeError, name: str) -> int:
    if any(words in str(error) for words in _OUT_OF_MEMORY):
        return _end(MemoryError(one_line(error)), name)
    unforeseen: int = _end.dispatch(BaseException)(error, name)
    return unforeseen


@_end.register
def _(error: OSError, name: str) -> int:
    _debug()
    if isinstance(error, BrokenPipeError):
        return _CLOSED_PIPE  # whoever read our output has gone
    _say(name, f"{error.filename or 'input or output'}: {error.strerror or error}")
    return BAD_INPUT if error.errno in _BAD_NAMES else ENVIRONMENT


def _give_up_streams_that_fail() -> None:
    """Leave nothing in its buffer that Python would fail to write at exit, with words and a code of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _stand_in_for_closed_streams() -> None:
    """Give the process streams that lead nowhere where it was started without (`>&-`): Python has None there."""
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:
            setattr(sys, stream, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", closefd=False))


def on_one_line(text: str) -> str:
    """Return text as one line that a terminal shows as it is: a file's name in it may hold anything.

    White space becomes single spaces; what does not show, or would command the terminal, is escaped; of a word without
    end only the beginning is told.
    """
    return shortened(printable(" ".join(text.split())))


def _say(name: str, message: str) -> None:
    with contextlib.suppress(OSError):  # a full disk behind stderr: the exit code still tells
        sys.stderr.write(f"{name}: error: {on_one_line(message)}\n")
        sys.stderr.flush()


def _debug() -> None:
    if os.environ.get("VAE_EDGE_DEBUG") == "1":
        traceback.print_exc()


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated(TERMINATED)
