"""The part of ONNX that a bundle's graph may use: fields, their wire types, and operators.

An allow-list: what is not named here is refused. Numbers are those of onnx.proto; messages that could hold
a graph inside a graph, code, or the name of a file are left out on purpose: local functions, subgraphs,
sparse tensors, external data, training information, references to attributes of functions.
"""

from __future__ import annotations

from typing import NamedTuple

# Wire types of protobuf (https://protobuf.dev/programming-guides/encoding/).
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message."""

    name: str
    wire_types: tuple[int, ...]
    repeated: bool = False
    message: str | None = None
    """The kind of message that it holds, where it holds one."""


def _number(name: str, *, repeated: bool = False) -> Field:
    return Field(
        name, (VARINT, LENGTH) if repeated else (VARINT,), repeated
    )  # repeated numbers may be packed


def _bytes(name: str, *, repeated: bool = False) -> Field:
    return Field(name, (LENGTH,), repeated)


def _message(name: str, message: str, *, repeated: bool = False) -> Field:
    return Field(name, (LENGTH,), repeated, message)


MESSAGES: dict[str, dict[int, Field]] = {
    "ModelProto": {
        1: _number("ir_version"),
        2: _bytes("producer_name"),
        3: _bytes("producer_version"),
        4: _bytes("domain"),
        5: _number("model_version"),
        6: _bytes("doc_string"),
        7: _message("graph", "GraphProto"),
        8: _message("opset_import", "OperatorSetIdProto", repeated=True),
        14: _message("metadata_props", "StringStringEntryProto", repeated=True),
    },
    "OperatorSetIdProto": {1: _bytes("domain"), 2: _number("version")},
    "StringStringEntryProto": {1: _bytes("key"), 2: _bytes("value")},
    "GraphProto": {
        1: _message("node", "NodeProto", repeated=True),
        2: _bytes("name"),
        5: _message("initializer", "TensorProto", repeated=True),
        10: _bytes("doc_string"),
        11: _message("input", "ValueInfoProto", repeated=True),
        12: _message("output", "ValueInfoProto", repeated=True),
        13: _message("value_info", "ValueInfoProto", repeated=True),
    },
    "NodeProto": {
        1: _bytes("input", repeated=True),
        2: _bytes("output", repeated=True),
        3: _bytes("name"),
        4: _bytes("op_type"),
        5: _message("attribute", "AttributeProto", repeated=True),
        6: _bytes("doc_string"),
        7: _bytes("domain"),
    },
    "AttributeProto": {
        1: _bytes("name"),
        2: Field("f", (FIXED32,)),
        3: _number("i"),
        4: _bytes("s"),
        5: _message("t", "TensorProto"),
        7: Field("floats", (FIXED32, LENGTH), repeated=True),
        8: _number("ints", repeated=True),
        13: _bytes("doc_string"),
        20: _number("type"),
    },
    "TensorProto": {
        1: _number("dims", repeated=True),
        2: _number("data_type"),
        4: Field("float_data", (FIXED32, LENGTH), repeated=True),
        5: _number("int32_data", repeated=True),
        7: _number("int64_data", repeated=True),
        8: _bytes("name"),
        9: _bytes("raw_data"),
        12: _bytes("doc_string"),
        14: _number("data_location"),
    },
    "ValueInfoProto": {1: _bytes("name"), 2: _message("type", "TypeProto"), 3: _bytes("doc_string")},
    "TypeProto": {1: _message("tensor_type", "TypeProto.Tensor"), 6: _bytes("denotation")},
    "TypeProto.Tensor": {1: _number("elem_type"), 2: _message("shape", "TensorShapeProto")},
    "TensorShapeProto": {1: _message("dim", "TensorShapeProto.Dimension", repeated=True)},
    "TensorShapeProto.Dimension": {1: _number("dim_value"), 2: _bytes("dim_param"), 3: _bytes("denotation")},
}

# What a refused field would have brought in, for messages that say more than a number.
REFUSED_FIELDS: dict[tuple[str, int], str] = {
    ("ModelProto", 20): "training information",
    ("ModelProto", 25): "local functions",
    ("ModelProto", 26): "device configurations",
    ("GraphProto", 14): "quantization annotations",
    ("GraphProto", 15): "sparse initializers",
    ("NodeProto", 8): "an overload of a local function",
    ("NodeProto", 10): "device configurations",
    ("AttributeProto", 6): "a subgraph",
    ("AttributeProto", 9): "text attributes",
    ("AttributeProto", 10): "a list of tensors",
    ("AttributeProto", 11): "subgraphs",
    ("AttributeProto", 21): "a reference to a function's attribute",
    ("AttributeProto", 22): "a sparse tensor",
    ("AttributeProto", 23): "sparse tensors",
    ("TensorProto", 3): "a tensor in segments",
    ("TensorProto", 6): "text tensors",
    ("TensorProto", 13): "external data",
    ("TypeProto", 4): "a sequence",
    ("TypeProto", 5): "a map",
    ("TypeProto", 7): "an opaque type",
    ("TypeProto", 8): "a sparse tensor type",
    ("TypeProto", 9): "an optional type",
}

# Operators of small image models, none of which can open a file, draw at random, hold a subgraph, or make an
# output whose size its input does not already bound (as Expand, Tile, ConstantOfShape and Range can).
OPERATORS = frozenset(
    {
        "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv", "ConvInteger",
        "ConvTranspose", "DepthToSpace", "DequantizeLinear", "Div", "Elu", "Erf", "Exp", "Flatten", "Gather", "Gelu",
        "Gemm", "GlobalAveragePool", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization",
        "LayerNormalization", "LeakyRelu", "Log", "MatMul", "MatMulInteger", "Max", "Min", "Mul", "Neg", "Pow",
        "QLinearConv", "QLinearMatMul", "QuantizeLinear", "Reciprocal", "ReduceMean", "ReduceSum", "Relu", "Reshape",
        "Shape", "Sigmoid", "Slice", "Softmax", "Softplus", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Tanh",
        "Transpose", "Unsqueeze",
    }
)  # fmt: skip
