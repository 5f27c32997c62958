"""Whatever call of the file system fails: our error, the old output, nothing stray, and the next try works."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest
from failing import FAULTS, Fault, FileSystem
from writers import WRITERS, Writer, digest, strays

from vae_runtime.errors import VaeError

# The bundle's writer computes between its calls, so that of them only some are tried.
STEPS = {"bundle": 5}
MOVED = [name for name in WRITERS if "moved" in name]


def whole(tmp_path: Path, writer: Writer) -> list[str]:
    """Return the sums of both versions, whole."""
    sums = []
    for version in (0, 1):
        folder = tmp_path / f"clean {version}"
        folder.mkdir()
        writer.write(folder, version)
        sums.append(digest(folder / writer.target))
    return sums


# All kinds of faults for one writer of a file and two of a folder, fewer for those that open a model as well.
KINDS = dict.fromkeys(("metrics", "checkpoint", "checkpoint, moved"), FAULTS)
KINDS |= dict.fromkeys(("bundle", "sample folder"), (FAULTS[0], FAULTS[3]))
CASES = [(name, fault) for name in WRITERS for fault in KINDS.get(name, FAULTS[:1])]


@pytest.mark.parametrize(
    ("name", "fault"), CASES, ids=lambda part: part if isinstance(part, str) else part.name
)
def test_a_call_that_fails_loses_nothing(
    tmp_path: Path, file_system: FileSystem, name: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    writer = WRITERS[name]
    old, new = whole(tmp_path, writer)
    folder = tmp_path / "work"
    folder.mkdir()
    number, refused = 1, 0
    while True:
        if digest(folder / writer.target) != old or strays(folder, writer):
            writer.write(folder, 0)
        assert digest(folder / writer.target) == old
        assert strays(folder, writer) == [], number
        error = None
        with file_system.failing(fault, number, folder):
            try:
                writer.write(folder, 1)
            except VaeError as caught:  # and nothing else is let through
                error = caught
        failed = file_system.failed
        if not failed:
            break
        where = f"call {number}, {failed}"
        found = digest(folder / writer.target)
        if error is None or "is written, but" in str(error):
            assert found == new, where
        elif found != "missing" or name not in MOVED:
            assert found == old, where
        if error is not None:
            refused += 1
            assert error.exit_code == 4 or (name == "bundle" and error.exit_code == 3), where
            assert "\n" not in str(error), where
        if not set(failed) & {"os.remove", "os.rmdir", "open"} and found != "missing":
            assert strays(folder, writer) == [], where
        number += STEPS.get(name, 1)
    assert number > 5
    assert refused > 3
    assert digest(folder / writer.target) == new


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="this system has no limit on the size of files")
@pytest.mark.parametrize("name", [name for name in WRITERS if name not in MOVED])
def test_a_disk_that_fills_up_anywhere_in_a_file_loses_nothing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    writer = WRITERS[name]
    old, new = whole(tmp_path, writer)
    folder = tmp_path / "work"
    folder.mkdir()
    writer.write(folder, 0)
    output, clean = folder / writer.target, tmp_path / "clean 1" / writer.target
    largest = max(path.stat().st_size for path in (clean, *clean.rglob("*")) if path.is_file())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in sorted({0, 1, 100, largest // 3, largest // 2, largest - 1}):
        # Beyond the limit writing fails as it does on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            with pytest.raises(VaeError, match="the file would exceed") as refused:
                writer.write(folder, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert refused.value.exit_code == 4
        assert digest(output) == old, most
        assert strays(folder, writer) == [], most
    writer.write(folder, 1)
    assert digest(output) == new
