"""Files of a bundle are opened once, and only plain ones of its own folder are read."""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from vae_runtime import BundleError, members
from vae_runtime.errors import UnsafeBundleError
from vae_runtime.members import Members

MOST = 1 << 20


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
    with pytest.raises(UnsafeBundleError, match=r"folder/link: is a symbolic link\. Copy .*--allow-links\)$"):
        read(folder, "link")


def test_a_file_with_another_hard_link_is_refused(folder: Path, tmp_path: Path) -> None:
    os.link(tmp_path / "outside", folder / "linked")
    with pytest.raises(
        UnsafeBundleError, match=r"folder/linked: has 2 hard links; expected 1: .*--allow-links\)$"
    ):
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
    with pytest.raises(
        BundleError, match=r"folder/plain: 1099511627776 bytes; expected at most 1048576$"
    ) as refused:
        read(folder, "plain")
    assert refused.type is BundleError
    (folder / "plain").write_bytes(bytes(100))
    assert len(read(folder, "plain", 100)) == 100
    with pytest.raises(BundleError, match="100 bytes; expected at most 99"):
        read(folder, "plain", 99)


def test_a_missing_file_and_a_missing_folder_are_named(folder: Path) -> None:
    with pytest.raises(
        BundleError, match=r"folder/gone: cannot be read \(No such file or directory\)"
    ) as refused:
        read(folder, "gone")
    assert refused.type is BundleError
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


def test_what_a_system_does_not_have_is_not_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_NOFOLLOW", raising=False)
    monkeypatch.setattr(os, "supports_fd", set())
    spec = importlib.util.spec_from_file_location("members_elsewhere", members.__file__)
    assert spec is not None
    assert spec.loader is not None
    elsewhere = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(elsewhere)
    assert (elsewhere._NO_FOLLOW, elsewhere._FOLDERS_OPEN) == (0, False)
