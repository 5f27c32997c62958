"""A row of the table: a load, and its figures against their limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured figure."""

    what: str
    value: str
    limit: str
    fine: bool
    of_time: bool = False
    """It depends on how busy the machine is."""


@dataclass(frozen=True)
class Row:
    """One load."""

    name: str
    title: str
    run: Callable[[], list[Figure]]
    """At its full length, in a process of its own."""
    quick: Callable[[], list[Figure]] | None = None
    """The same for a second or so; None where another test does as much."""


def at_most(what: str, value: float, limit: float, unit: str = "") -> Figure:
    of_time = unit in ("s", "ms")
    return Figure(what, _written(value, unit), f"at most {_written(limit, unit)}", value <= limit, of_time)


def at_least(what: str, value: float, limit: float, unit: str = "", *, of_time: bool = False) -> Figure:
    return Figure(what, _written(value, unit), f"at least {_written(limit, unit)}", value >= limit, of_time)


def exactly(what: str, value: object, expected: object) -> Figure:
    return Figure(what, _text(value), _text(expected), value == expected)


def told(what: str, value: float, unit: str = "") -> Figure:
    """A figure without a limit, for the reader."""
    return Figure(what, _written(value, unit), "", fine=True)


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _written(value: float, unit: str) -> str:
    number = (
        f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    )
    return f"{number} {unit}".strip()
