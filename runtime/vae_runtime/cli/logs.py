"""What is logged, as lines on stderr. Used by all three commands."""

from __future__ import annotations

import logging

from vae_runtime.cli.exits import on_one_line


def show_logs(program: str, *, verbose: bool = False) -> None:
    """Let the rest of the process say what it logs: warnings, and if `verbose`, more.

    Each is one line that commands no terminal: the names of files are in them, and names out of files.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine(f"{program}: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.INFO if verbose else logging.WARNING)
    # What is wrong with a picture it raises besides, and that is told with the picture's name.
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return on_one_line(super().format(record))
