"""How far a command is, on the terminal of whoever waits for it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

import click

_PATIENCE = 1.0  # seconds; what takes less is over before it is read


class _Sized(Protocol):
    def __len__(self) -> int: ...


_Batch = TypeVar("_Batch", bound=_Sized)


def with_progress(batches: Iterable[_Batch], total: int, *, quiet: bool) -> Iterator[_Batch]:
    """Give batches on, and show how many of `total` there have been.

    On stderr, where that is a terminal, once a second has passed, and unless it is to be quiet.
    """
    if quiet or not sys.stderr.isatty():
        yield from batches
        return
    begun, done = time.monotonic(), 0
    bar: Any = None
    try:
        for batch in batches:
            yield batch
            done += len(batch)
            if bar is not None:
                bar.update(len(batch))
            elif time.monotonic() - begun > _PATIENCE and done < total:
                bar = click.progressbar(length=total, show_pos=True, file=sys.stderr)
                bar.update(done)
    finally:
        if bar is not None:
            bar.render_finish()
