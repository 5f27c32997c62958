from __future__ import annotations

from clamp import clamp, count_down


def test_a_number_is_at_most_so_large() -> None:
    assert [clamp(number, 2) for number in (1, 2, 3)] == [1, 2, 2]


def test_counting_down_takes_as_many_steps() -> None:
    assert count_down(3) == 3
