"""A folder with files of all kinds to be read from, each way that systems allow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vae_runtime import members


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
