"""Option types of `vae-train` alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vae_runtime.cli.options import MOST_DIGITS, is_size

if TYPE_CHECKING:
    _WidthsParamType = click.ParamType[tuple[int, ...]]
else:
    _WidthsParamType = click.ParamType  # not generic before click 8.2


class Widths(_WidthsParamType):
    """Numbers with commas between them: `16,32,64`, as (16, 32, 64)."""

    name = "widths"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Parse what was typed."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if all(map(is_size, parts)):
            return tuple(map(int, parts))
        raise click.BadParameter(
            f"{str(value)[:50]!r}: expected numbers above 0 of at most {MOST_DIGITS} digits, as in 32,64",
            ctx,
            param,
        )

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002 - click's
        """Return how help shows it."""
        return "N,N[,N...]"
