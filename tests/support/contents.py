"""What lies in a folder, to compare before with after."""

from __future__ import annotations

from pathlib import Path


def files(folder: Path = Path()) -> dict[str, bytes]:
    """The content of every file below a folder, links left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
