from __future__ import annotations

from broken import ONE


def test_one_is_one() -> None:
    assert ONE == 1
