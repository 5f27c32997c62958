"""The gate before onnxruntime: is every byte of a graph something that a bundle's graph may hold?

A parser of protobuf's wire format against an allow-list, in the standard library alone. It must never read
bytes otherwise than onnxruntime's own parser does, or what was looked at is not what runs. So anything that
parsers are known to read differently is refused: tags above 32 bits, overlong numbers, groups, unknown fields,
a singular message that stands twice (parsers merge those).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from vae_runtime.errors import UnsafeBundleError
from vae_runtime.onnx_schema import FIXED32, FIXED64, LENGTH, MESSAGES, OPERATORS, REFUSED_FIELDS, VARINT

MOST_NODES = 20_000
MOST_TENSORS = 20_000
_MOST_DIMENSIONS = 8
_LARGEST_TAG = 2**32 - 1

# Bytes of one element by TensorProto.DataType: float, uint8, int8, uint16, int16, int32, int64, bool, float16,
# double, uint32, uint64, bfloat16.
_ELEMENT_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}


@dataclass(frozen=True)
class Scan:
    """What the scan saw on its way through a graph that passed."""

    ir_version: int
    opset: int
    operators: Mapping[str, int]
    """How often each operator stands in the graph."""
    parameters: int
    """Numbers in all tensors."""
    metadata: Mapping[str, str]


@dataclass
class _Found:
    ir_version: int = 0
    opsets: list[tuple[str, int]] = field(default_factory=list)
    operators: Counter[str] = field(default_factory=Counter)
    tensors: int = 0
    parameters: int = 0
    metadata: dict[str, str] = field(default_factory=dict)


def scan(data: bytes, source: str) -> Scan:
    """Look at every field of an ONNX file.

    Args:
        data: the file.
        source: what it is called in messages.

    Returns:
        Its versions, operators and metadata, read from these very bytes.

    Raises:
        UnsafeBundleError: not an ONNX file, or one with something that is not on the list; the message names
            it and the byte where it stands.
    """
    scanner = _Scanner(memoryview(data), source)
    scanner.model(0, len(data))
    found = scanner.found
    if [domain for domain, _ in found.opsets] != [""]:
        domains = ", ".join(repr(domain) for domain, _ in found.opsets) or "none"
        raise UnsafeBundleError(
            f"{source}: operator sets of domains {domains}; expected the standard one alone, ''"
        )
    if not found.operators:
        raise UnsafeBundleError(f"{source}: not an ONNX model: no graph with operators in it")
    return Scan(found.ir_version, found.opsets[0][1], dict(found.operators), found.parameters, found.metadata)


class _Scanner:
    """Walks the messages. One method for each that is looked into; the others are only checked for form."""

    def __init__(self, data: memoryview, source: str) -> None:
        self._data = data
        self._source = source
        self.found = _Found()

    def model(self, start: int, end: int) -> None:
        for name, at, value in self._fields("ModelProto", start, end):
            if name == "ir_version":
                self.found.ir_version = value[0]
            elif name == "graph":
                self._graph(*value)
            elif name == "opset_import":
                self.found.opsets.append(self._opset(*value))
            elif name == "metadata_props":
                self._metadata(at, *value)

    def _opset(self, start: int, end: int) -> tuple[str, int]:
        domain, version = "", 0
        for name, at, value in self._fields("OperatorSetIdProto", start, end):
            if name == "domain":
                domain = self._text(at, *value)
            else:
                version = value[0]
        return domain, version

    def _metadata(self, at: int, start: int, end: int) -> None:
        entry = {
            name: self._text(where, *value)
            for name, where, value in self._fields("StringStringEntryProto", start, end)
        }
        key = entry.get("key", "")
        if key in self.found.metadata:
            raise self._refuse(at, f"metadata {key!r} stands twice")
        self.found.metadata[key] = entry.get("value", "")

    def _graph(self, start: int, end: int) -> None:
        for name, at, value in self._fields("GraphProto", start, end):
            if name == "node":
                self._node(at, *value)
            elif name == "initializer":
                self._tensor(at, *value)
            elif name in ("input", "output", "value_info"):
                self._check_form("ValueInfoProto", *value)

    def _node(self, at: int, start: int, end: int) -> None:
        operator = ""
        for name, where, value in self._fields("NodeProto", start, end):
            if name == "op_type":
                operator = self._text(where, *value)
            elif name == "domain" and self._text(where, *value):
                raise self._refuse(
                    where, f"a node of domain {self._text(where, *value)!r}", "the standard one, ''"
                )
            elif name == "attribute":
                self._attribute(*value)
        if operator not in OPERATORS:
            raise self._refuse(
                at, f"operator {operator!r}", "one of the operators that small image models need"
            )
        self.found.operators[operator] += 1
        if self.found.operators.total() > MOST_NODES:
            raise self._refuse(at, f"more than {MOST_NODES} nodes")

    def _attribute(self, start: int, end: int) -> None:
        for name, at, value in self._fields("AttributeProto", start, end):
            if name == "t":
                self._tensor(at, *value)

    def _tensor(self, at: int, start: int, end: int) -> None:
        dims: list[int] = []
        data_type, raw_bytes = 0, None
        for name, where, value in self._fields("TensorProto", start, end):
            if name == "dims":
                dims.extend(self._numbers(where, value))
            elif name == "data_type":
                data_type = value[0]
            elif name == "raw_data":
                raw_bytes = value[1] - value[0]
            elif name == "data_location" and value[0] != 0:
                raise self._refuse(where, "external data", "every tensor inside the file")
        self._check_size(at, dims, data_type, raw_bytes, end - start)
        self.found.tensors += 1
        if self.found.tensors > MOST_TENSORS:
            raise self._refuse(at, f"more than {MOST_TENSORS} tensors")

    def _check_size(
        self, at: int, dims: list[int], data_type: int, raw_bytes: int | None, length: int
    ) -> None:
        """Refuse a tensor that claims more numbers than its bytes can hold."""
        if data_type not in _ELEMENT_BYTES:
            raise self._refuse(at, f"a tensor of data type {data_type}", "a type of plain numbers")
        if len(dims) > _MOST_DIMENSIONS or any(size >= 2**31 for size in dims):
            raise self._refuse(at, f"a tensor of shape {dims[:_MOST_DIMENSIONS]}")
        count = prod(dims)
        claimed = count * _ELEMENT_BYTES[data_type]
        if (raw_bytes is not None and claimed != raw_bytes) or count > length:
            raise self._refuse(
                at, f"a tensor of {count} numbers in {length} bytes", f"{claimed} bytes of data"
            )
        self.found.parameters += count

    def _check_form(self, message: str, start: int, end: int) -> None:
        """Check a message and those inside it against the list, without looking at what they say."""
        schema = {entry.name: entry.message for entry in MESSAGES[message].values()}
        for name, _, value in self._fields(message, start, end):
            inner = schema[name]
            if inner is not None:
                self._check_form(inner, *value)

    def _fields(self, message: str, start: int, end: int) -> Iterator[tuple[str, int, tuple[int, ...]]]:
        """Yield name, place and value of every field: (number,), or (start, end) of what has a length."""
        schema, seen, position = MESSAGES[message], set(), start
        while position < end:
            at = position
            tag, position = self._varint(position, end)
            number, wire_type = tag >> 3, tag & 7
            known = schema.get(number) if tag <= _LARGEST_TAG else None
            if known is None:
                what = REFUSED_FIELDS.get((message, number), f"field {number}")
                raise self._refuse(at, f"{what} in a {message}")
            if wire_type not in known.wire_types:
                raise self._refuse(at, f"{message}.{known.name} of wire type {wire_type}")
            if not known.repeated and number in seen:
                raise self._refuse(at, f"{message}.{known.name} twice", "once")
            seen.add(number)
            value, position = self._value(wire_type, position, end)
            yield known.name, at, value

    def _value(self, wire_type: int, position: int, end: int) -> tuple[tuple[int, ...], int]:
        if wire_type == VARINT:
            number, position = self._varint(position, end)
            return (number,), position
        if wire_type == LENGTH:
            length, position = self._varint(position, end)
        else:
            length = {FIXED32: 4, FIXED64: 8}[wire_type]
        if length > end - position:
            raise self._refuse(position, f"a value of {length} bytes where {end - position} are left")
        return (position, position + length), position + length

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """Read a number of seven bits a byte, lowest first; at most ten bytes, and 64 bits."""
        number = 0
        for index in range(10):
            if position + index >= end:
                raise self._refuse(position, "a number that is cut short")
            byte = self._data[position + index]
            number |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if number >= 2**64 or (byte == 0 and index > 0):
                    raise self._refuse(position, "a number in an unusual form")
                return number, position + index + 1
        raise self._refuse(position, "a number of more than ten bytes")

    def _numbers(self, at: int, value: tuple[int, ...]) -> list[int]:
        """Return the numbers of a repeated field's entry: one, or a packed run of them."""
        if len(value) == 1:
            return [value[0]]
        numbers, (position, end) = [], value
        while position < end:
            number, position = self._varint(position, end)
            numbers.append(number)
            if len(numbers) > _MOST_DIMENSIONS:
                raise self._refuse(at, f"a tensor of more than {_MOST_DIMENSIONS} dimensions")
        return numbers

    def _text(self, at: int, start: int, end: int) -> str:
        try:
            return bytes(self._data[start:end]).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._refuse(at, "text that is not UTF-8") from error

    def _refuse(self, at: int, found: str, expected: str = "") -> UnsafeBundleError:
        wanted = f"; expected {expected}" if expected else ""
        return UnsafeBundleError(f"{self._source}: refused: {found} at byte {at}{wanted}")
