"""What the tests of faults share: the server that forks writers, and faults of the file system on demand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from failing import FileSystem
from killing import WriterServer


@pytest.fixture(scope="session")
def writer_server() -> Iterator[WriterServer]:
    """Forks processes that write."""
    with WriterServer() as server:
        yield server


@pytest.fixture(scope="session")
def file_system() -> FileSystem:
    """The file system of this process, whose calls can be made to fail."""
    return FileSystem()
