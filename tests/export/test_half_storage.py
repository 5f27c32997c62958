"""Matrices stored in 16 bits: half the bytes, the same graph but for one rounding, and nothing rounded to infinity."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from vae_export.half_storage import store_in_half

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


def test_only_matrices_that_16_bits_can_hold_are_rounded_and_once() -> None:
    given = np.random.default_rng(1).standard_normal((5, 64)).astype(np.float32)
    before = graph()
    stored = store_in_half(before)
    onnx.checker.check_model(stored, full_check=True)
    expected = (given @ SQUARE.astype(np.float16).astype(np.float32) + OFFSET) @ HUGE
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
