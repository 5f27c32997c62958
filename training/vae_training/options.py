"""Option types of `vae-train` alone."""

from __future__ import annotations

from vae_runtime.cli.options import MOST_DIGITS, Several, is_size


class Widths(Several):
    """Numbers with commas between them: `16,32,64`, as (16, 32, 64)."""

    name = "widths"
    metavar = "N,N[,N...]"
    expected = f"numbers above 0 of at most {MOST_DIGITS} digits, as in 32,64"

    def parse(self, typed: str) -> tuple[int, ...] | None:
        """Return the numbers."""
        parts = typed.split(",")
        return tuple(map(int, parts)) if all(map(is_size, parts)) else None
