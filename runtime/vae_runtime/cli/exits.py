"""How a command ends: errors as one line on stderr, and the exit codes that the README lists.

Used by all three commands.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click

from vae_runtime.errors import VaeError

UNFORESEEN, USAGE, ENVIRONMENT, INTERRUPTED, TERMINATED = 1, 2, 4, 130, 143
_CLOSED_PIPE = 141  # 128 + SIGPIPE, as the shell has it

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
}


def run_command(command: click.Command, name: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a click command as a process's whole work, and leave with the exit code that its end deserves.

    Unforeseen errors become one line too; with VAE_EDGE_DEBUG=1 in the environment their traceback shows.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        # Not command.main(): it prints an empty line on interruption, and leaves by itself on a closed pipe.
        with command.make_context(name, list(sys.argv[1:] if arguments is None else arguments)) as context:
            code = command.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.UsageError as error:
        _explain_usage(name, error)
        code = USAGE
    except click.ClickException as error:
        _say(name, error.format_message())
        code = error.exit_code
    except VaeError as error:
        _debug()
        _say(name, str(error))
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _say(name, "interrupted")
        code = INTERRUPTED
    except ModuleNotFoundError as error:
        _debug()
        code = _missing_module(name, error)
    except MemoryError as error:
        _debug()
        _say(name, f"not enough memory ({error}); ask for less at a time")
        code = ENVIRONMENT
    except OSError as error:
        _debug()
        code = _failed_input_or_output(name, error)
    except Exception as error:  # noqa: BLE001 - the last resort of a process
        _debug()
        _say(name, f"unforeseen {type(error).__name__}: {error}. VAE_EDGE_DEBUG=1 shows where")
        code = UNFORESEEN
    _give_up_stdout_that_fails()
    sys.exit(code if isinstance(code, int) else 0)


def _give_up_stdout_that_fails() -> None:
    """Leave nothing in its buffer that Python would fail to write at exit, with words and a code of its own."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(name: str, message: str) -> None:
    sys.stderr.write(f"{name}: error: {' '.join(message.split())}\n")


def _debug() -> None:
    if os.environ.get("VAE_EDGE_DEBUG") == "1":
        traceback.print_exc()


def _explain_usage(name: str, error: click.UsageError) -> None:
    # A group names its subcommand; the bare exception would print its usage over several lines.
    where = error.ctx.command_path if error.ctx else name
    if type(error).__name__ == "NoArgsIsHelpError":  # click has it from 8.2 on
        error.show()
    else:
        _say(name, f"{error.format_message()} (see {where} --help)")


def _failed_input_or_output(name: str, error: OSError) -> int:
    if isinstance(error, BrokenPipeError):
        return _CLOSED_PIPE  # whoever read our output has gone
    _say(name, f"{error.filename or 'input or output'}: {error.strerror or error}")
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
    return ENVIRONMENT if full else UNFORESEEN


def _missing_module(name: str, error: ModuleNotFoundError) -> int:
    module = (error.name or "").split(".")[0]
    extra = _EXTRAS.get(module)
    if extra is None:
        _say(name, f"unforeseen: {error}. VAE_EDGE_DEBUG=1 shows where")
        return UNFORESEEN
    _say(name, f"{module} is not installed; this command needs it: pip install 'vae-edge[cpu,{extra}]'")
    return ENVIRONMENT


def _terminate(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
    # As an exception, so that temporary files are taken away on the way out.
    sys.exit(TERMINATED)
