"""What the scan says of a graph, against the onnx package's own parser.

Whatever bytes pass the scan, the onnx package must read: the same operators, tensors and metadata, and nothing
that a bundle's graph may not hold.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from vae_runtime.errors import UnsafeBundleError
from vae_runtime.onnx_schema import ELEMENTS, MESSAGES, OPERATORS, REFUSED_FIELDS, VALUE_FIELDS, Field
from vae_runtime.scan import Scan, scan

GRAPHS = sorted(Path(__file__).parents[2].glob("tests/assets/*/*.onnx"))
Change = Callable[[random.Random, bytes], bytes]


def compare(seen: Scan, model: onnx.ModelProto) -> None:
    """The scan's report must be what the model is, and the model must hold nothing else."""
    assert model.ir_version % 2**64 == seen.ir_version
    assert [entry.domain for entry in model.opset_import] == [""]
    assert model.opset_import[0].version % 2**64 == seen.opset
    assert Counter(node.op_type for node in model.graph.node) == seen.operators
    assert {node.domain for node in model.graph.node} == {""}
    assert {entry.key: entry.value for entry in model.metadata_props} == seen.metadata
    tensors = [message for message in walk(model) if isinstance(message, TensorProto)]
    assert len(tensors) == seen.tensors
    assert sum(int(np.prod(tensor.dims, dtype=object)) for tensor in tensors) == seen.parameters
    for tensor in tensors:
        assert (tensor.data_location, len(tensor.external_data)) == (TensorProto.DEFAULT, 0)
        assert numpy_helper.to_array(tensor).size == int(np.prod(tensor.dims, dtype=object))
    for message in walk(model):
        assert len(UnknownFieldSet(message)) == 0
        for found, _ in message.ListFields():
            assert found.number in MESSAGES[message.DESCRIPTOR.full_name.removeprefix("onnx.")]
        if isinstance(message, AttributeProto):
            used = {found.name for found, _ in message.ListFields()} - {"name", "type", "doc_string"}
            assert used <= {VALUE_FIELDS[message.type]}


def walk(message: Message) -> Iterator[Message]:
    """The message and all those inside it."""
    yield message
    for found, value in message.ListFields():
        if found.type == found.TYPE_MESSAGE:
            for inner in value if found.is_repeated else [value]:
                yield from walk(inner)


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_scan_and_the_onnx_package_agree_on_our_graphs(path: Path) -> None:
    data = path.read_bytes()
    compare(scan(data, "graph"), onnx.load_model_from_string(data))


def unusual_model() -> bytes:
    """Everything that the list lets through, at least once: kinds of attributes, tensors and dimensions."""
    tensors = [
        helper.make_tensor("raw", TensorProto.FLOAT, [2, 2], bytes(16), raw=True),
        helper.make_tensor("floats", TensorProto.FLOAT, [3], [1, 2, 3]),
        helper.make_tensor("longs", TensorProto.INT64, [2], [-1, 2**40]),
        helper.make_tensor("ints", TensorProto.INT32, [2], [-1, 2]),
        helper.make_tensor("bytes", TensorProto.INT8, [2], [-1, 2]),
        helper.make_tensor("bools", TensorProto.BOOL, [2], [True, False]),
        helper.make_tensor("halves", TensorProto.FLOAT16, [2], [1, 2]),
        helper.make_tensor("nothing", TensorProto.FLOAT, [0, 3], []),
        helper.make_tensor("scalar", TensorProto.FLOAT, [], [1]),
    ]
    nodes = [
        helper.make_node("Constant", [], ["c"], value=tensors[1], doc_string="about it", name="constant"),
        helper.make_node("LeakyRelu", ["x"], ["y"], alpha=0.5),
        helper.make_node("Conv", ["y", "raw"], ["z"], pads=[0, 1, 0, 1], auto_pad="NOTSET", group=1),
        helper.make_node("Softmax", ["z"], ["s"], axis=-1),
        helper.make_node("Constant", [], ["f"], value_floats=[1.0, 2.0]),
    ]
    graph = helper.make_graph(
        nodes,
        "unusual",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("s", TensorProto.FLOAT, None)],
        tensors,
        doc_string="a graph",
        value_info=[helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", None])],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="us"
    )
    helper.set_model_props(model, {"one": "1", "two": "zwei"})
    data: bytes = model.SerializeToString()
    return data


def test_the_scan_and_the_onnx_package_agree_on_what_is_unusual() -> None:
    data = unusual_model()
    compare(scan(data, "graph"), onnx.load_model_from_string(data))


ROUNDS = 1200
NUMBERS = [0, 1, 2, 3, 7, 8, 2**31 - 1, -1, -(2**31)]


def changed_somewhere(dice: random.Random, data: bytes) -> bytes:
    """The model with one field of one message set, added to, or taken away."""
    model = onnx.load_model_from_string(data)
    message = dice.choice(list(walk(model)))
    field = dice.choice(list(message.DESCRIPTOR.fields))
    if dice.random() < 0.2:
        message.ClearField(field.name)
    elif field.type == field.TYPE_MESSAGE:
        inner = getattr(message, field.name)
        inner.add() if field.is_repeated else inner.SetInParent()
    else:
        number = dice.choice(NUMBERS)
        texts = dice.choice(["", "x", "\u00e9", "Relu", "ai.onnx"])
        values = {"float": float(number), "int": number, "str": texts, "bytes": texts.encode()}
        for value in values.values():
            try:  # whichever kind the field takes
                getattr(message, field.name).append(value) if field.is_repeated else setattr(
                    message, field.name, value
                )
                break
            except (TypeError, ValueError):
                continue
    return model.SerializeToString()


def changed_bytes(dice: random.Random, data: bytes) -> bytes:
    """The model with one byte changed, put in or taken out, or a run of bytes repeated."""
    at = dice.randrange(len(data))
    byte = bytes([dice.choice([0, 1, 2, 0x7F, 0x80, 0xFF, data[at] ^ 1 << dice.randrange(8)])])
    length = dice.randint(1, 20)
    return dice.choice(
        [
            data[:at] + byte + data[at + 1 :],
            data[:at] + byte + data[at:],
            data[:at] + data[at + 1 :],
            data[:at] + data[at : at + length] * 2 + data[at + length :],
        ]
    )


@pytest.mark.parametrize("change", [changed_somewhere, changed_bytes])
def test_changed_models_that_pass_the_scan_are_read_alike_by_the_onnx_package(change: Change) -> None:
    dice = random.Random(change.__name__)  # noqa: S311 - not a secret
    original, passed = unusual_model(), 0
    for _ in range(ROUNDS):
        data = change(dice, original)
        try:
            seen = scan(data, "graph")
        except UnsafeBundleError:
            continue
        compare(seen, onnx.load_model_from_string(data))
        passed += 1
    assert passed > 50  # or nothing was compared


# The list itself, against onnx.proto.

SCALARS = {
    "TYPE_FLOAT": 5,
    "TYPE_INT32": 0,
    "TYPE_INT64": 0,
    "TYPE_ENUM": 0,
    "TYPE_STRING": 2,
    "TYPE_BYTES": 2,
    "TYPE_MESSAGE": 2,
}


def descriptor_of(kind: str) -> Descriptor:
    outer, *inner = kind.split(".")
    descriptor = onnx.ModelProto.DESCRIPTOR.file.message_types_by_name[outer]
    for name in inner:
        descriptor = descriptor.nested_types_by_name[name]
    return descriptor


@pytest.mark.parametrize("kind", MESSAGES)
def test_the_list_says_what_onnx_proto_says(kind: str) -> None:
    descriptor = descriptor_of(kind)
    wire_types = {getattr(FieldDescriptor, name): wire_type for name, wire_type in SCALARS.items()}
    for number, field in MESSAGES[kind].items():
        found = descriptor.fields_by_number[number]
        packable = found.is_repeated and wire_types[found.type] != 2
        assert field == Field(
            found.name,
            (wire_types[found.type], 2) if packable else (wire_types[found.type],),
            bool(found.is_repeated),
            found.message_type.full_name.removeprefix("onnx.") if found.message_type else None,
            field.longest,
        )
        is_text = found.type == FieldDescriptor.TYPE_STRING or found.name == "s"
        is_long = found.name == "doc_string" or (kind, found.name) == ("StringStringEntryProto", "value")
        assert field.longest == ((1 << 20 if is_long else 1024) if is_text else None)


def test_every_field_that_onnx_knows_is_either_on_the_list_or_refused_by_its_name() -> None:
    for kind, schema in MESSAGES.items():
        refused = {number for message, number in REFUSED_FIELDS if message == kind}
        assert set(descriptor_of(kind).fields_by_number) <= {*schema, *refused}


def test_the_sizes_of_numbers_are_those_of_onnx() -> None:
    for number, element in ELEMENTS.items():
        assert np.zeros(1, helper.tensor_dtype_to_np_dtype(number)).nbytes == element.bytes
        if element.typed_field:
            assert helper.tensor_dtype_to_field(number) == element.typed_field


def test_the_types_of_attributes_are_those_of_onnx() -> None:
    names = {"f": "FLOAT", "i": "INT", "s": "STRING", "t": "TENSOR", "floats": "FLOATS", "ints": "INTS"}
    assert {AttributeProto.AttributeType.Value(names[field]): field for field in names} == VALUE_FIELDS


def test_every_operator_on_the_list_is_one_of_onnx_without_subgraphs_and_without_chance() -> None:
    for operator in OPERATORS:
        schema = onnx.defs.get_schema(operator)
        assert schema.domain == ""
        kinds = {attribute.type for attribute in schema.attributes.values()}
        assert not kinds & {onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS}
        assert "seed" not in schema.attributes
