"""Protobuf's wire format, read strictly: every field against the list of what may stand there.

It must never read bytes otherwise than onnxruntime's own parser does, or what was looked at is not what
runs. So anything that parsers are known to read differently is refused: tags above 32 bits, numbers in an
overlong form, groups, unknown fields, a field that stands twice where it may stand once (parsers take the
last, or merge), text that is not UTF-8 or holds a zero byte.

Time is bounded too: what has a length is skipped, and the number of fields is limited.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vae_runtime.errors import UnsafeBundleError
from vae_runtime.onnx_schema import LENGTH, MESSAGES, REFUSED_FIELDS, VARINT, Field

# Fields, and numbers in packed fields. Each takes one or two microseconds; a decoder of 100 nodes has 1,500.
MOST_FIELDS = 200_000

_LARGEST_NUMBER = 2**64 - 1


class Found(NamedTuple):
    """One field of a message."""

    field: Field
    at: int
    """The byte where its tag begins."""
    number: int | None
    """The number that it is; None where it holds bytes."""
    start: int
    """Where its value begins: of bytes, behind their length."""
    end: int
    """The first byte behind its value."""


class Reader:
    """Reads messages and refuses what is not on the list."""

    def __init__(self, data: bytes, source: str) -> None:
        self._data = data
        self._source = source
        self._left = MOST_FIELDS

    def fields(self, message: str, start: int, end: int) -> Iterator[Found]:
        """Yield every field of a message, its form checked.

        Raises:
            UnsafeBundleError: a field that is not on the list, or one in an unusual form.
        """
        schema, seen, position = MESSAGES[message], set(), start
        while position < end:
            at = position
            self._count_one(at)
            tag, position = self._varint(position, end)
            number, wire_type = tag >> 3, tag & 7
            known = schema.get(number)  # a number of any size: parsers would keep the lower bits of its tag
            if known is None:
                what = REFUSED_FIELDS.get((message, number), f"field {number}")
                raise self.refuse(at, f"{what} in a {message}", "an ONNX model" if at == 0 else "")
            if wire_type not in known.wire_types:
                raise self.refuse(at, f"{message}.{known.name} of wire type {wire_type}")
            if not known.repeated and number in seen:
                raise self.refuse(at, f"{message}.{known.name} twice", "once")
            seen.add(number)
            found = self._value(known, wire_type, at, position, end)
            position = found.end
            yield found

    def _value(self, field: Field, wire_type: int, at: int, position: int, end: int) -> Found:
        if wire_type == VARINT:
            number, after = self._varint(position, end)
            return Found(field, at, number, position, after)
        length = 4  # of a FIXED32, the only other one on the list
        if wire_type == LENGTH:
            length, position = self._varint(position, end)
        if length > end - position:
            raise self.refuse(at, f"a value of {length} bytes where {end - position} are left")
        found = Found(field, at, None, position, position + length)
        if field.longest is not None:
            self.text(found)
        return found

    def text(self, found: Found) -> str:
        """Return the text that a field holds."""
        length, longest = found.end - found.start, found.field.longest
        if longest is not None and length > longest:
            raise self.refuse(found.at, f"{found.field.name} of {length} bytes", f"at most {longest}")
        try:
            text = self._data[found.start : found.end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.refuse(found.at, f"{found.field.name} that is not UTF-8") from error
        if "\0" in text:
            raise self.refuse(found.at, f"a zero byte in {found.field.name}")
        return text

    def numbers(self, found: Found) -> list[int]:
        """Return the numbers of one entry of a repeated field: itself, or a packed run of them."""
        if found.number is not None:
            return [found.number]
        numbers, position = [], found.start
        while position < found.end:
            self._count_one(position)
            number, position = self._varint(position, found.end)
            numbers.append(number)
        return numbers

    def count_floats(self, found: Found) -> int:
        """Return how many numbers of 32 bits one entry of a repeated field holds: one, or a packed run."""
        count, rest = divmod(found.end - found.start, 4)
        if rest:
            raise self.refuse(
                found.at, f"{found.end - found.start} bytes of {found.field.name}", "four a number"
            )
        return count

    def refuse(self, at: int, found: str, expected: str = "") -> UnsafeBundleError:
        """Return the error to raise."""
        wanted = f"; expected {expected}" if expected else ""
        return UnsafeBundleError(f"{self._source}: refused: {found} at byte {at}{wanted}")

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """Read a number of seven bits a byte, lowest first; at most ten bytes, and 64 bits."""
        number = 0
        for index, byte in enumerate(self._data[position : min(position + 10, end)]):
            number |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if number > _LARGEST_NUMBER or (byte == 0 and index > 0):
                    raise self.refuse(position, "a number in an unusual form")
                return number, position + index + 1
        raise self.refuse(position, "a number that does not end")

    def _count_one(self, at: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise self.refuse(at, f"more than {MOST_FIELDS} fields and numbers outside of raw data")
