"""SIGKILL in the middle of writing: the old output or the new one, whole, and nothing left to clear away."""

from __future__ import annotations

import os

import pytest
from killing import Result, WriterServer, kill_during
from writers import NAIVE, WRITERS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the server that starts writers forks them")

KILLS = 3  # of each; `make soak` kills each writer there is, and a hundred times
CHOSEN = [name for name in WRITERS if name not in ("settings", "sample folder, moved")]


def killed(writer: str, server: WriterServer) -> Result:
    return kill_during(writer, KILLS, server)


@pytest.mark.parametrize("writer", CHOSEN)
def test_a_killed_writer_leaves_the_old_or_the_new_whole(writer_server: WriterServer, writer: str) -> None:
    result = killed(writer, writer_server)
    assert result.torn == []
    assert result.left == []
    assert result.old + result.new + result.put_back == result.kills == KILLS


@pytest.mark.parametrize("writer", NAIVE)
def test_torn_outputs_would_be_found(writer_server: WriterServer, writer: str) -> None:
    assert killed(writer, writer_server).torn
