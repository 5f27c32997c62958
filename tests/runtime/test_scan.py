"""The gate before onnxruntime lets the graphs of bundles through, and sees what is in them."""

from __future__ import annotations

import random
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import onnx_bytes as onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from little_graphs import OPSET, RELU, model, with_attribute, with_input, with_ints, with_tensor

from vae_runtime.bundle import shipped_models
from vae_runtime.errors import UnsafeBundleError
from vae_runtime.onnx_schema import OPERATORS
from vae_runtime.scan import MOST_INPUTS, MOST_NODES, MOST_TENSORS, scan

GRAPHS = [
    *Path(__file__).parents[1].glob("assets/*/*.onnx"),
    *Path(__file__).parents[2].glob("models/*/*.onnx"),
]


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
    assert (seen.ir_version, seen.opset, seen.nodes, seen.tensors, seen.parameters) == (8, 17, 3, 1, 15)
    assert seen.operators == {"Relu": 2, "Add": 1}
    assert seen.metadata == {onnx.CARD: "text"}


def test_what_it_saw_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        scan(model((1, RELU)), "graph").opset = 18  # type: ignore[misc]


def test_the_limits_are_those_that_are_promised() -> None:
    promises = (Path(__file__).parents[2] / "SECURITY.md").read_text(encoding="utf-8")
    assert f" {MOST_NODES:,} nodes, {MOST_TENSORS:,} tensors " in promises


PASSES = {
    "no attribute": (model((1, RELU)), 0),
    "every kind of attribute": (
        model(
            (
                1,
                onnx.node(
                    "Relu",
                    ["x"],
                    ["y"],
                    onnx.message((1, "f"), (20, 1)) + onnx.raw_field(2, 5, bytes(4)),
                    onnx.message((1, "i"), (3, 2**64 - 1), (20, 2), (13, "about this")),
                    onnx.message((1, "s"), (4, "text"), (20, 3)),
                    onnx.message((1, "t"), (5, onnx.constant("t", np.ones(5, np.float32))), (20, 4)),
                    onnx.message((1, "floats"), (7, bytes(12)), (20, 6)),
                    onnx.message((1, "ints"), (8, b"\1\2"), (8, 3), (20, 7)),
                    onnx.message((1, "no floats"), (20, 6)),
                    onnx.message((1, "no ints"), (20, 7)),
                ),
            )
        ),
        5,
    ),
    "raw numbers of one byte": (with_tensor((1, 3), (2, 2), (9, b"123")), 3),
    "raw numbers of two bytes": (with_tensor((1, 3), (2, 10), (9, b"123456")), 3),
    "raw numbers of eight bytes": (with_tensor((1, 2), (1, 1), (2, 13), (9, bytes(16))), 2),
    "packed floats": (with_tensor((1, 3), (2, 1), (4, bytes(12))), 3),
    "packed whole numbers": (with_tensor((1, 3), (2, 7), (7, b"\1\2\x80\1")), 3),
    "floats one by one": (
        model((1, RELU), (5, onnx.message((1, 3), (2, 1)) + 3 * onnx.raw_field(4, 5, bytes(4)))),
        3,
    ),
    "two tensors": (
        model((1, RELU), *[(5, onnx.constant(str(n), np.ones(n, np.float32))) for n in (2, 5)]),
        7,
    ),
    "whole numbers, some packed": (with_tensor((1, 3), (2, 9), (5, 1), (5, b"\0\1")), 3),
    "numbers below zero": (with_tensor((1, 1), (2, 6), (5, 2**64 - 1)), 1),
    "a tensor of no numbers": (with_tensor((1, 0), (1, 2**31 - 1), (2, 1)), 0),
    "no numbers, raw": (with_tensor((1, 0), (2, 1), (9, b"")), 0),
    "one number without a shape": (with_tensor((2, 1), (9, b"1234")), 1),
    "packed shape of eight": (with_tensor((1, bytes([1] * 8)), (2, 1), (9, b"1234")), 1),
    "a tensor that says that it lies inside": (with_tensor((1, 1), (2, 1), (9, b"1234"), (14, 0)), 1),
    "documentation everywhere": (
        onnx.message((6, "d"))
        + model((1, onnx.message((4, "Relu"), (6, "d"))), (10, "d"), (11, onnx.message((1, "x"), (3, "d")))),
        0,
    ),
    "the standard domain, said": (model((1, RELU + onnx.message((7, "")))), 0),
    "an input of eight dimensions": (with_input(*[onnx.message((1, 1)), onnx.message((2, "b"))] * 4), 0),
    "the largest strides": (with_ints("Conv", "strides", 64, 64), 0),
    "paddings in eight dimensions": (with_ints("Conv", "pads", *[1] * 16), 0),
    "many numbers that size nothing": (with_ints("Transpose", "perm", *[0] * 3000), 0),
    "large numbers that size nothing": (with_ints("Transpose", "perm", 10**9, -(10**9)), 0),
    "images a million times larger": (
        model(*[(1, onnx.node("ConvTranspose", ["x"], ["y"], onnx.ints_attribute("strides", [32, 32])))] * 2),
        0,
    ),
    "strides that make smaller": (
        model(*[(1, onnx.node("Conv", ["x"], ["y"], onnx.ints_attribute("strides", [64, 64])))] * 9),
        0,
    ),
    "a split into as many parts as outputs": (
        model((1, onnx.node("Split", ["x"], ["y", "z"], onnx.int_attribute("num_outputs", 2)))),
        0,
    ),
    "a number of outputs of what is not split": (with_attribute((3, 5), (20, 2), name="num_outputs"), 0),
    "the same of what comes after it by name": (
        with_attribute((3, 5), (20, 2), operator="Tanh", name="num_outputs"),
        0,
    ),
    "strides of what has none": (
        model(*[(1, onnx.node("Relu", ["x"], ["y"], onnx.ints_attribute("strides", [64, 64])))] * 9),
        0,
    ),
    "a cast to float16": (with_attribute((3, 10), (20, 2), operator="Cast", name="to"), 0),
    "a cast without a type": (model((1, onnx.node("Cast", ["x"], ["y"]))), 0),
    "the most nodes": (model(*[(1, RELU)] * MOST_NODES), 0),
    "the most tensors": (
        model((1, RELU), *[(5, onnx.message((1, 0), (2, 1), (8, str(n)))) for n in range(MOST_TENSORS)]),
        0,
    ),
    "inputs left empty before others": (
        model(
            (1, onnx.node("Clip", ["x", "", "high"], ["y"])),
            (1, onnx.node("Slice", ["y", "starts", "ends", "", "steps"], ["z"])),
        ),
        0,
    ),
    "an output left empty": (
        model((1, onnx.node("LayerNormalization", ["x", "scale"], ["y", "", "deviation"]))),
        0,
    ),
    "what is no type, since nothing is cast": (with_attribute((3, 8), (20, 2), name="to"), 0),
    "what is no type, since nothing is cast but added": (
        with_attribute((3, 8), (20, 2), operator="Add", name="to"),
        0,
    ),
    "the most inputs": (model((1, onnx.node("Concat", ["x"] * MOST_INPUTS, ["y"] * MOST_INPUTS))), 0),
}


@pytest.mark.parametrize(("data", "parameters"), PASSES.values(), ids=PASSES)
def test_what_is_no_more_than_unusual_passes(data: bytes, parameters: int) -> None:
    """The other side of each limit, or a scan that refuses everything would do."""
    assert scan(data, "graph").parameters == parameters


SMALL_IMAGE_MODELS = """
    Conv ConvTranspose Gemm MatMul AveragePool GlobalAveragePool DepthToSpace SpaceToDepth
    BatchNormalization GroupNormalization InstanceNormalization LayerNormalization
    Elu Erf Gelu HardSigmoid HardSwish LeakyRelu Relu Sigmoid Softmax Softplus Tanh
    Add ArgMax Clip Div Exp Log Max Min Mul Neg Pow Reciprocal ReduceMean ReduceSum Sqrt Sub
    Cast Concat Constant Flatten Gather Identity Reshape Shape Slice Split Squeeze Transpose Unsqueeze
    DequantizeLinear QuantizeLinear
"""


@pytest.mark.parametrize("operator", SMALL_IMAGE_MODELS.split())
def test_what_small_image_models_are_made_of_passes(operator: str) -> None:
    assert scan(model((1, onnx.node(operator, ["x"], ["y"]))), "graph").operators == {operator: 1}


# By TensorProto.DataType: bytes of a number, and the field that may hold it instead of raw_data (9).
NUMBERS = {
    1: (4, 4), 2: (1, 5), 3: (1, 5), 4: (2, 5), 5: (2, 5), 6: (4, 5), 7: (8, 7), 9: (1, 5), 10: (2, 5),
    11: (8, None), 12: (4, None), 13: (8, None), 16: (2, 5),
}  # fmt: skip


@pytest.mark.parametrize("element", range(32))
def test_numbers_are_of_their_size_or_in_their_field_and_nowhere_else(element: int) -> None:
    holds = {(9, length): bytes(length) for length in (1, 2, 4, 8)} | {
        (4, None): bytes(4),
        (5, None): 1,
        (7, None): 1,
    }
    size, typed = NUMBERS.get(element, (None, None))
    for (field, length), held in holds.items():
        data = with_tensor((1, 1), (2, element), (field, held))
        if size is not None and (field == typed or (field, length) == (9, size)):
            assert scan(data, "graph").parameters == 1
        else:
            with pytest.raises(UnsafeBundleError, match=rf"of data type {element}\b"):
                scan(data, "graph")


@pytest.mark.parametrize(
    ("name", "largest"),
    [
        ("blocksize", 64),
        ("dilations", 64),
        ("kernel_shape", 256),
        ("output_padding", 64),
        ("output_shape", 1024),
        ("pads", 256),
        ("strides", 64),
    ],
)
def test_sizes_in_attributes_may_be_so_large_and_no_larger(name: str, largest: int) -> None:
    assert scan(with_ints("Conv", name, largest), "graph").nodes == 1
    with pytest.raises(
        UnsafeBundleError, match=f"{name} of {largest + 1} at byte 4; expected from 0 to {largest}$"
    ):
        scan(with_ints("Conv", name, largest + 1), "graph")


def test_the_order_of_fields_makes_no_difference() -> None:
    graph = onnx.message((5, onnx.constant("w", np.ones(2, np.float32))), (1, RELU))
    seen = scan(onnx.message(OPSET, (7, graph), (1, 8)), "graph")
    assert (seen.ir_version, seen.opset, seen.parameters, seen.tensors) == (8, 17, 2, 1)


def test_what_is_left_out_is_what_protobuf_takes_it_for() -> None:
    """Zero, or no text, as onnxruntime's parser has it."""
    data = onnx.message((7, onnx.message((1, RELU))), (8, b""), (14, onnx.message((1, "k"))), (14, b""))
    seen = scan(data, "graph")
    assert (seen.ir_version, seen.opset, seen.metadata) == (0, 0, {"k": "", "": ""})
    zeros = scan(onnx.message((1, 0), (7, onnx.message((1, RELU))), (8, onnx.message((2, 0)))), "graph")
    assert (zeros.ir_version, zeros.opset) == (0, 0)


def test_the_tensors_of_attributes_count() -> None:
    inside = onnx.message((1, "value"), (5, onnx.constant("t", np.ones(7, np.float32))), (20, 4))
    seen = scan(model((1, onnx.node("Constant", [], ["c"], inside)), (1, RELU)), "graph")
    assert (seen.tensors, seen.parameters, seen.nodes) == (1, 7, 2)


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
