"""Kinds of options that the commands share."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    _TupleParamType = click.ParamType[tuple[Any, ...]]
else:
    _TupleParamType = click.ParamType  # not generic before click 8.2


_NUMBER = re.compile(r"[+-]?([0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9})", re.ASCII)
_STRONGEST = 1e6

MOST_DIGITS = 9
"""Of a number that is typed; Python itself turns no more than 4,300 into one."""


_Command = TypeVar("_Command", bound=Callable[..., Any])


def whole_number(
    *declarations: str,
    least: int,
    most: int,
    default: int,
    help: str,  # noqa: A002 - click's name
) -> Callable[[_Command], _Command]:
    """Return an option that is a whole number within its ends, and whose default help shows."""
    kind = click.IntRange(least, most)
    return click.option(*declarations, type=kind, default=default, show_default=True, help=help)


class Name(click.types.StringParamType):
    """What something is called; never "", which a shell makes of a variable that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse the empty name: the default in its place would be something else than what was meant."""
        if value == "":
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


class File(click.Path):
    """The path of a file or folder; never "", which as a path would be the folder that one stands in."""

    def __init__(self) -> None:
        # Whether it can be read is told by who reads it, and is no matter of how the command is used.
        super().__init__(path_type=Path, readable=False)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Refuse the empty name."""
        if value == "":
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


class Number(click.FloatRange):
    """A number within its ends, which NaN is never: nothing is below or above that."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse what was typed."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{number} is not in the range {self._describe_range()}.", param, ctx)
        return number


class Several(_TupleParamType):
    """Several values that are typed as one word. A kind of them says how it is read, shown in help, and asked for."""

    metavar: str
    expected: str

    def parse(self, typed: str) -> tuple[Any, ...] | None:
        """Return the values; None where nothing of this kind was typed."""
        raise NotImplementedError  # each kind has its own

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Parse what was typed."""
        if isinstance(value, tuple):
            return value
        values = self.parse(str(value))
        if values is None:
            raise click.BadParameter(f"{str(value)[:50]!r}: expected {self.expected}", ctx, param)
        return values

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002 - click's
        """Return how help shows it."""
        return self.metavar


class Size(Several):
    """One number, or two with an x between them: `24` or `24x32`, as (24, 24) or (24, 32)."""

    name = "size"
    metavar = "N[xN]"
    expected = f"a number above 0 of at most {MOST_DIGITS} digits, or two as in 24x32"

    def parse(self, typed: str) -> tuple[int, int] | None:
        """Return both numbers."""
        parts = typed.lower().split("x")
        if len(parts) in (1, 2) and all(map(is_size, parts)):
            return int(parts[0]), int(parts[-1])
        return None


def is_size(part: str) -> bool:
    """Tell whether it is a whole number above 0, of not too many digits."""
    return part.isascii() and part.isdigit() and len(part) <= MOST_DIGITS and int(part) > 0


class Strengths(Several):
    """One number, or two with dots between them: `1.5` or `-2..2`, as (1.5,) or (-2.0, 2.0)."""

    name = "strengths"
    metavar = "X[..Y]"
    expected = f"a number from {-_STRONGEST:g} to {_STRONGEST:g}, or two as in -2..2"

    def parse(self, typed: str) -> tuple[float, ...] | None:
        """Return the numbers."""
        parts = typed.split("..")
        if len(parts) in (1, 2) and all(map(_NUMBER.fullmatch, parts)):
            strengths = tuple(map(float, parts))
            if max(map(abs, strengths)) <= _STRONGEST:
                return strengths
        return None


class Box(Several):
    """Four whole numbers with commas between them, the last two above 0: x, y, width, height."""

    name = "box"
    metavar = "X,Y,WIDTH,HEIGHT"
    expected = "X,Y,WIDTH,HEIGHT as in 4,6,16,8, width and height above 0"

    def parse(self, typed: str) -> tuple[int, int, int, int] | None:
        """Return the numbers."""
        parts = typed.split(",")
        if len(parts) == 4 and all(part == "0" or is_size(part) for part in parts):
            x, y, width, height = map(int, parts)
            if width and height:
                return x, y, width, height
        return None
