"""The line that counts on a terminal."""

from __future__ import annotations

import sys

import pytest

from vae_training.counting import CountingLine


def take_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_it_counts_in_its_place_and_ends_where_all_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take_for_a_terminal(monkeypatch)
    with CountingLine(quiet=False) as line:
        for done in (1, 1000):
            line("reading", done, 1000)
        line("drawing", 1, 1)
    counted = ["reading: 1 of 1,000", "reading: 1,000 of 1,000\n", "drawing: 1 of 1\n"]
    assert capsys.readouterr().err == "".join(f"\r\x1b[K{text}" for text in counted)


def test_an_error_in_its_midst_stands_on_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read() -> None:
        with CountingLine(quiet=False) as line:
            line("reading", 3, 7)
            raise ValueError("a bad picture")

    take_for_a_terminal(monkeypatch)
    with pytest.raises(ValueError, match="a bad picture"):
        read()
    assert capsys.readouterr().err == "\r\x1b[Kreading: 3 of 7\n"


def test_it_says_nothing_where_it_is_to_be_quiet_or_there_is_no_terminal_or_nothing_to_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with CountingLine(quiet=False) as line:
        line("reading", 1, 2)
    take_for_a_terminal(monkeypatch)
    with CountingLine(quiet=True) as line:
        line("reading", 1, 2)
    with CountingLine(quiet=False):
        pass
    assert capsys.readouterr().err == ""
