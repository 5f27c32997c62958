"""The part of ONNX that a bundle's graph may use: fields, their wire types, and operators.

An allow-list: what is not named here is refused. Numbers are those of onnx.proto; messages that could hold
a graph inside a graph, code, or the name of a file are left out on purpose: local functions, subgraphs,
sparse tensors, external data, training information, references to attributes of functions.
"""

from __future__ import annotations

from typing import NamedTuple

# Wire types of protobuf (https://protobuf.dev/programming-guides/encoding/).
VARINT, LENGTH, FIXED32 = 0, 2, 5

LONGEST_NAME = 1024  # bytes
LONGEST_TEXT = 1 << 20  # bytes, of documentation and metadata


class Field(NamedTuple):
    """One field of a message."""

    name: str
    wire_types: tuple[int, ...]
    repeated: bool = False
    message: str | None = None
    """The kind of message that it holds, where it holds one."""
    longest: int | None = None
    """The most bytes of its text, where it holds text."""


def _number(name: str) -> Field:
    return Field(name, (VARINT,))


def _numbers(name: str) -> Field:
    return Field(name, (VARINT, LENGTH), repeated=True)  # may be packed


def _floats(name: str) -> Field:
    return Field(name, (FIXED32, LENGTH), repeated=True)


def _text(name: str, longest: int = LONGEST_NAME, *, repeated: bool = False) -> Field:
    return Field(name, (LENGTH,), repeated, longest=longest)


def _message(name: str, message: str, *, repeated: bool = False) -> Field:
    return Field(name, (LENGTH,), repeated, message)


MESSAGES: dict[str, dict[int, Field]] = {
    "ModelProto": {
        1: _number("ir_version"),
        2: _text("producer_name"),
        3: _text("producer_version"),
        4: _text("domain"),
        5: _number("model_version"),
        6: _text("doc_string", LONGEST_TEXT),
        7: _message("graph", "GraphProto"),
        8: _message("opset_import", "OperatorSetIdProto", repeated=True),
        14: _message("metadata_props", "StringStringEntryProto", repeated=True),
    },
    "OperatorSetIdProto": {1: _text("domain"), 2: _number("version")},
    "StringStringEntryProto": {1: _text("key"), 2: _text("value", LONGEST_TEXT)},
    "GraphProto": {
        1: _message("node", "NodeProto", repeated=True),
        2: _text("name"),
        5: _message("initializer", "TensorProto", repeated=True),
        10: _text("doc_string", LONGEST_TEXT),
        11: _message("input", "ValueInfoProto", repeated=True),
        12: _message("output", "ValueInfoProto", repeated=True),
        13: _message("value_info", "ValueInfoProto", repeated=True),
    },
    "NodeProto": {
        1: _text("input", repeated=True),
        2: _text("output", repeated=True),
        3: _text("name"),
        4: _text("op_type"),
        5: _message("attribute", "AttributeProto", repeated=True),
        6: _text("doc_string", LONGEST_TEXT),
        7: _text("domain"),
    },
    "AttributeProto": {
        1: _text("name"),
        2: Field("f", (FIXED32,)),
        3: _number("i"),
        4: _text("s"),
        5: _message("t", "TensorProto"),
        7: _floats("floats"),
        8: _numbers("ints"),
        13: _text("doc_string", LONGEST_TEXT),
        20: _number("type"),
    },
    "TensorProto": {
        1: _numbers("dims"),
        2: _number("data_type"),
        4: _floats("float_data"),
        5: _numbers("int32_data"),
        7: _numbers("int64_data"),
        8: _text("name"),
        9: Field("raw_data", (LENGTH,)),
        12: _text("doc_string", LONGEST_TEXT),
        14: _number("data_location"),
    },
    "ValueInfoProto": {
        1: _text("name"),
        2: _message("type", "TypeProto"),
        3: _text("doc_string", LONGEST_TEXT),
    },
    "TypeProto": {1: _message("tensor_type", "TypeProto.Tensor"), 6: _text("denotation")},
    "TypeProto.Tensor": {1: _number("elem_type"), 2: _message("shape", "TensorShapeProto")},
    "TensorShapeProto": {1: _message("dim", "TensorShapeProto.Dimension", repeated=True)},
    "TensorShapeProto.Dimension": {1: _number("dim_value"), 2: _text("dim_param"), 3: _text("denotation")},
}

# What a refused field would have brought in, for messages that say more than a number.
REFUSED_FIELDS: dict[tuple[str, int], str] = {
    ("ModelProto", 20): "training information",
    ("ModelProto", 25): "local functions",
    ("ModelProto", 26): "device configurations",
    ("GraphProto", 14): "quantization annotations",
    ("GraphProto", 15): "sparse initializers",
    ("GraphProto", 16): "metadata",
    ("NodeProto", 8): "an overload of a local function",
    ("NodeProto", 9): "metadata",
    ("NodeProto", 10): "device configurations",
    ("AttributeProto", 6): "a subgraph",
    ("AttributeProto", 9): "a list of texts",
    ("AttributeProto", 10): "a list of tensors",
    ("AttributeProto", 11): "subgraphs",
    ("AttributeProto", 14): "a type",
    ("AttributeProto", 15): "types",
    ("AttributeProto", 21): "a reference to a function's attribute",
    ("AttributeProto", 22): "a sparse tensor",
    ("AttributeProto", 23): "sparse tensors",
    ("TensorProto", 3): "a segment of a tensor",
    ("TensorProto", 6): "a tensor of texts",
    ("TensorProto", 10): "double_data instead of raw_data",
    ("TensorProto", 11): "uint64_data instead of raw_data",
    ("TensorProto", 13): "external data",
    ("TensorProto", 16): "metadata",
    ("ValueInfoProto", 4): "metadata",
    ("TypeProto", 4): "a sequence",
    ("TypeProto", 5): "a map",
    ("TypeProto", 7): "an opaque type",
    ("TypeProto", 8): "a sparse tensor type",
    ("TypeProto", 9): "an optional type",
}

# The field that an attribute's value stands in, by AttributeProto.AttributeType.
VALUE_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}


class Element(NamedTuple):
    """How one number of a tensor is stored."""

    bytes: int
    """In raw_data."""
    typed_field: str | None
    """Where it may stand instead."""


# By TensorProto.DataType. Missing on purpose: text (8), complex numbers (14, 15), those of less than a byte and
# of 8 bits in floating point (17 to 26).
ELEMENTS = {
    1: Element(4, "float_data"),  # float32
    2: Element(1, "int32_data"),  # uint8
    3: Element(1, "int32_data"),  # int8
    4: Element(2, "int32_data"),  # uint16
    5: Element(2, "int32_data"),  # int16
    6: Element(4, "int32_data"),  # int32
    7: Element(8, "int64_data"),  # int64
    9: Element(1, "int32_data"),  # bool
    10: Element(2, "int32_data"),  # float16
    11: Element(8, None),  # float64
    12: Element(4, None),  # uint32
    13: Element(8, None),  # uint64
    16: Element(2, "int32_data"),  # bfloat16
}

# Operators of small image models: convolutions with their normalisations and activations, attention, 8-bit
# weights, and priors that are flows or mixtures. None can open a file, draw at random or hold a subgraph, and
# those that make a large output from nothing are left out: ConstantOfShape, Expand, Pad, Range, Resize, Tile...
OPERATORS = frozenset(
    {
        "Add", "ArgMax", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv",
        "ConvTranspose", "DepthToSpace", "DequantizeLinear", "Div", "Elu", "Erf", "Exp", "Flatten", "Gather", "Gelu",
        "Gemm", "GlobalAveragePool", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity",
        "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Log", "MatMul", "Max", "Min", "Mul", "Neg", "Pow",
        "QuantizeLinear", "Reciprocal", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid", "Slice",
        "Softmax", "Softplus", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
    }
)  # fmt: skip

# Operators with an optional input before another one. onnxruntime 1.32 dies of a LayerNormalization whose bias is
# there by an empty name; what is not needed is left out at the end.
WITH_GAPS = frozenset({"Clip", "Slice"})

# The largest whole number in attributes that an output's size or the work grows with.
LARGEST_INTS = {
    "blocksize": 64,
    "dilations": 64,
    "kernel_shape": 256,
    "output_padding": 64,
    "output_shape": 1024,
    "pads": 256,
    "strides": 64,
}
