"""A copy of the project's files in a temporary folder: only there is a source ever changed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOT_COPIED = shutil.ignore_patterns(
    ".git",
    ".venv*",
    ".*_cache",
    ".hypothesis",
    ".benchmarks",
    "__pycache__",
    "*.egg-info",
    "build",
    "dist",
    "runs",
)


class Tree:
    """The copy."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._written = 0

    def write(self, path: str, source: str) -> None:
        """Replace a source.

        Each has a second of its own as its time: Python takes what it compiled before for a source of the same
        time and length.
        """
        file = self.root / path
        self._written += 1
        file.write_text(source, encoding="utf-8")
        os.utime(file, (self._written, self._written))


@contextmanager
def copy_of(root: Path) -> Iterator[Tree]:
    """Copy a folder, and take the copy away at the end."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder).resolve() / "tree"
        shutil.copytree(root, copy, ignore=_NOT_COPIED)
        yield Tree(copy)
