"""What can go wrong, as exceptions that say what was expected, what came and what to do.

Every error of the three packages derives from `VaeError`. Its `exit_code` is what the command line
tools leave with: 3 for bad input, 4 for the environment, 5 for numbers, 1 for anything else.
"""

from __future__ import annotations

import re

_LONGEST_MESSAGE = 1000  # characters of what another library says; it may repeat a name out of a file
_LONGEST_SHOWN = 100  # characters of a value in a message
_ENDLESS = re.compile(r"""[^\s/\\'",:;()]{256,}""")
_LONGEST_IN_ALL = 6000  # characters; a path has at most 4096


class VaeError(Exception):
    """The base of every error that vae-edge raises on purpose."""

    exit_code = 1


class InputError(VaeError, ValueError):
    """An array, a picture, a file or a number that is not what it should be."""

    exit_code = 3


class NumbersError(InputError):
    """An array of the right shape with numbers in it that cannot be: NaN, infinity, or pixels out of range."""


class OutputExistsError(InputError):
    """The output is there already and was not to be overwritten."""


class BundleError(VaeError, ValueError):
    """Something that is not a bundle, or a bundle whose parts do not fit together."""

    exit_code = 3


class UnsafeBundleError(BundleError):
    """A bundle with something in it that none may hold, or not the one expected; onnxruntime never saw it."""


class EnvironmentProblem(VaeError, RuntimeError):  # noqa: N818 - it names a state of the machine
    """Something about this machine: a provider, onnxruntime itself, the disk."""

    exit_code = 4


class ProviderError(EnvironmentProblem):
    """The execution provider that was asked for cannot be used here."""


class ResourceLimitError(EnvironmentProblem):
    """More memory is wanted than there is; what was open stays usable."""


class ClosedError(VaeError, RuntimeError):
    """The model was closed before this call."""


class NonFiniteError(VaeError, ArithmeticError):
    """A model produced NaN or infinity."""

    exit_code = 5


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, or its type's name where it has none."""
    message = " ".join(str(error).split())
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]}..."
    return printable(message) or type(error).__name__


def shown(value: object) -> str:
    """Return a value as Python writes it, on one line and cut short: what somebody gave may be anything."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - of whole numbers of too many digits, and of whatever a class has there
        return f"<{type(value).__name__}>"
    line = " ".join(text.splitlines())
    return line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]}..."


def shortened(text: str) -> str:
    """Return a message without most of a word in it that is longer than the name of any file could be."""
    text = _ENDLESS.sub(lambda found: f"{found[0][:_LONGEST_SHOWN]}...", text)
    return (
        text
        if len(text) <= _LONGEST_IN_ALL
        else f"{text[: _LONGEST_IN_ALL // 2]}...{text[-_LONGEST_IN_ALL // 2 :]}"
    )


def printable(text: str) -> str:
    """Return text that a terminal shows and does not obey: every other character as Python escapes it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
