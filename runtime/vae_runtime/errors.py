"""What can go wrong, as exceptions that say what was expected, what came and what to do.

Every error of the three packages derives from `VaeError`. Its `exit_code` is what the command line
tools leave with: 3 for bad input, 4 for the environment, 5 for numbers, 1 for anything else.
"""

from __future__ import annotations


class VaeError(Exception):
    """The base of every error that vae-edge raises on purpose."""

    exit_code = 1


class InputError(VaeError, ValueError):
    """An array, a picture, a file or a number that is not what it should be."""

    exit_code = 3


class OutputExistsError(InputError):
    """The output is there already and was not to be overwritten."""


class BundleError(VaeError, ValueError):
    """Something that is not a bundle, or a bundle whose parts do not fit together."""

    exit_code = 3


class UnsafeBundleError(BundleError):
    """A graph with something in it that a bundle's graph may not hold; onnxruntime never saw it."""


class EnvironmentProblem(VaeError, RuntimeError):  # noqa: N818 - it names a state of the machine
    """Something about this machine: a provider, onnxruntime itself, the disk."""

    exit_code = 4


class ProviderError(EnvironmentProblem):
    """The execution provider that was asked for cannot be used here."""


class ClosedError(VaeError, RuntimeError):
    """The model was closed before this call."""


class NonFiniteError(VaeError, ArithmeticError):
    """A model produced NaN or infinity."""

    exit_code = 5


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, or its type's name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
