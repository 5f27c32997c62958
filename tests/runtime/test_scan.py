"""The gate before onnxruntime lets the graphs of bundles through, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx_bytes as onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_runtime.bundle import shipped_models
from vae_runtime.errors import UnsafeBundleError
from vae_runtime.onnx_schema import MESSAGES, OPERATORS, REFUSED_FIELDS
from vae_runtime.scan import MOST_NODES, scan

GRAPHS = [
    *Path(__file__).parents[1].glob("assets/*/*.onnx"),
    *Path(__file__).parents[2].glob("models/*/*.onnx"),
]
OPSET = (8, onnx.message((2, 17)))
RELU = onnx.node("Relu", ["x"], ["y"])


def model(*graph: tuple[int, object], more: tuple[tuple[int, object], ...] = (OPSET,)) -> bytes:
    """A ModelProto around the fields of a graph."""
    return onnx.message((1, 8), (7, onnx.message(*graph)), *more)


def with_attribute(*fields: tuple[int, object]) -> bytes:
    """A model whose one node has an attribute of these fields."""
    return model((1, RELU + onnx.message((5, onnx.message((1, "a"), *fields)))))


def with_tensor(*fields: tuple[int, object]) -> bytes:
    return model((1, RELU), (5, onnx.message(*fields)))


def raw(number: int, wire_type: int, payload: bytes) -> bytes:
    return onnx._varint(number << 3 | wire_type) + payload


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_graphs_of_our_bundles_pass(path: Path) -> None:
    data = path.read_bytes()
    seen = scan(data, "graph")
    assert seen.opset in (17, 18)
    assert seen.metadata == {onnx.CARD: seen.metadata[onnx.CARD]}
    assert set(seen.operators) <= OPERATORS


def test_what_it_saw_is_what_is_in_the_graph() -> None:
    data = model(
        (1, RELU),
        (1, RELU),
        (1, onnx.node("Add", ["a", "b"], ["c"])),
        (5, onnx.constant("b", np.ones((3, 5), np.float32))),
    )
    seen = scan(onnx.with_card(data, "text"), "graph")
    assert (seen.ir_version, seen.opset, seen.parameters) == (8, 17, 15)
    assert seen.operators == {"Relu": 2, "Add": 1}
    assert seen.metadata == {onnx.CARD: "text"}


SUBGRAPH = onnx.message((1, RELU))
REFUSED = {
    "a local function": (model((1, RELU), more=(OPSET, (25, onnx.message((1, "f"))))), "local functions"),
    "training information": (model((1, RELU), more=(OPSET, (20, b""))), "training information"),
    "a subgraph": (with_attribute((6, SUBGRAPH)), "a subgraph"),
    "subgraphs": (with_attribute((11, SUBGRAPH)), "subgraphs"),
    "a sparse attribute": (with_attribute((22, b"")), "a sparse tensor"),
    "sparse attributes": (with_attribute((23, b"")), "sparse tensors"),
    "a sparse initializer": (model((1, RELU), (15, b"")), "sparse initializers"),
    "an attribute of a function": (with_attribute((21, "other")), "a reference to a function's attribute"),
    "external data": (model((1, RELU), (5, onnx.outside_constant("w", [2], "../secret"))), "external data"),
    "external data by location alone": (with_tensor((2, 1), (14, 1)), "external data"),
    "external data in an attribute": (
        with_attribute((5, onnx.outside_constant("w", [2], "secret"))),
        "external data",
    ),
    "a node of another domain": (model((1, RELU + onnx.message((7, "com.evil")))), "a node of domain 'com.evil'"),
    "another operator set": (
        model((1, RELU), more=(OPSET, (8, onnx.message((1, "com.evil"), (2, 1))))),
        "operator sets of domains '', 'com.evil'",
    ),
    "no operator set": (model((1, RELU), more=()), "operator sets of domains none"),
    "two graphs": (model((1, RELU), more=(OPSET, (7, SUBGRAPH))), "ModelProto.graph twice"),
    "metadata twice": (
        model((1, RELU), more=(OPSET, *[(14, onnx.message((1, "k"), (2, v))) for v in "ab"])),
        "metadata 'k' stands twice",
    ),
    "a tensor of text": (with_tensor((2, 8)), "data type 8"),
    "a tensor of nothing": (with_tensor((1, 1)), "data type 0"),
    "a tensor larger than its bytes": (with_tensor((1, 2**30), (2, 1), (9, b"1234")), "a tensor of 1073741824 numbers"),
    "a tensor smaller than its bytes": (with_tensor((1, 1), (2, 1), (9, b"12345678")), "a tensor of 1 numbers"),
    "a tensor without its numbers": (with_tensor((1, 2**30), (2, 1)), "a tensor of 1073741824 numbers"),
    "a dimension below zero": (with_tensor((1, 2**64 - 1), (2, 1)), "a tensor of shape"),
    "nine dimensions": (with_tensor(*[(1, 1)] * 9, (2, 1)), "a tensor of shape"),
    "nine packed dimensions": (with_tensor((1, bytes([1] * 9)), (2, 1)), "more than 8 dimensions"),
    "text that is not UTF-8": (model((1, onnx.message((4, b"\xff")))), "text that is not UTF-8"),
    "too many nodes": (model(*[(1, RELU)] * (MOST_NODES + 1)), f"more than {MOST_NODES} nodes"),
    "no nodes": (model((2, "empty")), "not an ONNX model"),
    "nothing": (b"", "operator sets of domains none"),
    "text": (b"not a model at all", "refused"),
    "the ORT format": (b"\x18\x00\x00\x00ORTM" + bytes(64), "refused"),
    "a zip archive": (b"PK\x03\x04" + bytes(26), "refused"),
    # Protobuf keeps 32 bits of a tag: onnxruntime would read this as TensorProto.external_data.
    "a tag of 33 bits": (
        model((1, RELU), (5, onnx.message((2, 1)) + onnx._varint(1 << 32 | 13 << 3 | 2) + b"\x00")),
        "field 536870925",
    ),
    "a group": (raw(7, 3, b"") + raw(7, 4, b""), "wire type 3"),
    "a number where bytes belong": (raw(7, 0, b"\x01"), "ModelProto.graph of wire type 0"),
    "a number cut short": (raw(1, 0, b"\x80"), "cut short"),
    "a number of eleven bytes": (raw(1, 0, b"\x80" * 10 + b"\x01"), "more than ten bytes"),
    "a number above 64 bits": (raw(1, 0, b"\xff" * 9 + b"\x7f"), "unusual form"),
    "a number with a zero behind it": (raw(1, 0, b"\x81\x00"), "unusual form"),
    "a length beyond the end": (raw(7, 2, b"\x7f"), "a value of 127 bytes where 0 are left"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_reason_and_the_place(data: bytes, reason: str) -> None:
    with pytest.raises(UnsafeBundleError) as caught:
        scan(data, "stranger.onnx")
    assert reason in str(caught.value)
    assert str(caught.value).startswith("stranger.onnx: ")


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
        "NoSuch",
        "",
    ],
)
def test_an_operator_off_the_list_is_refused(operator: str) -> None:
    with pytest.raises(UnsafeBundleError, match=f"operator '{operator}' at byte"):
        scan(model((1, onnx.node(operator, [], ["y"]))), "graph")


@pytest.mark.parametrize(("message", "number"), REFUSED_FIELDS)
def test_no_field_is_both_refused_and_let_through(message: str, number: int) -> None:
    assert number not in MESSAGES[message]


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_seen_and_nothing_else(data: bytes) -> None:
    with pytest.raises(UnsafeBundleError):
        scan(data, "graph")


@pytest.mark.parametrize("seed", range(4))
def test_any_damage_to_a_graph_is_refused_or_seen_and_nothing_else(seed: int) -> None:
    original = min(GRAPHS, key=lambda path: path.stat().st_size).read_bytes()
    dice = random.Random(seed)  # noqa: S311 - not a secret
    for _ in range(1000):
        data = bytearray(original)
        for _ in range(dice.randint(1, 4)):
            start = dice.randrange(len(data))
            change = dice.choice(["flip", "cut", "copy", "number"])
            if change == "flip":
                data[start] ^= 1 << dice.randrange(8)
            elif change == "cut":
                del data[start : start + dice.randint(1, 20)]
            elif change == "copy":
                data[start:start] = data[start : start + dice.randint(1, 40)]
            else:
                data[start] = dice.choice([0, 1, 0x7F, 0x80, 0xFF])
        try:
            assert set(scan(bytes(data), "graph").operators) <= OPERATORS
        except UnsafeBundleError:
            continue


def test_there_are_graphs_to_scan() -> None:
    assert len(GRAPHS) >= 4
    assert shipped_models()
