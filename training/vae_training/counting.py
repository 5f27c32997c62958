"""A line on the terminal of whoever waits that counts what is done."""

from __future__ import annotations

import sys

import click


class CountingLine:
    """Counts on stderr, where that is a terminal and unless it is to be quiet. For a `with` block, which ends the line.

    Whatever is said next, an error perhaps, stands on a line of its own.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._is_shown = not quiet and sys.stderr.isatty()
        self._is_begun = False

    def __enter__(self) -> CountingLine:
        return self

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how many of `total` there have been, in the place of what is shown."""
        if self._is_shown:
            self._is_begun = True
            click.echo(f"\r\x1b[K{what}: {done:,} of {total:,}", err=True, nl=False)
            if done == total:
                self._end()

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._is_begun:
            self._is_begun = False
            click.echo(err=True)
