"""Models of one graph with hardly anything in it but what a test is about."""

from __future__ import annotations

import onnx_bytes as onnx

OPSET = (8, onnx.message((2, 17)))
RELU = onnx.node("Relu", ["x"], ["y"])


def model(*graph: tuple[int, object], more: tuple[tuple[int, object], ...] = (OPSET,)) -> bytes:
    """A ModelProto around the fields of a graph."""
    return onnx.message((1, 8), (7, onnx.message(*graph)), *more)


def with_attribute(*fields: tuple[int, object], operator: str = "Relu", name: str = "a") -> bytes:
    """A model whose one node has an attribute of these fields."""
    return model((1, onnx.node(operator, ["x"], ["y"], onnx.message((1, name), *fields))))


def with_ints(operator: str, name: str, *values: int) -> bytes:
    """A model whose one node has an attribute of whole numbers."""
    return model((1, onnx.node(operator, ["x"], ["y"], onnx.ints_attribute(name, values))))


def with_tensor(*fields: tuple[int, object]) -> bytes:
    return model((1, RELU), (5, onnx.message(*fields)))


def with_input(*dimensions: bytes) -> bytes:
    """A model whose one input has these dimensions."""
    shape = onnx.message(*((1, dimension) for dimension in dimensions))
    kind = onnx.message((1, onnx.message((1, 1), (2, shape))))
    return model((1, RELU), (11, onnx.message((1, "x"), (2, kind))))
