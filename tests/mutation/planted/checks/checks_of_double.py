from __future__ import annotations

from double import double


def test_twice_two_is_four() -> None:
    assert double(2) == 4
