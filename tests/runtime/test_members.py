"""Files of a bundle are opened once, and only plain ones of its own folder are read."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vae_runtime import BundleError, members
from vae_runtime.errors import EnvironmentProblem, UnsafeBundleError
from vae_runtime.members import Members

MOST = 1 << 20


@pytest.fixture(params=["by descriptor", "by name"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the file `plain`; its files are opened as on POSIX, and as where links must be looked for."""
    if request.param == "by name":
        monkeypatch.setattr(members, "_NO_FOLLOW", 0)
        monkeypatch.setattr(members, "_FOLDERS_OPEN", False)
        monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
    path = tmp_path / "folder"
    path.mkdir()
    (path / "plain").write_bytes(b"what is in it")
    (tmp_path / "outside").write_bytes(b"a secret")
    return path


@pytest.fixture(autouse=True)
def no_descriptor_is_left_open() -> Iterator[None]:
    listing = Path("/proc/self/fd")
    before = len(list(listing.iterdir())) if listing.is_dir() else 0
    yield
    assert (len(list(listing.iterdir())) if listing.is_dir() else 0) == before


def read(folder: Path, name: str, most: int = MOST, **options: Any) -> bytes:
    with Members(folder, **options) as opened:
        return opened.read(name, most)


def test_a_plain_file_is_read_whole(folder: Path) -> None:
    assert read(folder, "plain") == b"what is in it"
    (folder / "empty").touch()
    assert read(folder, "empty") == b""
    (folder / "large").write_bytes(bytes(range(256)) * 4096)
    assert read(folder, "large") == bytes(range(256)) * 4096


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert read(tmp_path / "link", "plain") == b"what is in it"


def test_names_are_sorted(folder: Path) -> None:
    (folder / "a").touch()
    (folder / ".hidden").touch()
    with Members(folder) as opened:
        assert opened.names() == [".hidden", "a", "plain"]


@pytest.mark.parametrize("target", ["../outside", "plain", "nowhere", "{absolute}", "/dev/zero"])
def test_a_symbolic_link_is_refused_wherever_it_leads(folder: Path, tmp_path: Path, target: str) -> None:
    (folder / "link").symlink_to(target.format(absolute=tmp_path / "outside"))
    with pytest.raises(UnsafeBundleError, match=r"folder/link: is a symbolic link\. Copy .*--allow-links"):
        read(folder, "link")


def test_a_file_with_another_hard_link_is_refused(folder: Path, tmp_path: Path) -> None:
    os.link(tmp_path / "outside", folder / "linked")
    with pytest.raises(UnsafeBundleError, match=r"folder/linked: has 2 hard links; expected 1: "):
        read(folder, "linked")
    (tmp_path / "outside").unlink()
    assert read(folder, "linked") == b"a secret"


def test_links_are_let_through_where_that_is_wished(folder: Path, tmp_path: Path) -> None:
    (folder / "link").symlink_to("../outside")
    os.link(tmp_path / "outside", folder / "linked")
    assert read(folder, "link", allow_links=True) == b"a secret"
    assert read(folder, "linked", allow_links=True) == b"a secret"


@pytest.mark.parametrize("allow_links", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "folder", "socket"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, allow_links: bool
) -> None:
    monkeypatch.chdir(folder)  # the name of a socket must be short
    if kind == "pipe":
        os.mkfifo("it")
    elif kind == "folder":
        Path("it").mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("it")
    with pytest.raises(UnsafeBundleError, match=f"folder/it: is a {kind}, not a regular file"):
        read(folder, "it", allow_links=allow_links)


def test_a_device_behind_a_link_is_refused(folder: Path) -> None:
    (folder / "link").symlink_to("/dev/zero")
    with pytest.raises(UnsafeBundleError, match="is a device, not a regular file"):
        read(folder, "link", allow_links=True)


def test_a_disk_in_the_folder_is_refused(folder: Path) -> None:
    try:
        os.mknod(folder / "disk", 0o600 | stat.S_IFBLK, os.makedev(7, 200))
    except (AttributeError, PermissionError):
        pytest.skip("devices cannot be made here")
    with pytest.raises(UnsafeBundleError, match="/disk: is a device, not a regular file"):
        read(folder, "disk")


def test_a_kind_of_file_that_is_not_known_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door = os.stat_result((0o150600, *[0] * 9))  # of Solaris
    monkeypatch.setattr(Members, "_stat", lambda *_: door)
    with pytest.raises(UnsafeBundleError, match="/plain: is something else, not a regular file"):
        read(folder, "plain")


def test_a_link_that_leads_nowhere_is_told_so_where_links_are_let_through(folder: Path) -> None:
    (folder / "link").symlink_to("nowhere")
    with pytest.raises(BundleError, match=r"/link: cannot be read \(No such file or directory\)"):
        read(folder, "link", allow_links=True)


@pytest.mark.parametrize("target", ["circle", "other"])
def test_links_in_a_circle_are_told_so_where_links_are_let_through(folder: Path, target: str) -> None:
    """Copying them, or letting links through, would not help."""
    (folder / "circle").symlink_to(target)
    (folder / "other").symlink_to("circle")
    with pytest.raises(BundleError) as refused:
        read(folder, "circle", allow_links=True)
    assert str(refused.value) == f"{folder}/circle: cannot be read ({os.strerror(errno.ELOOP)})"


def test_a_folder_that_is_a_link_to_itself_is_told_so(folder: Path) -> None:
    """Links to folders are followed, so its being a link is not what is wrong with it."""
    (folder / "circle").symlink_to("circle")
    with pytest.raises(BundleError) as refused:
        read(folder / "circle", "plain")
    assert str(refused.value).endswith(f": cannot be read ({os.strerror(errno.ELOOP)})")


def test_more_bytes_than_allowed_are_refused_before_any_is_read(folder: Path) -> None:
    with (folder / "plain").open("wb") as file:
        file.truncate(1 << 40)  # with a hole in it: reading a terabyte would not end here
    with pytest.raises(BundleError, match=r"folder/plain: 1099511627776 bytes; expected at most 1048576$"):
        read(folder, "plain")
    (folder / "plain").write_bytes(bytes(100))
    assert len(read(folder, "plain", 100)) == 100
    with pytest.raises(BundleError, match="100 bytes; expected at most 99"):
        read(folder, "plain", 99)


def test_a_missing_file_and_a_missing_folder_are_named(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"folder/gone: cannot be read \(No such file or directory\)"):
        read(folder, "gone")
    with pytest.raises(BundleError, match=r"gone.*cannot be read \(No such file or directory\)"):
        read(folder / "gone", "plain")


def test_a_process_with_too_many_open_files_is_no_fault_of_the_bundle(folder: Path, run_python: Any) -> None:
    finished = run_python(
        """
import os, resource, sys
from pathlib import Path
from vae_runtime.errors import EnvironmentProblem
from vae_runtime.members import Members
with Members(Path(sys.argv[1])) as opened:
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1,) * 2)
    try:
        opened.read("plain", 100)
    except EnvironmentProblem as error:
        print(error)
""",
        folder,
    )
    assert finished.stdout == f"{folder}/plain: cannot be read (Too many open files)\n", finished.stderr


@pytest.mark.skipif(os.name == "nt", reason="folders have no descriptors there")
def test_a_folder_that_is_replaced_meanwhile_is_read_to_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "plain").write_bytes(b"what is in it")
    with Members(folder) as opened:
        folder.rename(tmp_path / "old")
        folder.mkdir()
        (folder / "other").write_bytes(b"another")
        assert opened.names() == ["plain"]
        assert opened.read("plain", MOST) == b"what is in it"
    assert read(folder, "other") == b"another"


@pytest.mark.skipif(os.name == "nt", reason="folders have no descriptors there")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("nothing", "No such file or directory"),
        ("a file", "Not a directory"),
        ("a pipe", "Not a directory"),
    ],
)
def test_what_is_no_folder_is_refused_at_once_and_not_waited_for(
    tmp_path: Path, kind: str, reason: str
) -> None:
    if kind == "a file":
        (tmp_path / "it").touch()
    elif kind == "a pipe":
        os.mkfifo(tmp_path / "it")
    with pytest.raises(BundleError, match=rf"/it: cannot be read \({reason}\)$"), Members(tmp_path / "it"):
        pytest.fail("let in")


def test_leaving_twice_closes_no_file_of_somebody_else(folder: Path) -> None:
    opened = Members(folder)
    with opened:
        opened.read("plain", MOST)
    with (folder / "plain").open("rb") as other:  # the descriptor that has become free
        opened.__exit__(None, None, None)
        assert other.read() == b"what is in it"


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
        with pytest.raises(BundleError, match=r"plain: was cut short while it was read: 4 of 13 bytes"):
            opened.read("plain", MOST)


def test_a_file_that_grows_while_it_is_read_is_read_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Members(folder) as opened:
        at_the_next("fstat", monkeypatch, lambda: os.truncate(folder / "plain", 1 << 40), before=False)
        assert opened.read("plain", MOST) == b"what is in it"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say how large it is")
def test_a_file_that_does_not_fit_into_memory_is_no_fault_of_the_bundle(
    folder: Path, run_python: Any
) -> None:
    os.truncate(folder / "plain", 1 << 32)
    finished = run_python(
        """
import resource, sys
from pathlib import Path
from vae_runtime.errors import ResourceLimitError
from vae_runtime.members import Members
with Members(Path(sys.argv[1])) as opened:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28),) * 2)
    try:
        opened.read("plain", 1 << 40)
    except ResourceLimitError as error:
        print(error)
""",
        folder,
    )
    message = f"{folder}/plain: its 4294967296 bytes do not fit into memory\n"
    assert finished.stdout == message, finished.stderr


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
        at_the_next("scandir", monkeypatch, fail, before=True)
        with pytest.raises(EnvironmentProblem, match=rf"folder: cannot be read \({os.strerror(number)}\)"):
            opened.names()
        assert opened.read("plain", MOST) == b"what is in it"
