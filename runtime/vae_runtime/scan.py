"""The gate before onnxruntime: is every byte of a graph something that a bundle's graph may hold?

An allow-list over the whole file, in the standard library alone: `wire` reads the bytes, `onnx_schema` says
what may stand where, and here is looked at what it means. Memory is bounded by the file's size, time by
limits on the numbers of fields, nodes and tensors.

What it cannot see is the size of what a graph computes from its input: operators that join or broadcast can
still ask for more memory than a machine has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from vae_runtime.errors import UnsafeBundleError, shortened
from vae_runtime.onnx_schema import ELEMENTS, LARGEST_INTS, OPERATORS, VALUE_FIELDS, WITH_GAPS
from vae_runtime.wire import Found, Reader

MOST_NODES = 4_000
MOST_TENSORS = 8_000
MOST_DIMENSIONS = 8
MOST_INPUTS = 256
"""Of one node; as many outputs."""
MOST_GROWTH = 2**20
"""How many times larger the area of an image may be made by all transposed convolutions together."""

_LARGEST_DIMENSION = 2**31 - 1
_FLATBUFFER = b"ORTM"  # at byte 4 of onnxruntime's own format, which it prefers where it sees it
_SESSION_SETTINGS = "ort_config"  # metadata that onnxruntime may take its settings from


@dataclass(frozen=True)
class Scan:
    """What the scan saw on its way through a graph that passed."""

    ir_version: int
    opset: int
    operators: Mapping[str, int]
    """How often each operator stands in the graph."""
    tensors: int
    parameters: int
    """Numbers in all tensors."""
    metadata: Mapping[str, str]

    @property
    def nodes(self) -> int:
        """Operators in all."""
        return sum(self.operators.values())


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
    if data[4:8] == _FLATBUFFER:
        raise UnsafeBundleError(f"{source}: refused: onnxruntime's own format; expected an ONNX model")
    scanner = _Scanner(data, source)
    scanner.model(len(data))
    seen = scanner.seen
    if not seen.operators:
        raise UnsafeBundleError(f"{source}: not an ONNX model: no graph with operators in it")
    if [domain for domain, _ in seen.opsets] != [""]:
        domains = ", ".join(repr(domain) for domain, _ in seen.opsets) or "none"
        raise UnsafeBundleError(
            f"{source}: operator sets of domains {shortened(domains)}; expected the standard one alone, ''"
        )
    return Scan(
        ir_version=seen.ir_version,
        opset=seen.opsets[0][1],
        operators=seen.operators,
        tensors=seen.tensors,
        parameters=seen.parameters,
        metadata=seen.metadata,
    )


@dataclass
class _Seen:
    ir_version: int = 0
    opsets: list[tuple[str, int]] = field(default_factory=list)
    operators: Counter[str] = field(default_factory=Counter)
    nodes: int = 0
    tensors: int = 0
    initializers: set[str] = field(default_factory=set)
    parameters: int = 0
    growth: int = 1
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass
class _Attribute:
    name: str = ""
    kind: int = 0
    values: set[str] = field(default_factory=set)
    """The fields in which a value stands: one, if all is well."""
    ints: list[int] = field(default_factory=list)


@dataclass
class _Tensor:
    name: str = ""
    element: int = 0
    dims: list[int] = field(default_factory=list)
    raw_bytes: int | None = None
    typed: dict[str, int] = field(default_factory=dict)
    """Numbers in each of the fields that may hold them instead of raw_data."""


class _Scanner:
    """Walks the messages: one method for each that is looked into."""

    def __init__(self, data: bytes, source: str) -> None:
        self._reader = Reader(data, source)
        self.seen = _Seen()

    def model(self, length: int) -> None:
        for found in self._reader.fields("ModelProto", 0, length):
            name = found.field.name
            if name == "ir_version":
                self.seen.ir_version = found.number or 0
            elif name == "graph":
                self._graph(found)
            elif name == "opset_import":
                self.seen.opsets.append(self._opset(found))
            elif name == "metadata_props":
                self._metadata(found)

    def _opset(self, opset: Found) -> tuple[str, int]:
        domain, version = "", 0
        for found in self._reader.fields("OperatorSetIdProto", opset.start, opset.end):
            if found.field.name == "domain":
                domain = self._reader.text(found)
            else:
                version = found.number or 0
        return domain, version

    def _metadata(self, entry: Found) -> None:
        texts = {
            found.field.name: self._reader.text(found)
            for found in self._reader.fields("StringStringEntryProto", entry.start, entry.end)
        }
        key = texts.get("key", "")
        if key in self.seen.metadata:
            raise self._reader.refuse(entry.at, f"metadata {key!r} stands twice")
        if key == _SESSION_SETTINGS:
            raise self._reader.refuse(entry.at, f"settings for onnxruntime (metadata {key!r})")
        self.seen.metadata[key] = texts.get("value", "")

    def _graph(self, graph: Found) -> None:
        for found in self._reader.fields("GraphProto", graph.start, graph.end):
            name = found.field.name
            if name == "node":
                self._node(found)
            elif name == "initializer":
                self._initializer(found)
            elif name in ("input", "output", "value_info"):
                self._form(found)

    def _node(self, node: Found) -> None:
        operator, attributes, names = "", dict[str, _Attribute](), Counter[str]()
        for found in self._reader.fields("NodeProto", node.start, node.end):
            name = found.field.name
            if name == "op_type":
                operator = self._reader.text(found)
            elif name == "domain" and self._reader.text(found):
                raise self._reader.refuse(
                    found.at, f"a node of domain {self._reader.text(found)!r}", "the standard one, ''"
                )
            elif name == "attribute":
                attribute = self._attribute(found)
                if attribute.name in attributes:
                    raise self._reader.refuse(found.at, f"attribute {attribute.name!r} twice", "once")
                attributes[attribute.name] = attribute
            elif name in ("input", "output"):
                names[name] += 1
                names["empty"] += name == "input" and found.start == found.end
        self._check_operator(node.at, operator, names)
        self._check_meaning(node.at, operator, attributes)
        self._check_parts(node.at, operator, attributes, names["output"])
        self.seen.operators[operator] += 1
        self.seen.nodes += 1
        if self.seen.nodes > MOST_NODES:
            raise self._reader.refuse(node.at, f"more than {MOST_NODES} nodes")

    def _check_operator(self, at: int, operator: str, names: Counter[str]) -> None:
        if operator not in OPERATORS:
            raise self._reader.refuse(
                at, f"operator {operator!r}", "one of the operators that small image models need"
            )
        if max(names["input"], names["output"]) > MOST_INPUTS:
            raise self._reader.refuse(at, f"a node of more than {MOST_INPUTS} inputs or outputs")
        if names["empty"] and operator not in WITH_GAPS:
            raise self._reader.refuse(at, f"an input of {operator} that is left empty", "a name")

    def _check_meaning(self, at: int, operator: str, attributes: Mapping[str, _Attribute]) -> None:
        """Refuse what makes far more than it is given."""
        for name, largest in LARGEST_INTS.items():
            numbers = attributes[name].ints if name in attributes else []
            if len(numbers) > 2 * MOST_DIMENSIONS:  # two for each dimension are most: paddings
                raise self._reader.refuse(
                    at, f"{name} of {len(numbers)} numbers", f"at most {2 * MOST_DIMENSIONS}"
                )
            for number in numbers:
                if number > largest:
                    raise self._reader.refuse(at, f"{name} of {_signed(number)}", f"from 0 to {largest}")
        if operator == "ConvTranspose" and "strides" in attributes:
            self.seen.growth *= max(1, prod(attributes["strides"].ints))
            if self.seen.growth > MOST_GROWTH:
                raise self._reader.refuse(
                    at, f"images made {self.seen.growth} times larger", f"at most {MOST_GROWTH} times"
                )
        if operator == "Cast" and "to" in attributes and not {*attributes["to"].ints} <= ELEMENTS.keys():
            raise self._reader.refuse(at, "a cast to another type", "a type of plain numbers")

    def _check_parts(
        self, at: int, operator: str, attributes: Mapping[str, _Attribute], outputs: int
    ) -> None:
        """Refuse a Split into another number of parts than it has outputs: onnxruntime 1.32 dies of fewer parts."""
        if operator == "Split" and "num_outputs" in attributes:
            parts = attributes["num_outputs"].ints
            if parts != [outputs]:
                said = str(_signed(parts[0])) if len(parts) == 1 else f"{len(parts)} numbers"
                raise self._reader.refuse(at, f"num_outputs of {said}", f"{outputs}, as there are outputs")

    def _attribute(self, message: Found) -> _Attribute:
        attribute = _Attribute()
        for found in self._reader.fields("AttributeProto", message.start, message.end):
            name = found.field.name
            if name == "name":
                attribute.name = self._reader.text(found)
            elif name == "type":
                attribute.kind = found.number or 0
            elif name != "doc_string":
                attribute.values.add(name)
            if name == "t":
                self._tensor(found)
            elif name in ("i", "ints"):
                attribute.ints.extend(self._reader.numbers(found))
            elif name == "floats":
                self._reader.count_floats(found)
        value = VALUE_FIELDS.get(attribute.kind)
        # An empty list leaves no field behind; everything else stands in the field that the type names.
        if attribute.values != {value} and not (value in ("floats", "ints") and not attribute.values):
            values = ", ".join(sorted(attribute.values)) or "no field"
            raise self._reader.refuse(
                message.at,
                f"attribute {attribute.name!r} of type {attribute.kind} with its value in {values}",
            )
        return attribute

    def _initializer(self, message: Found) -> None:
        tensor = self._tensor(message)
        if tensor.name in self.seen.initializers:
            raise self._reader.refuse(message.at, f"initializer {tensor.name!r} twice", "once")
        self.seen.initializers.add(tensor.name)

    def _tensor(self, message: Found) -> _Tensor:
        tensor = _Tensor()
        for found in self._reader.fields("TensorProto", message.start, message.end):
            name = found.field.name
            if name == "name":
                tensor.name = self._reader.text(found)
            elif name == "dims":
                tensor.dims.extend(self._reader.numbers(found))
            elif name == "data_type":
                tensor.element = found.number or 0
            elif name == "raw_data":
                tensor.raw_bytes = found.end - found.start
            elif name == "float_data":
                tensor.typed[name] = tensor.typed.get(name, 0) + self._reader.count_floats(found)
            elif name in ("int32_data", "int64_data"):
                tensor.typed[name] = tensor.typed.get(name, 0) + len(self._reader.numbers(found))
            elif name == "data_location" and found.number:
                raise self._reader.refuse(found.at, "external data", "every tensor inside the file")
        self._check_size(message.at, tensor)
        self.seen.tensors += 1
        if self.seen.tensors > MOST_TENSORS:
            raise self._reader.refuse(message.at, f"more than {MOST_TENSORS} tensors")
        return tensor

    def _check_size(self, at: int, tensor: _Tensor) -> None:
        """Refuse a tensor whose shape claims more or fewer numbers than it holds."""
        element = ELEMENTS.get(tensor.element)
        if element is None:
            raise self._reader.refuse(
                at, f"a tensor of data type {tensor.element}", "a type of plain numbers"
            )
        if len(tensor.dims) > MOST_DIMENSIONS or max(tensor.dims, default=0) > _LARGEST_DIMENSION:
            shape = [_signed(size) for size in tensor.dims[: MOST_DIMENSIONS + 1]]
            raise self._reader.refuse(at, f"a tensor of shape {shape}")
        count = prod(tensor.dims)
        if tensor.raw_bytes is not None:
            right = not tensor.typed and tensor.raw_bytes == count * element.bytes
        else:
            right = {*tensor.typed} <= {element.typed_field} and sum(tensor.typed.values()) == count
        if not right:
            held = [f"{tensor.raw_bytes} bytes in raw_data"] * (tensor.raw_bytes is not None)
            held += [f"{numbers} in {name}" for name, numbers in tensor.typed.items()]
            raise self._reader.refuse(
                at,
                f"a tensor of {count} numbers of data type {tensor.element} with {' and '.join(held) or 'no data'}",
                f"{count * element.bytes} bytes in raw_data",
            )
        self.seen.parameters += count

    def _form(self, message: Found) -> None:
        """Check a message and those inside it against the list, without looking at what they say."""
        names = Counter[str]()
        for found in self._reader.fields(message.field.message or "", message.start, message.end):
            names[found.field.name] += 1
            if found.field.message is not None:
                self._form(found)
        if names["dim"] > MOST_DIMENSIONS:
            raise self._reader.refuse(message.at, f"a shape of more than {MOST_DIMENSIONS} dimensions")
        if names["dim_value"] and names["dim_param"]:
            raise self._reader.refuse(message.at, "a dimension with a number and a name", "one of them")


def _signed(number: int) -> int:
    """Return what a number of 64 bits means where it may be negative."""
    return number - 2**64 if number >= 2**63 else number
