"""The control groups that this process is in, by which Linux bounds what containers and services may take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")  # tests put a folder of their own here


def control_groups(controller: str) -> Iterator[Path]:
    """Give the folders of the groups of a controller that this process is in, and of all above them.

    A container sees its own group as the topmost one; a service of systemd, say, lies some groups below. The lowest
    bound on the way holds.

    Args:
        controller: `cpu` or `memory`.
    """
    for line in (read(ROOT / "proc/self/cgroup") or f"0::/\n0:{controller}:/").splitlines():
        # The hierarchy's number, its controllers (none for version 2), the group's path.
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        top = ROOT / "sys/fs/cgroup" / (controller if controllers else "")
        below = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(below) + 1):
            yield top.joinpath(*below[:depth])


def read(path: Path) -> str | None:
    """Return what a file of the system says; None where there is none."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
