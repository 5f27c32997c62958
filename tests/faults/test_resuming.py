"""A run that is killed at random goes on, and ends bit for bit as if nobody had touched it."""

from __future__ import annotations

import os

import pytest
from killing import WriterServer
from resuming import resume_after_kills

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the server that starts runs forks them")


def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(writer_server: WriterServer) -> None:
    result = resume_after_kills(4, writer_server, only_at_calls=True)
    assert result.differing == []
    assert result.kills >= 3
    assert any(step % 11 for step in result.steps), "no life of the run began inside an epoch"


def test_a_run_that_differs_would_be_found(
    writer_server: WriterServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OtherSeed(WriterServer):
        def train(self, folder, *arguments, **how):
            changed = [8 if arguments[n - 1] == "--seed" else each for n, each in enumerate(arguments)]
            return writer_server.train(folder, *(changed if "parts" in arguments else arguments), **how)

    assert set(resume_after_kills(0, OtherSeed()).differing) >= {"model.safetensors", "metrics"}
