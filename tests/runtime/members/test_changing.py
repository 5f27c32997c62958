"""Files of a bundle that change between one call of the system and the next, and disks that fail in between."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from vae_runtime import BundleError, members
from vae_runtime.errors import EnvironmentProblem, UnsafeBundleError
from vae_runtime.members import Members

MOST = 1 << 20


def at_the_next(call: str, monkeypatch: pytest.MonkeyPatch, do: Any, *, before: bool) -> None:
    """Do something in the very moment when `os` is called so."""
    real = getattr(os, call)

    def and_do(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(os, call, real)
        if before:
            do()
        answer = real(*arguments, **options)
        if not before:
            do()
        return answer

    monkeypatch.setattr(os, call, and_do)


def test_a_file_that_is_replaced_after_it_was_looked_at_is_the_one_that_was_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap() -> None:
        (folder / "plain").rename(folder / "old")
        (folder / "plain").symlink_to("../outside")

    with Members(folder) as opened:
        at_the_next("fstat", monkeypatch, swap, before=False)
        assert opened.read("plain", MOST) == b"what is in it"


def test_a_file_that_becomes_a_link_just_before_it_is_opened_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap() -> None:
        (folder / "plain").unlink()
        (folder / "plain").symlink_to("../outside")

    with Members(folder) as opened:
        at_the_next("open", monkeypatch, swap, before=True)
        with pytest.raises(UnsafeBundleError, match="is a symbolic link"):
            opened.read("plain", MOST)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links are followed on opening there")
def test_a_file_that_becomes_a_link_to_itself_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by the system alone: what lies behind the link is the very file that was looked at."""

    def swap() -> None:
        (tmp_path / "plain").rename(tmp_path / "moved")
        (tmp_path / "plain").symlink_to("moved")

    (tmp_path / "plain").touch()
    with Members(tmp_path) as opened:
        at_the_next("open", monkeypatch, swap, before=True)
        with pytest.raises(UnsafeBundleError, match="/plain: is a symbolic link"):
            opened.read("plain", MOST)


@pytest.mark.parametrize("number", [errno.ELOOP, errno.EMLINK])
def test_a_link_is_told_from_what_each_system_says_of_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """FreeBSD says that there are too many links. Of a file that is none, that is told as it was said."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    with Members(folder) as opened:
        at_the_next("open", monkeypatch, fail, before=True)
        with pytest.raises(BundleError, match=rf"/plain: cannot be read \({os.strerror(number)}\)$"):
            opened.read("plain", MOST)

        def swap_and_fail() -> None:
            (folder / "plain").unlink()
            (folder / "plain").symlink_to("../outside")
            fail()

        at_the_next("open", monkeypatch, swap_and_fail, before=True)
        with pytest.raises(UnsafeBundleError, match="/plain: is a symbolic link"):
            opened.read("plain", MOST)


def test_another_failure_is_told_as_it_was_said_though_a_link_lies_there_by_then(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swap_and_fail() -> None:
        (folder / "plain").unlink()
        (folder / "plain").symlink_to("../outside")
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Members(folder) as opened:
        at_the_next("open", monkeypatch, swap_and_fail, before=True)
        with pytest.raises(
            EnvironmentProblem, match=rf"/plain: cannot be read \({os.strerror(errno.EIO)}\)$"
        ):
            opened.read("plain", MOST)


@pytest.mark.parametrize("allow_links", [False, True])
def test_only_where_links_must_be_looked_for_may_no_other_file_take_the_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch, allow_links: bool
) -> None:
    (folder / "other").write_bytes(b"another")
    with Members(folder, allow_links=allow_links) as opened:
        at_the_next("open", monkeypatch, lambda: (folder / "other").replace(folder / "plain"), before=True)
        if members._NO_FOLLOW or allow_links:
            assert opened.read("plain", MOST) == b"another"
        else:
            with pytest.raises(UnsafeBundleError, match=r"/plain: another file took its place while .*again"):
                opened.read("plain", MOST)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo terminals")
def test_a_file_that_becomes_a_terminal_just_before_it_is_opened_does_not_get_hold_of_the_process(
    tmp_path: Path, run_python: Any
) -> None:
    """A process that leads a session, as services do, would get signals from whoever holds the other end."""
    (tmp_path / "plain").touch()
    finished = run_python(
        """
import os, sys
from pathlib import Path
from vae_runtime.errors import UnsafeBundleError
from vae_runtime.members import Members
def has_terminal():
    try:
        os.close(real("/dev/tty", os.O_RDWR))
        return True
    except OSError:
        return False
os.setsid()
master, slave = os.openpty()
terminal, file, real = os.ttyname(slave), Path(sys.argv[1], "plain"), os.open
def swap(*arguments, **options):
    file.unlink()
    file.symlink_to(terminal)
    os.open = real
    return real(*arguments, **options)
with Members(file.parent, allow_links=True) as opened:
    os.open = swap
    try:
        opened.read("plain", 100)
    except UnsafeBundleError as error:
        print(error, has_terminal())
real(terminal, os.O_RDWR)
print("opened carelessly", has_terminal())
""",
        tmp_path,
    )
    refusal = f"{tmp_path}/plain: is a device, not a regular file False\n"
    assert finished.stdout == f"{refusal}opened carelessly True\n", finished.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("allow_links", [False, True])
def test_a_file_that_becomes_a_pipe_just_before_it_is_opened_is_refused_and_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, allow_links: bool
) -> None:
    def swap() -> None:
        (folder / "plain").unlink()
        os.mkfifo(folder / "plain")

    with Members(folder, allow_links=allow_links) as opened:
        at_the_next("open", monkeypatch, swap, before=True)
        with pytest.raises(UnsafeBundleError, match="/plain: is a pipe, not a regular file"):
            opened.read("plain", MOST)


def test_what_is_no_regular_file_is_not_even_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening some devices does something: rewinds a tape, or starts the clock of a watchdog."""
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("/dev/zero")
    opened_files: list[str] = []
    for name, options in (("pipe", {}), ("link", {}), ("link", {"allow_links": True})):
        with Members(folder, **options) as opened, monkeypatch.context() as patched:
            at_the_next("open", patched, lambda name=name: opened_files.append(name), before=True)
            with pytest.raises(UnsafeBundleError):
                opened.read(name, MOST)
    assert opened_files == []


def test_a_file_that_shrinks_while_it_is_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Members(folder) as opened:
        at_the_next("fstat", monkeypatch, lambda: os.truncate(folder / "plain", 4), before=False)
        with pytest.raises(
            BundleError, match=r"plain: was cut short while it was read: 4 of 13 bytes"
        ) as refused:
            opened.read("plain", MOST)
    assert refused.type is BundleError


def test_a_file_that_is_taken_away_once_it_is_open_is_read_to_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Members(folder) as opened:
        at_the_next("open", monkeypatch, (folder / "plain").unlink, before=False)
        assert opened.read("plain", MOST) == b"what is in it"


def test_a_file_that_grows_while_it_is_read_is_read_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Members(folder) as opened:
        at_the_next("fstat", monkeypatch, lambda: os.truncate(folder / "plain", 1 << 40), before=False)
        assert opened.read("plain", MOST) == b"what is in it"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENFILE, errno.ENOMEM])
def test_a_disk_that_fails_is_no_fault_of_the_bundle(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    with Members(folder) as opened:
        for call in ("open", "fstat"):
            at_the_next(call, monkeypatch, fail, before=True)
            with pytest.raises(EnvironmentProblem, match=rf"plain: cannot be read \({os.strerror(number)}\)"):
                opened.read("plain", MOST)
        with monkeypatch.context() as patched:
            patched.setattr(members, "open", lambda *_, **__: fail(), raising=False)  # the file, to be read
            with pytest.raises(EnvironmentProblem, match=rf"plain: cannot be read \({os.strerror(number)}\)"):
                opened.read("plain", MOST)
        at_the_next("scandir", monkeypatch, fail, before=True)
        with pytest.raises(EnvironmentProblem, match=rf"folder: cannot be read \({os.strerror(number)}\)"):
            opened.names()
        assert opened.read("plain", MOST) == b"what is in it"
