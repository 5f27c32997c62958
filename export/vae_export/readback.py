"""The written file, read back: is it what was promised?"""

from __future__ import annotations

import onnx
import onnx.checker
from onnx import TensorProto

from vae_export.errors import GraphError
from vae_export.opsets import ir_version_for
from vae_runtime.errors import UnsafeBundleError, one_line
from vae_runtime.scan import Scan, scan
from vae_runtime.session import SIGNATURES


def check_graph(data: bytes, role: str, opset: int) -> None:
    """Check a written graph.

    Opset, IR version, names and types of inputs and outputs, one symbolic axis called `batch` in front and
    fixed ones behind, no external data, no node outside of the standard domain, no local function,
    subgraph or sparse tensor, no operator that draws at random, nothing else that the runtime refuses.

    Raises:
        GraphError: it is not so; with what was expected and what came.
    """
    try:
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # onnx's errors, protobuf's among them, share no other base
        raise GraphError(f"the written {role} is not a valid ONNX model: {one_line(error)}") from error
    opsets = [(entry.domain, entry.version) for entry in model.opset_import]
    _expect(role, "operator sets", opsets, [("", opset)])
    _expect(role, "IR version", model.ir_version, ir_version_for(opset))
    input_name, output_names = SIGNATURES[role]
    _expect(role, "inputs", [value.name for value in model.graph.input], [input_name])
    _expect(role, "outputs", [value.name for value in model.graph.output], list(output_names))
    for value in (*model.graph.input, *model.graph.output):
        _check_value(role, value)
    _expect(role, "local functions", [function.name for function in model.functions], [])
    _expect(role, "sparse tensors", len(model.graph.sparse_initializer), 0)
    outside = [
        tensor.name for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL
    ]
    _expect(role, "tensors with external data", outside, [])
    for node in model.graph.node:
        _check_node(role, node)
    require_scan(data, role)


def require_scan(data: bytes, role: str) -> Scan:
    """Return what the runtime's scan sees in a graph.

    Raises:
        GraphError: the runtime would refuse it.
    """
    try:
        return scan(data, f"the written {role}")
    except UnsafeBundleError as error:
        raise GraphError(f"the runtime would not open what was written: {error}") from error


def operators(data: bytes) -> list[str]:
    """Return the names of a graph's operators, sorted, each once."""
    return sorted({node.op_type for node in onnx.load_model_from_string(data).graph.node})


def _check_value(role: str, value: onnx.ValueInfoProto) -> None:
    tensor = value.type.tensor_type
    _expect(role, f"type of {value.name}", tensor.elem_type, TensorProto.FLOAT)
    first, *others = tensor.shape.dim
    _expect(role, f"first axis of {value.name}", first.dim_param, "batch")
    _expect(role, f"open axes of {value.name}", [d.dim_param for d in others if d.dim_value < 1], [])


def _check_node(role: str, node: onnx.NodeProto) -> None:
    _expect(role, f"domain of node {node.op_type}", node.domain, "")
    _expect(role, "random operators", node.op_type.startswith(("Random", "Bernoulli", "Multinomial")), False)
    graphs = [
        a.name for a in node.attribute if a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    ]
    _expect(role, f"subgraphs of node {node.op_type}", graphs, [])
    outside = [a.name for a in node.attribute if a.t.data_location == TensorProto.EXTERNAL]
    _expect(role, f"external data of node {node.op_type}", outside, [])


def _expect(role: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise GraphError(f"the written {role} has {what} {found!r}; expected {expected!r}")
