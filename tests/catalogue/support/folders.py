"""What lies in a folder, to compare before with after."""

from __future__ import annotations

from pathlib import Path

_SMALL = 4 << 20  # bytes; of larger files the time of their last change is enough


def everything(folder: Path) -> dict[str, object]:
    """All that lies below a folder, whatever it is: content of files, targets of links, kinds of the rest."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path)] = path.readlink()
        else:
            status = path.stat()
            small = path.is_file() and status.st_size < _SMALL
            found[str(path)] = (status.st_mode, path.read_bytes() if small else status.st_mtime_ns)
    return found
