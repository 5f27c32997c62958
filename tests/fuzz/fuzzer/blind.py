"""Mutations of bytes whose form is not looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

Mutation = Callable[[bytes, Random], bytes]

_LONGEST_RUN = 64
# Where lengths, sizes and counts turn over.
EDGES = (
    0, 1, 2, 7, 8, 127, 128, 255, 256, 1000, 2**15 - 1, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
    2**33, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip


def randomness(*seed: object) -> Random:
    """Return the draws that belong to a name: the same name, the same draws, on every machine."""
    return Random("/".join(map(str, seed)))  # noqa: S311 - repeatable is the point; nothing here is secret


def flip_bits(data: bytes, draw: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def overwrite_a_run(data: bytes, draw: Random) -> bytes:
    length = draw.randint(1, _LONGEST_RUN)
    at = _place(data, draw)
    run = draw.choice((b"\x00", b"\xff", b"\x80", b"\x7f")) * length
    if draw.random() < 0.5:
        run = draw.randbytes(length)
    return data[:at] + run + data[at + length :]


def overwrite_a_number(data: bytes, draw: Random) -> bytes:
    size = draw.choice((1, 2, 4, 8))
    number = (draw.choice(EDGES) % (1 << 8 * size)).to_bytes(size, draw.choice(("little", "big")))
    at = _place(data, draw)
    return data[:at] + number + data[at + size :]


def cut_off(data: bytes, draw: Random) -> bytes:
    return data[: _place(data, draw)]


def take_out(data: bytes, draw: Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + data[at + draw.randint(1, _LONGEST_RUN) :]


def put_in(data: bytes, draw: Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + draw.randbytes(draw.randint(1, _LONGEST_RUN)) + data[at:]


def repeat_a_piece(data: bytes, draw: Random) -> bytes:
    start, end = sorted((_place(data, draw), _place(data, draw)))
    return data[:end] + data[start:end] * draw.choice((1, 1, 2, 10)) + data[end:]


def splice(others: Sequence[bytes]) -> Mutation:
    """Return a mutation that goes on, at some place, as another file does from some place of its own."""

    def mutate(data: bytes, draw: Random) -> bytes:
        other = draw.choice(others)
        return data[: _place(data, draw)] + other[_place(other, draw) :]

    return mutate


def blind_mutations(corpus: Sequence[bytes]) -> tuple[Mutation, ...]:
    """Return all of them; `corpus` holds the files to splice with."""
    return (
        flip_bits,
        flip_bits,
        overwrite_a_run,
        overwrite_a_number,
        cut_off,
        take_out,
        put_in,
        repeat_a_piece,
        splice(corpus),
    )


def _place(data: bytes, draw: Random) -> int:
    return draw.randint(0, len(data))
