"""Whatever call of the file system fails: our error, the old output, nothing stray, and the next try works."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
from pathlib import Path

import pytest
from failing import CUT_SHORT, FAULTS, FILE_DESCRIPTORS, HARMLESS, SAVING, Fault, FileSystem
from writers import NAIVE, WRITERS, Writer, digest, strays

from vae_runtime.atomic import disk_errors_explained
from vae_runtime.errors import VaeError
from vae_runtime.scratch import sweep

MOVED = [name for name in WRITERS if "moved" in name]

needs_places = pytest.mark.skipif(
    not FILE_DESCRIPTORS.exists(), reason="this system does not tell where an open file lies"
)


def whole(tmp_path: Path, writer: Writer) -> list[str]:
    """Return the sums of both versions, whole."""
    sums = []
    for version in (0, 1):
        folder = tmp_path / f"clean {version}"
        folder.mkdir()
        writer.write(folder, version)
        sums.append(digest(folder / writer.target))
    return sums


# All kinds of faults for one writer of a file and two of a folder; a full and a failing disk for every one.
KINDS = dict.fromkeys(("metrics", "checkpoint", "checkpoint, moved"), FAULTS)
FULL, FAILING = FAULTS[0], FAULTS[3]
# The calls of the slow one are shared out, so that the processors may be, too.
PARTS = {"bundle": 4}
MOST_CALLS = 10_000
CASES = [
    pytest.param(name, fault, range(part, MOST_CALLS, PARTS.get(name, 1)), id=f"{name}-{fault.name}-{part}")
    for name in WRITERS
    for fault in KINDS.get(name, (FULL, FAILING))
    for part in range(1, PARTS.get(name, 1) + 1)
]


@needs_places
@pytest.mark.parametrize(("name", "fault", "numbers"), CASES)
def test_a_call_that_fails_loses_nothing(
    tmp_path: Path, file_system: FileSystem, name: str, fault: Fault, numbers: range
) -> None:
    refused = fail_each_call(tmp_path, file_system, name, WRITERS[name], fault, numbers)
    assert refused > 2


@needs_places
@pytest.mark.parametrize("name", WRITERS)
def test_a_write_that_is_cut_short_is_gone_on_with(
    tmp_path: Path, file_system: FileSystem, name: str
) -> None:
    numbers = range(1, MOST_CALLS)
    assert fail_each_call(tmp_path, file_system, name, WRITERS[name], CUT_SHORT, numbers) == 0


@needs_places
@pytest.mark.parametrize("name", NAIVE)
def test_a_writer_that_loses_something_would_be_found(
    tmp_path: Path, file_system: FileSystem, name: str
) -> None:
    def write(folder: Path, version: int) -> None:
        with disk_errors_explained(folder):
            NAIVE[name].write(folder, version)

    writer = Writer(NAIVE[name].target, write)
    with pytest.raises(AssertionError):
        fail_each_call(tmp_path, file_system, name, writer, FULL, range(1, MOST_CALLS))


@needs_places
@pytest.mark.parametrize("name", WRITERS)
def test_all_bytes_go_through_calls_that_can_fail(tmp_path: Path, file_system: FileSystem, name: str) -> None:
    writer, folder = WRITERS[name], tmp_path / "work"
    folder.mkdir()
    with file_system.counting(folder):
        writer.write(folder, 0)
    target = folder / writer.target
    for path in [target] if target.is_file() else target.iterdir():
        assert file_system.written[path.name] >= path.stat().st_size > 0
    assert {"open to write", "write", "close", "os.fsync", "os.rename", "flock"} <= file_system.calls.keys()


def fail_each_call(
    tmp_path: Path, file_system: FileSystem, name: str, writer: Writer, fault: Fault, numbers: range
) -> int:
    """Let one call after another fail while version 1 replaces version 0; return how often that was refused."""
    old, new = whole(tmp_path, writer)
    folder = tmp_path / "work"
    folder.mkdir()
    refused = 0
    for number in numbers:
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
        if found == "missing" and name in MOVED:
            sweep((folder / writer.target).parent)  # as the next one does that writes there
            found = digest(folder / writer.target)
        if not HARMLESS & set(failed):
            assert strays(folder, writer) == [], where
        assert found == (new if error is None or "is written, but" in str(error) else old), where
        if SAVING & set(failed):
            assert error is not None, where
        if error is not None:
            refused += 1
            assert error.exit_code == 4 or (name == "bundle" and error.exit_code == 3), where
            assert "\n" not in str(error), where
    assert not file_system.failed, "there are more calls than were tried"
    assert digest(folder / writer.target) == new
    return refused


@pytest.mark.parametrize("name", WRITERS)
def test_where_locks_are_forbidden_it_is_written_all_the_same(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def forbid(*_: object) -> None:
        nonlocal asked
        asked += 1
        assert asked < 100_000, "it is tried for ever"
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(fcntl, "flock", forbid)
    writer = WRITERS[name]
    old, new = whole(tmp_path, writer)
    for version, expected in ((0, old), (1, new)):
        writer.write(tmp_path, version)
        assert digest(tmp_path / writer.target) == expected


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
