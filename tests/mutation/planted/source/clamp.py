"""A file whose mutants are killed, hang, or do the same."""

from __future__ import annotations


def clamp(number: int, most: int) -> int | None:
    if number > most:
        return most
    return number


def count_down(number: int) -> int:
    steps = 0
    while number > 0:
        number -= 1
        steps += 1
    return steps
