"""Option types that the commands share."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    _SizeParamType = click.ParamType[tuple[int, int]]
    _StrengthsParamType = click.ParamType[tuple[float, ...]]
    _BoxParamType = click.ParamType[tuple[int, int, int, int]]
else:
    _SizeParamType = _StrengthsParamType = _BoxParamType = click.ParamType  # not generic before click 8.2


_NUMBER = re.compile(r"[+-]?([0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9})", re.ASCII)
_STRONGEST = 1e6

MOST_DIGITS = 9
"""Of a number that is typed; Python itself turns no more than 4,300 into one."""


class Number(click.FloatRange):
    """A number within its ends, which NaN is never: nothing is below or above that."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse what was typed."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{number} is not in the range {self._describe_range()}.", param, ctx)
        return number


class Size(_SizeParamType):
    """One number, or two with a separator between them: `24` or `24x32`, as (24, 24) or (24, 32)."""

    name = "size"

    def __init__(self, separator: str = "x") -> None:
        self.separator = separator

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Parse what was typed."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split(self.separator)
        if len(parts) in (1, 2) and all(map(is_size, parts)):
            return int(parts[0]), int(parts[-1])
        raise click.BadParameter(
            f"{str(value)[:50]!r}: expected a number above 0 of at most {MOST_DIGITS} digits, "
            f"or two as in 24{self.separator}32",
            ctx,
            param,
        )

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002 - click's
        """Return how help shows it."""
        return f"N[{self.separator}N]"


def is_size(part: str) -> bool:
    """Tell whether it is a whole number above 0, of not too many digits."""
    return part.isascii() and part.isdigit() and len(part) <= MOST_DIGITS and int(part) > 0


class Strengths(_StrengthsParamType):
    """One number, or two with dots between them: `1.5` or `-2..2`, as (1.5,) or (-2.0, 2.0)."""

    name = "strengths"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Parse what was typed."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split("..")
        if len(parts) in (1, 2) and all(map(_NUMBER.fullmatch, parts)):
            strengths = tuple(map(float, parts))
            if max(map(abs, strengths)) <= _STRONGEST:
                return strengths
        raise click.BadParameter(
            f"{str(value)[:50]!r}: expected a number from {-_STRONGEST:g} to {_STRONGEST:g}, or two as in -2..2",
            ctx,
            param,
        )

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002 - click's
        """Return how help shows it."""
        return "X[..Y]"


class Box(_BoxParamType):
    """Four whole numbers with commas between them, the last two above 0: x, y, width, height."""

    name = "box"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int, int, int]:
        """Parse what was typed."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if len(parts) == 4 and all(part == "0" or is_size(part) for part in parts):
            x, y, width, height = map(int, parts)
            if width and height:
                return x, y, width, height
        raise click.BadParameter(
            f"{str(value)[:50]!r}: expected X,Y,WIDTH,HEIGHT as in 4,6,16,8, width and height above 0",
            ctx,
            param,
        )

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002 - click's
        """Return how help shows it."""
        return "X,Y,WIDTH,HEIGHT"
