"""The wire format is read as every parser reads it, or not at all."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_bytes import message, node, raw_field, varint

from vae_runtime import wire
from vae_runtime.errors import UnsafeBundleError
from vae_runtime.onnx_schema import LONGEST_NAME, LONGEST_TEXT, MESSAGES, REFUSED_FIELDS
from vae_runtime.wire import MOST_FIELDS, Found, Reader

U64 = st.integers(0, 2**64 - 1)


def read(kind: str, data: bytes) -> list[Found]:
    return list(Reader(data, "graph").fields(kind, 0, len(data)))


def one(kind: str, data: bytes) -> tuple[Reader, Found]:
    """The only field of a message, and what read it."""
    reader = Reader(data, "graph")
    (found,) = reader.fields(kind, 0, len(data))
    return reader, found


def refused(kind: str, data: bytes) -> str:
    with pytest.raises(UnsafeBundleError) as caught:
        read(kind, data)
    return str(caught.value)


@given(U64)
def test_every_number_of_64_bits_is_read_as_it_was_written(number: int) -> None:
    _, found = one("ModelProto", message((5, number)))
    assert (found.field.name, found.at, found.number) == ("model_version", 0, number)
    assert (found.start, found.end) == (1, 1 + len(varint(number)))


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 4, 6, 7]), st.text(max_size=300).filter(lambda t: "\0" not in t))
    )
)
def test_texts_are_read_where_they_stand(texts: list[tuple[int, str]]) -> None:
    texts = [(number, text) for number, text in texts if number <= 2] + list(
        {number: (number, text) for number, text in texts if number > 2}.values()
    )
    data = message(*texts)
    reader = Reader(data, "graph")
    found = list(reader.fields("NodeProto", 0, len(data)))
    names = {1: "input", 2: "output", 3: "name", 4: "op_type", 6: "doc_string", 7: "domain"}
    assert [(item.field.name, reader.text(item)) for item in found] == [(names[n], text) for n, text in texts]
    assert [data[item.start : item.end].decode() for item in found] == [text for _, text in texts]
    assert all(item.number is None for item in found)


@given(st.lists(U64, max_size=20), st.booleans())
def test_repeated_numbers_are_the_same_packed_and_one_by_one(numbers: list[int], packed: bool) -> None:
    entries = [b"".join(map(varint, numbers))] if packed else numbers
    data = message(*((1, entry) for entry in entries))
    reader = Reader(data, "graph")
    fields = reader.fields("TensorProto", 0, len(data))
    assert [number for found in fields for number in reader.numbers(found)] == numbers


@given(st.lists(st.floats(width=32), max_size=20), st.booleans())
def test_repeated_floats_are_counted_packed_and_one_by_one(numbers: list[float], packed: bool) -> None:
    encoded = [struct.pack("<f", number) for number in numbers]
    data = message((4, b"".join(encoded))) if packed else b"".join(raw_field(4, 5, each) for each in encoded)
    reader = Reader(data, "graph")
    assert sum(map(reader.count_floats, reader.fields("TensorProto", 0, len(data)))) == len(numbers)


def test_a_run_of_floats_that_is_not_whole_is_refused() -> None:
    reader, found = one("TensorProto", message((4, b"12345")))
    with pytest.raises(UnsafeBundleError, match=r"5 bytes of float_data at byte 0; expected four a number$"):
        reader.count_floats(found)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x80", "a number that does not end at byte 0"),
        (raw_field(1, 0, b""), "a number that does not end at byte 1"),
        (raw_field(1, 0, b"\x80"), "a number that does not end at byte 1"),
        (raw_field(1, 0, b"\x80" * 10), "a number that does not end at byte 1"),
        (raw_field(1, 0, b"\x80" * 10 + b"\x01"), "a number that does not end at byte 1"),
        (raw_field(1, 0, b"\x80" * 9 + b"\x02"), "a number in an unusual form at byte 1"),
        (raw_field(1, 0, b"\xff" * 9 + b"\x02"), "a number in an unusual form at byte 1"),
        (raw_field(1, 0, b"\xff" * 9 + b"\x7f"), "a number in an unusual form at byte 1"),
        (raw_field(1, 0, b"\x80\x00"), "a number in an unusual form at byte 1"),
        (raw_field(1, 0, b"\x81\x80\x00"), "a number in an unusual form at byte 1"),
        (b"\x88\x00\x01", "a number in an unusual form at byte 0"),  # field 1, its tag a byte too long
        (raw_field(7, 2, b""), "a number that does not end at byte 1"),
        (raw_field(7, 2, b"\x7f"), "a value of 127 bytes where 0 are left at byte 0"),
        (raw_field(7, 2, b"\x7f12345"), "a value of 127 bytes where 5 are left at byte 0"),
        (raw_field(7, 2, varint(2**64 - 1) + b"123"), f"a value of {2**64 - 1} bytes where 3 are left at byte 0"),
        (raw_field(7, 0, b"\x01"), "ModelProto.graph of wire type 0 at byte 0"),
        (raw_field(1, 2, b"\x00"), "ModelProto.ir_version of wire type 2"),
        (raw_field(1, 5, bytes(4)), "ModelProto.ir_version of wire type 5"),
        (raw_field(1, 1, bytes(8)), "ModelProto.ir_version of wire type 1"),
        (raw_field(7, 3, b"") + raw_field(7, 4, b""), "ModelProto.graph of wire type 3"),
        (raw_field(7, 4, b""), "ModelProto.graph of wire type 4"),
        (raw_field(7, 6, b""), "ModelProto.graph of wire type 6"),
        (raw_field(7, 7, b""), "ModelProto.graph of wire type 7"),
        (raw_field(0, 0, b"\x01"), "field 0 in a ModelProto at byte 0; expected an ONNX model"),
        (raw_field(9, 0, b"\x01"), "field 9 in a ModelProto"),
        (message((1, 8)) + raw_field(9, 0, b"\x01"), "field 9 in a ModelProto at byte 2"),
        # Parsers keep 32 bits of a tag: these would be `ir_version` and `graph` to onnxruntime.
        (varint(1 << 32 | 1 << 3) + b"\x08", "field 536870913 in a ModelProto at byte 0"),
        (varint(1 << 32 | 7 << 3 | 2) + b"\x00", "field 536870919"),
        (message((1, 8), (1, 9)), "ModelProto.ir_version twice at byte 2; expected once"),
        (message((7, b""), (7, b"")), "ModelProto.graph twice at byte 2"),
        (message((2, b"\xff")), "producer_name that is not UTF-8 at byte 0"),
        (message((2, b"\xed\xa0\x80")), "producer_name that is not UTF-8"),  # half of a surrogate pair
        (message((2, "a\0b")), "a zero byte in producer_name at byte 0"),
        (message((2, "a" * (LONGEST_NAME + 1))), "producer_name of 1025 bytes at byte 0; expected at most 1024"),
        (message((6, "a" * (LONGEST_TEXT + 1))), "doc_string of 1048577 bytes"),
    ],
)  # fmt: skip
def test_what_parsers_could_read_differently_is_refused(data: bytes, reason: str) -> None:
    assert re.match(rf"graph: refused: {re.escape(reason)}(?!\w)", refused("ModelProto", data))


def test_nothing_is_said_to_be_expected_where_nothing_is() -> None:
    assert refused("ModelProto", b"\x80") == "graph: refused: a number that does not end at byte 0"
    assert (
        refused("NodeProto", message((60, 1)))
        == "graph: refused: field 60 in a NodeProto at byte 0; expected an ONNX model"
    )
    assert (
        refused("NodeProto", message((3, "n"), (60, 1)))
        == "graph: refused: field 60 in a NodeProto at byte 3"
    )


def test_the_longest_texts_and_the_largest_tag_pass() -> None:
    assert len(read("ModelProto", message((2, "a" * LONGEST_NAME), (6, "a" * LONGEST_TEXT)))) == 2
    # 2**32 - 1 is a tag that all parsers read alike: field 536870911 of wire type 7.
    assert "field 536870911 in a ModelProto" in refused("ModelProto", varint(2**32 - 1))


def test_a_field_does_not_reach_beyond_its_message() -> None:
    data = message((2, "abc"), (3, "def"))
    assert [found.end for found in Reader(data, "graph").fields("ModelProto", 0, 5)] == [5]
    for end in (1, 2, 3, 4):
        with pytest.raises(UnsafeBundleError, match=r"where|does not end"):
            list(Reader(data, "graph").fields("ModelProto", 0, end))


@pytest.mark.parametrize(("kind", "number"), REFUSED_FIELDS)
def test_a_field_that_is_refused_is_named(kind: str, number: int) -> None:
    assert number not in MESSAGES[kind]
    assert f"{REFUSED_FIELDS[kind, number]} in a {kind} at byte 0" in refused(
        kind, raw_field(number, 2, b"\0")
    )


def test_what_is_on_the_list_passes_in_its_wire_types_and_no_other() -> None:
    payloads = {0: b"\x01", 1: bytes(8), 2: b"\x00", 3: b"", 4: b"", 5: bytes(4), 6: b"", 7: b""}
    for kind, schema in MESSAGES.items():
        for number, field in schema.items():
            for wire_type, payload in payloads.items():
                data = raw_field(number, wire_type, payload)
                if wire_type in field.wire_types:
                    assert [found.field for found in read(kind, data)] == [field]
                    assert (len(read(kind, data * 2)) == 2) if field.repeated else refused(kind, data * 2)
                else:
                    assert f"{kind}.{field.name} of wire type {wire_type}" in refused(kind, data)


# Time: what has a length is skipped, what is many is counted.


def test_the_limit_is_the_one_that_is_promised() -> None:
    promises = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")
    assert f"; {MOST_FIELDS:,} fields," in promises


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """A limit that is reached soon."""
    monkeypatch.setattr(wire, "MOST_FIELDS", 50)
    return 50


def test_as_many_fields_as_the_limit_are_read_and_not_one_more(few: int) -> None:
    field = message((1, ""))
    assert len(read("NodeProto", field * few)) == few
    assert refused("NodeProto", field * (few + 1)) == (
        f"graph: refused: more than {few} fields and numbers outside of raw data at byte {2 * few}"
    )


def test_packed_numbers_count_too(few: int) -> None:
    reader, found = one("TensorProto", message((7, b"\1" * (few - 1))))
    assert len(reader.numbers(found)) == few - 1
    reader, found = one("TensorProto", message((7, b"\1" * few)))
    place = found.start + few - 1
    with pytest.raises(UnsafeBundleError, match=f"more than {few} .* outside of raw data at byte {place}$"):
        reader.numbers(found)


def test_numbers_one_by_one_count_once(few: int) -> None:
    data = message(*[(7, 1)] * few)
    reader = Reader(data, "graph")
    numbers = [reader.numbers(found) for found in reader.fields("TensorProto", 0, len(data))]
    assert numbers == [[1]] * few


def test_what_has_a_length_is_skipped() -> None:
    """A byte that no reader may look at: it would be the tag of an unknown field."""
    data = message((9, b"\xff" * 1000))
    (found,) = read("TensorProto", data)
    assert (found.start, found.end) == (3, 1003)
    assert read("GraphProto", message((1, node("Relu", ["x"], ["y"]))))[0].field.message == "NodeProto"
