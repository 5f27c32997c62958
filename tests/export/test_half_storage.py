"""Matrices stored in 16 bits: half the bytes, the same graph but for one rounding, and nothing rounded to infinity."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from vae_export.half_storage import round_initializers, store_in_half, stored_weights

SQUARE, OFFSET, HUGE = (
    np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32),
    np.linspace(0, 1, 64, dtype=np.float32) + 1e-5,
    np.full((64, 1), 1e6, np.float32),
)


def graph() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "square"], ["a"]),
        helper.make_node("Add", ["a", "offset"], ["b"]),
        helper.make_node("MatMul", ["b", "huge"], ["y"]),
    ]
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])
        for name, size in (("x", 64), ("y", 1))
    ]
    numbers = {"square": SQUARE, "offset": OFFSET, "huge": HUGE}
    constants = [numpy_helper.from_array(array, name) for name, array in numbers.items()]
    body = helper.make_graph(nodes, "graph", values[:1], values[1:], constants)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, given: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"x": given})[0]
    return found


def rounded_to_8_bits(numbers: np.ndarray) -> np.ndarray:
    """By their definition: to the nearest multiple of a 128th of the power of two below."""
    steps = 2.0 ** (np.floor(np.log2(np.abs(numbers.astype(np.float64)))) - 7)
    return (np.rint(numbers / steps) * steps).astype(np.float32)


def test_only_matrices_that_16_bits_can_hold_are_rounded_and_once() -> None:
    given = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)
    before = graph()
    stored = store_in_half(round_initializers(before))
    onnx.checker.check_model(stored, full_check=True)
    expected = (given @ rounded_to_8_bits(SQUARE) + OFFSET) @ HUGE
    np.testing.assert_allclose(run(stored, given), expected, rtol=1e-4, atol=10)
    assert np.abs(run(stored, given) - run(before, given)).max() > 100  # it does round
    types = {tensor.name: tensor.data_type for tensor in stored.graph.initializer}
    assert types == {
        "square.half": onnx.TensorProto.FLOAT16,
        "offset": onnx.TensorProto.FLOAT,
        "huge": onnx.TensorProto.FLOAT,
    }
    assert len(stored.SerializeToString()) < 0.6 * len(before.SerializeToString())
    assert [tensor.name for tensor in before.graph.initializer] == ["square", "offset", "huge"]


def test_what_16_bits_do_not_hold_exactly_is_stored_as_it_is() -> None:
    before = graph()
    assert store_in_half(before).SerializeToString() == before.SerializeToString()


def test_the_weights_of_a_stored_graph_are_read_as_it_computes_with_them() -> None:
    weights = stored_weights(store_in_half(round_initializers(graph())))
    assert weights.keys() == {"square", "offset", "huge"}
    np.testing.assert_array_equal(weights["square"], rounded_to_8_bits(SQUARE))
    np.testing.assert_array_equal(weights["offset"], OFFSET)
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
