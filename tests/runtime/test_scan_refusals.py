"""What the gate before onnxruntime refuses, with the reason and the place."""

from __future__ import annotations

import re

import numpy as np
import onnx_bytes as onnx
import pytest
from little_graphs import OPSET, RELU, model, with_attribute, with_input, with_ints, with_tensor

from vae_runtime.errors import UnsafeBundleError
from vae_runtime.scan import MOST_INPUTS, MOST_NODES, MOST_TENSORS, scan

SUBGRAPH = onnx.message((1, RELU))
REFUSED = {
    "a local function": (model((1, RELU), more=(OPSET, (25, onnx.message((1, "f"))))), "local functions"),
    "training information": (model((1, RELU), more=(OPSET, (20, b""))), "training information"),
    "a subgraph": (with_attribute((6, SUBGRAPH), (20, 5)), "a subgraph"),
    "subgraphs": (with_attribute((11, SUBGRAPH), (20, 10)), "subgraphs"),
    "a sparse attribute": (with_attribute((22, b""), (20, 11)), "a sparse tensor"),
    "sparse attributes": (with_attribute((23, b""), (20, 12)), "sparse tensors"),
    "a list of texts": (with_attribute((9, "a"), (20, 8)), "a list of texts"),
    "a sparse initializer": (model((1, RELU), (15, b"")), "sparse initializers"),
    "an attribute of a function": (
        with_attribute((21, "other"), (20, 2)),
        "a reference to a function's attribute",
    ),
    "external data": (model((1, RELU), (5, onnx.outside_constant("w", [2], "../secret"))), "external data"),
    "external data that does not say so": (
        with_tensor((1, 1), (2, 1), (9, b"1234"), (13, onnx.message((1, "location"), (2, "secret")))),
        "external data in a TensorProto",
    ),
    "external data by location alone": (
        with_tensor((2, 1), (14, 1)),
        "refused: external data at byte 22; expected every tensor inside the file",
    ),
    # Parsers keep 32 bits of an enumeration: this is 1 to onnxruntime.
    "external data by a location above 32 bits": (with_tensor((2, 1), (14, 2**32 + 1)), "external data"),
    "an unknown location": (with_tensor((2, 1), (14, 2)), "external data"),
    "external data in an attribute": (
        with_attribute((5, onnx.outside_constant("w", [2], "secret")), (20, 4)),
        "external data",
    ),
    "a node of another domain": (
        model((1, RELU + onnx.message((7, "com.evil")))),
        "a node of domain 'com.evil' at byte 18; expected the standard one, ''",
    ),
    "the standard domain's other name": (
        model((1, RELU + onnx.message((7, "ai.onnx")))),
        "a node of domain 'ai.onnx'",
    ),
    "another operator set": (
        model((1, RELU), more=(OPSET, (8, onnx.message((1, "com.evil"), (2, 1))))),
        "operator sets of domains '', 'com.evil'; expected the standard one alone, ''",
    ),
    "the standard operator set twice": (
        model((1, RELU), more=(OPSET, OPSET)),
        "operator sets of domains '', ''",
    ),
    "no operator set": (model((1, RELU), more=()), "operator sets of domains none"),
    "two graphs": (model((1, RELU), more=(OPSET, (7, SUBGRAPH))), "ModelProto.graph twice"),
    "metadata twice": (
        model((1, RELU), more=(OPSET, *[(14, onnx.message((1, "k"), (2, v))) for v in "ab"])),
        "metadata 'k' stands twice at byte 30",
    ),
    "settings for onnxruntime": (
        model((1, RELU), more=(OPSET, (14, onnx.message((1, "ort_config"), (2, "{}"))))),
        "settings for onnxruntime (metadata 'ort_config') at byte 22",
    ),
    "an input left empty": (
        model((1, onnx.node("LayerNormalization", ["x", "scale", ""], ["y"]))),
        "an input of LayerNormalization that is left empty at byte 4; expected a name",
    ),
    "an initializer twice": (
        model((1, RELU), *[(5, onnx.constant("w", np.ones(1, np.float32)))] * 2),
        "initializer 'w' twice at byte 33; expected once",
    ),
    "no nodes": (model((2, "empty")), "not an ONNX model: no graph with operators in it"),
    "nothing": (b"", "not an ONNX model: no graph with operators in it"),
    "text": (b"not a model at all", "field 13 in a ModelProto at byte 0; expected an ONNX model"),
    "the ORT format": (
        b"\x18\x00\x00\x00ORTM" + bytes(64),
        "onnxruntime's own format; expected an ONNX model",
    ),
    # onnxruntime looks at bytes 4 to 7 first; to a parser of ONNX they are a producer's name here.
    "a model that is also of the ORT format": (
        onnx.message((2, "--ORTM")) + model((1, RELU)),
        "onnxruntime's own format",
    ),
    "a zip archive": (b"PK\x03\x04" + bytes(26), "refused"),
    # Protobuf keeps 32 bits of a tag: onnxruntime would read this as TensorProto.external_data.
    "a tag of 33 bits": (
        model((1, RELU), (5, onnx.message((2, 1)) + onnx.varint(1 << 32 | 13 << 3 | 2) + b"\x00")),
        "field 536870925",
    ),
    # Tensors: as many numbers as their shape says, in one place.
    "a tensor of text": (
        with_tensor((2, 8)),
        "a tensor of data type 8 at byte 18; expected a type of plain numbers",
    ),
    "a tensor of nothing": (with_tensor((1, 1)), "data type 0"),
    "a tensor that says that it is of nothing": (
        with_tensor((1, 1), (2, 0), (9, b"1234")),
        "data type 0 at byte 18",
    ),
    "ten dimensions": (
        with_tensor((1, bytes([1] * 10)), (2, 1), (9, b"1234")),
        "a tensor of shape [1, 1, 1, 1, 1, 1, 1, 1, 1] at byte 18",
    ),
    "a tensor of a type above 32 bits": (with_tensor((2, 2**32 + 1)), "data type 4294967297"),
    "a tensor larger than its bytes": (
        with_tensor((1, 2**30), (2, 1), (9, b"1234")),
        "with 4 bytes in raw_data at byte 18; expected 4294967296 bytes in raw_data",
    ),
    "a tensor smaller than its bytes": (
        with_tensor((1, 1), (2, 1), (9, b"12345678")),
        "a tensor of 1 numbers",
    ),
    "a tensor without its numbers": (
        with_tensor((1, 2**30), (2, 1)),
        "a tensor of 1073741824 numbers of data type 1 with no data",
    ),
    "a number without a value": (with_tensor((2, 1)), "a tensor of 1 numbers of data type 1 with no data"),
    "a tensor in two places": (
        with_tensor((1, 1), (2, 1), (9, b"1234"), (4, b"1234")),
        "with 4 bytes in raw_data and 1 in float_data",
    ),
    "empty raw data beside numbers": (
        with_tensor((1, 1), (2, 7), (7, 1), (9, b"")),
        "with 0 bytes in raw_data and 1 in int64_data",
    ),
    "no numbers in two places": (
        with_tensor((1, 0), (2, 7), (7, b""), (9, b"")),
        "with 0 bytes in raw_data and 0 in int64_data",
    ),
    "numbers in the wrong place": (
        with_tensor((1, 1), (2, 7), (5, 1)),
        "of data type 7 with 1 in int32_data",
    ),
    "float numbers in the wrong place": (
        with_tensor((1, 1), (2, 11), (4, b"1234")),
        "of data type 11 with 1 in float_data",
    ),
    "numbers in two places": (
        with_tensor((1, 2), (2, 6), (5, 1), (7, 1)),
        "with 1 in int32_data and 1 in int64_data",
    ),
    "a tensor of too few numbers": (
        with_tensor((1, 3), (2, 7), (7, 1), (7, 1)),
        "a tensor of 3 numbers of data type 7 with 2 in int64_data",
    ),
    "a tensor of too many numbers": (with_tensor((1, 1), (2, 7), (7, b"\1\1")), "with 2 in int64_data"),
    "half a number": (with_tensor((1, 1), (2, 1), (4, b"12")), "2 bytes of float_data"),
    "a dimension below zero": (with_tensor((1, 2**64 - 1), (2, 1)), "a tensor of shape [-1]"),
    "a dimension above 31 bits": (
        with_tensor((1, 0), (1, 2**31), (2, 1)),
        "a tensor of shape [0, 2147483648]",
    ),
    "nine dimensions": (
        with_tensor(*[(1, 1)] * 9, (2, 1), (9, b"1234")),
        "a tensor of shape [1, 1, 1, 1, 1, 1, 1, 1, 1]",
    ),
    "nine packed dimensions": (
        with_tensor((1, bytes([1] * 9)), (2, 1), (9, b"1234")),
        "a tensor of shape [1, 1, 1",
    ),
    # Attributes: the value where the type says, once.
    "an attribute without type": (
        with_attribute((3, 1)),
        "attribute 'a' of type 0 with its value in i at byte 18",
    ),
    "an attribute of type 0": (
        model(
            (
                1,
                onnx.node(
                    "Relu", ["x"], ["y"], onnx.message((1, "a"), (20, 0)) + onnx.raw_field(2, 5, bytes(4))
                ),
            )
        ),
        "attribute 'a' of type 0 with its value in f",
    ),
    "an attribute of an unknown type": (with_attribute((3, 1), (20, 99)), "of type 99 with its value in i"),
    "an attribute of a type above 32 bits": (with_attribute((3, 1), (20, 2**32 + 2)), "of type 4294967298"),
    "an attribute of another type": (with_attribute((3, 1), (20, 7)), "of type 7 with its value in i"),
    "an attribute with two values": (
        with_attribute((3, 1), (8, 1), (20, 2)),
        "of type 2 with its value in i, ints",
    ),
    "an attribute without value": (with_attribute((20, 2)), "of type 2 with its value in no field"),
    "an attribute of a hidden tensor": (
        with_attribute((3, 1), (5, onnx.constant("t", np.ones(1, np.float32))), (20, 2)),
        "of type 2 with its value in i, t",
    ),
    "a hidden tensor beside an empty list": (
        with_attribute((5, onnx.constant("t", np.ones(1, np.float32))), (20, 7)),
        "of type 7 with its value in t",
    ),
    "half a number in an attribute": (with_attribute((7, b"123"), (20, 6)), "3 bytes of floats"),
    "an attribute with every kind of value": (
        with_attribute(
            (3, 1), (4, "s"), (5, onnx.constant("t", np.ones(1, np.float32))), (7, b""), (8, 1), (20, 2)
        ),
        "of type 2 with its value in floats, i, ints, s, t",
    ),
    "two attributes without names": (
        model((1, onnx.node("Relu", ["x"], ["y"], *[onnx.message((3, 1), (20, 2))] * 2))),
        "attribute '' twice",
    ),
    "two initializers without names": (
        model((1, RELU), *[(5, onnx.message((1, 0), (2, 1)))] * 2),
        "initializer '' twice",
    ),
    "a node without an operator": (model((1, onnx.message((1, "x"), (2, "y")))), "operator '' at byte 4"),
    "an attribute twice": (
        model((1, onnx.node("Relu", ["x"], ["y"], *[onnx.int_attribute("a", 1)] * 2))),
        "attribute 'a' twice at byte 28; expected once",
    ),
    "a dimension with number and name": (
        with_input(onnx.message((1, 3), (2, "batch"))),
        "a dimension with a number and a name at byte 31; expected one of them",
    ),
    "an input of nine dimensions": (
        with_input(*[onnx.message((1, 1))] * 9),
        "a shape of more than 8 dimensions at byte 29",
    ),
    "an input that is a sequence": (
        model((1, RELU), (11, onnx.message((2, onnx.message((4, b"")))))),
        "a sequence",
    ),
    "an output that is a sequence": (
        model((1, RELU), (12, onnx.message((2, onnx.message((4, b"")))))),
        "a sequence",
    ),
    "a value in between that is a map": (
        model((1, RELU), (13, onnx.message((2, onnx.message((5, b"")))))),
        "a map",
    ),
    "text that is not UTF-8": (model((1, onnx.message((4, b"\xff")))), "op_type that is not UTF-8"),
    # Operators that make much of little.
    "a stride of 65": (with_ints("Conv", "strides", 1, 65), "strides of 65 at byte 4; expected from 0 to 64"),
    "a padding below zero": (
        with_ints("Conv", "pads", 0, -1),
        "pads of -1 at byte 4; expected from 0 to 256",
    ),
    "a padding of the least number": (with_ints("Conv", "pads", -(2**63)), "pads of -9223372036854775808"),
    "a padding of the largest number": (with_ints("Conv", "pads", 2**63 - 1), "pads of 9223372036854775807"),
    "a padding of a billion": (with_ints("AveragePool", "pads", 10**9), "pads of 1000000000"),
    "a kernel of a billion": (with_ints("AveragePool", "kernel_shape", 10**9), "kernel_shape of 1000000000"),
    "a dilation of a billion": (with_ints("Conv", "dilations", 10**9), "dilations of 1000000000"),
    "an output of a billion": (
        with_ints("ConvTranspose", "output_shape", 10**9),
        "output_shape of 1000000000",
    ),
    "an output padded by a billion": (
        with_ints("ConvTranspose", "output_padding", 10**9),
        "output_padding of",
    ),
    "a block of a billion": (
        with_attribute((3, 10**9), (20, 2), operator="DepthToSpace", name="blocksize"),
        "blocksize of",
    ),
    "images a million times larger, and more": (
        model(
            *[(1, onnx.node("ConvTranspose", ["x"], ["y"], onnx.ints_attribute("strides", [32, 32])))] * 2
            + [(1, onnx.node("ConvTranspose", ["x"], ["y"], onnx.ints_attribute("strides", [1, 2])))]
        ),
        "images made 2097152 times larger at byte 86; expected at most 1048576 times",
    ),
    # The product of so many has more digits than Python turns into text.
    "strides in thousands of dimensions": (
        with_ints("ConvTranspose", "strides", *[64] * 3000),
        "strides of 3000 numbers at byte 5; expected at most 16",
    ),
    "paddings in nine dimensions": (
        with_ints("Conv", "pads", *[0] * 17),
        "pads of 17 numbers at byte 4; expected at most 16",
    ),
    "a stride of nothing that hides others": (
        model(
            *[
                (1, onnx.node("ConvTranspose", ["x"], ["y"], onnx.ints_attribute("strides", strides)))
                for strides in ([64, 64], [0, 1], [64, 64])
            ]
        ),
        "images made 16777216 times larger",
    ),
    "a cast to text": (
        with_attribute((3, 8), (20, 2), operator="Cast", name="to"),
        "a cast to another type at byte 4; expected a type of plain numbers",
    ),
    "a cast to nothing": (
        with_attribute((3, 0), (20, 2), operator="Cast", name="to"),
        "a cast to another type",
    ),
    # onnxruntime 1.32 ends the whole process where the parts are fewer, and takes memory for each where they are many.
    "a split into fewer parts than outputs": (
        model((1, onnx.node("Split", ["x"], ["y", "z"], onnx.int_attribute("num_outputs", 1)))),
        "num_outputs of 1 at byte 4; expected 2, as there are outputs",
    ),
    "a split into a billion parts": (
        with_attribute((3, 10**9), (20, 2), operator="Split", name="num_outputs"),
        "num_outputs of 1000000000 at byte 4; expected 1",
    ),
    "a split into parts below zero": (
        with_attribute((3, 2**64 - 1), (20, 2), operator="Split", name="num_outputs"),
        "num_outputs of -1 at byte 4; expected 1",
    ),
    "a split into no number of parts": (
        with_attribute((20, 7), operator="Split", name="num_outputs"),
        "num_outputs of 0 numbers at byte 4; expected 1",
    ),
    "a split into two numbers of parts": (
        with_ints("Split", "num_outputs", 1, 1),
        "num_outputs of 2 numbers at byte 4; expected 1",
    ),
    # Numbers of things.
    "too many nodes": (
        model(*[(1, RELU)] * (MOST_NODES + 1)),
        f"more than {MOST_NODES} nodes at byte {6 + 14 * MOST_NODES}",
    ),
    "too many initializers": (
        model((1, RELU), *[(5, onnx.message((1, 0), (2, 1), (8, str(n)))) for n in range(MOST_TENSORS + 1)]),
        f"more than {MOST_TENSORS} tensors at byte 94910",
    ),
    "too many inputs of a node": (
        model((1, onnx.node("Concat", ["x"] * (MOST_INPUTS + 1), ["y"]))),
        "a node of more than 256 inputs or outputs at byte 5",
    ),
    "too many outputs of a node": (
        model((1, onnx.node("Split", ["x"], ["y"] * (MOST_INPUTS + 1)))),
        "a node of more than 256 inputs or outputs at byte 5",
    ),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_reason_and_the_place(data: bytes, reason: str) -> None:
    with pytest.raises(UnsafeBundleError) as caught:
        scan(data, "stranger.onnx")
    assert re.search(rf"(?<!\w){re.escape(reason)}(?!\w)", str(caught.value))
    assert str(caught.value).startswith("stranger.onnx: ")


def test_what_is_refused_is_told_in_a_short_message_however_much_there_is_of_it() -> None:
    others = [(8, onnx.message((1, f"{'long' * 200}{number}"), (2, 1))) for number in range(5000)]
    with pytest.raises(UnsafeBundleError, match="operator sets of domains 'longlong") as caught:
        scan(model((1, RELU), more=tuple(others)), "graph")
    assert len(str(caught.value)) < 7000


@pytest.mark.parametrize(
    "operator",
    [
        "If",
        "Loop",
        "Scan",
        "RandomNormal",
        "Bernoulli",
        "ConstantOfShape",
        "Expand",
        "Tile",
        "Range",
        "Pad",
        "Resize",
        "OneHot",
        "StringNormalizer",
        "relu",
        "Relu ",
        "NoSuch",
        "",
    ],
)
def test_an_operator_off_the_list_is_refused(operator: str) -> None:
    with pytest.raises(
        UnsafeBundleError,
        match=f"refused: operator '{operator}' at byte 4; expected one of the operators that small image models need$",
    ):
        scan(model((1, onnx.node(operator, [], ["y"]))), "graph")
