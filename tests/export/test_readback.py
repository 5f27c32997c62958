"""Reading back: every promise that a graph can break, broken on purpose, and refused with the reason."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from vae_export.errors import GraphError
from vae_export.readback import check_graph, operators
from vae_runtime.errors import UnsafeBundleError
from vae_runtime.scan import scan

Graph = onnx.ModelProto
Graphs = Mapping[str, Graph]


def opset_16(model: Graph) -> None:
    model.opset_import[0].version = 16


def opset_18(model: Graph) -> None:
    model.opset_import[0].version = 18


def second_operator_set(model: Graph) -> None:
    model.opset_import.add(domain="ai.onnx.ml", version=3)


def file_format(model: Graph) -> None:
    model.ir_version = 9


def renamed_input(model: Graph) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "z"


def renamed_output(model: Graph) -> None:
    model.graph.output[0].name = model.graph.node[-1].output[0] = "picture"


def second_output(model: Graph) -> None:
    model.graph.output.append(helper.make_tensor_value_info("latent", TensorProto.FLOAT, ["batch", 2]))


def input_that_nothing_reads(model: Graph) -> None:
    model.graph.input.append(helper.make_tensor_value_info("seed", TensorProto.FLOAT, ["batch", 1]))


def fixed_batch(model: Graph) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def batch_by_another_name(model: Graph) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"


def open_height(model: Graph) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "height"


def no_shape(model: Graph) -> None:
    model.graph.output[0].type.tensor_type.ClearField("shape")


def half_precision(model: Graph) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def outside(tensor: TensorProto) -> TensorProto:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def external_weights(model: Graph) -> None:
    outside(model.graph.initializer[0])


def external_constant(model: Graph) -> None:
    tensor = outside(TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1]))
    model.graph.node.append(helper.make_node("Constant", [], ["t"], value=tensor))


def custom_domain(model: Graph) -> None:
    model.graph.node[0].domain = "com.example"
    model.opset_import.add(domain="com.example", version=1)


def custom_domain_that_is_not_imported(model: Graph) -> None:
    model.graph.node[0].domain = "com.example"


def local_function(model: Graph) -> None:
    inside = [helper.make_node("Relu", ["x"], ["y"])]
    model.functions.append(
        helper.make_function("", "Mine", ["x"], ["y"], inside, [helper.make_opsetid("", 17)])
    )


def subgraph(model: Graph) -> None:
    one = helper.make_node("Constant", [], ["one"], value_float=1.0)
    branch = helper.make_graph([one], "g", [], [helper.make_tensor_value_info("one", TensorProto.FLOAT, [])])
    truth = helper.make_tensor("truth", TensorProto.BOOL, [], [True])
    model.graph.node.append(helper.make_node("Constant", [], ["condition"], value=truth))
    model.graph.node.append(
        helper.make_node("If", ["condition"], ["chosen"], then_branch=branch, else_branch=branch)
    )


def random_normal(model: Graph) -> None:
    model.graph.node.append(helper.make_node("RandomNormal", [], ["noise"], shape=[2]))


def random_normal_like(model: Graph) -> None:
    model.graph.node.append(helper.make_node("RandomNormalLike", ["latent"], ["noise"]))


def bernoulli(model: Graph) -> None:
    model.graph.node.append(helper.make_node("Bernoulli", ["image"], ["drawn"]))


def sparse_tensor(model: Graph) -> None:
    values = helper.make_tensor("values", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("indices", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))


def missing_node(model: Graph) -> None:
    del model.graph.node[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (opset_16, r"operator sets \[\('', 16\)\]; expected \[\('', 17\)\]"),
        (opset_18, r"operator sets \[\('', 18\)\]; expected \[\('', 17\)\]"),
        (second_operator_set, r"operator sets .*ai\.onnx\.ml"),
        (file_format, "IR version 9; expected 8"),
        (renamed_input, r"inputs \['z'\]; expected \['latent'\]"),
        (renamed_output, r"outputs \['picture'\]; expected \['image'\]"),
        (second_output, r"outputs \['image', 'latent'\]; expected \['image'\]"),
        (input_that_nothing_reads, r"inputs \['latent', 'seed'\]; expected \['latent'\]"),
        (fixed_batch, "first axis of latent ''; expected 'batch'"),
        (batch_by_another_name, "first axis of latent 'N'; expected 'batch'"),
        (open_height, r"open axes of image \['height'\]; expected \[\]"),
        (no_shape, "not a valid ONNX model: .*shape"),
        (half_precision, "not a valid ONNX model: .*type"),
        (external_weights, r"weights\.bin"),
        (external_constant, r"weights\.bin"),
        (custom_domain, r"operator sets .*com\.example"),
        (custom_domain_that_is_not_imported, r"not a valid ONNX model: .*com\.example"),
        (local_function, r"local functions \['Mine'\]; expected \[\]"),
        (subgraph, r"subgraphs of node If \['else_branch', 'then_branch'\]; expected \[\]"),
        (random_normal, "random operators"),
        (random_normal_like, "random operators"),
        (bernoulli, "random operators"),
        (sparse_tensor, "sparse tensors 1; expected 0"),
        (missing_node, "not a valid ONNX model"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_broken_promise_is_refused_with_the_reason(
    graphs: Graphs, change: Callable[[Graph], None], reason: str
) -> None:
    broken = copy.deepcopy(graphs["decoder"])
    change(broken)
    with pytest.raises(GraphError, match=reason) as refused:
        check_graph(broken.SerializeToString(), "decoder", 17)
    assert "the written decoder" in str(refused.value)
    assert refused.value.exit_code == 1


def test_external_data_is_refused_also_where_the_file_is_there(
    graphs: Graphs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(graphs["decoder"].graph.initializer[0].raw_data)
    broken = copy.deepcopy(graphs["decoder"])
    external_weights(broken)
    with pytest.raises(GraphError, match=r"external data \['fc\.weight'\]"):
        check_graph(broken.SerializeToString(), "decoder", 17)


@pytest.mark.parametrize("data", [b"", b"not a model", bytes(100)])
def test_bytes_that_are_no_graph_are_refused(data: bytes) -> None:
    with pytest.raises(GraphError, match="not a valid ONNX model"):
        check_graph(data, "decoder", 17)


def metadata_of_a_node(model: Graph) -> None:
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/somebody/train.py")


def operator_off_the_list(model: Graph) -> None:
    model.graph.node.append(helper.make_node("Tile", ["image", "repeats"], ["tiled"]))
    model.graph.initializer.append(helper.make_tensor("repeats", TensorProto.INT64, [4], [1, 1, 9, 9]))


def settings_for_onnxruntime(model: Graph) -> None:
    model.metadata_props.add(key="ort_config", value="{}")


@pytest.mark.parametrize("change", [metadata_of_a_node, operator_off_the_list, settings_for_onnxruntime])
def test_what_the_runtime_would_refuse_is_refused_though_it_is_onnx(
    graphs: Graphs, change: Callable[[Graph], None]
) -> None:
    broken = copy.deepcopy(graphs["decoder"])
    change(broken)
    data = broken.SerializeToString()
    onnx.checker.check_model(broken, full_check=True)
    with pytest.raises(UnsafeBundleError) as refused:
        scan(data, "the written decoder")
    with pytest.raises(GraphError) as reported:
        check_graph(data, "decoder", 17)
    assert str(reported.value) == f"the runtime would not open what was written: {refused.value}"


def test_what_the_exporter_wrote_is_let_through(graphs: Graphs) -> None:
    for role, graph in graphs.items():
        check_graph(graph.SerializeToString(), role, 17)


def test_an_encoder_is_no_decoder(graphs: Graphs) -> None:
    with pytest.raises(GraphError, match=r"inputs \['image'\]; expected \['latent'\]"):
        check_graph(graphs["encoder"].SerializeToString(), "decoder", 17)


def test_operators_are_named_once_in_order(graphs: Graphs) -> None:
    assert operators(graphs["decoder"].SerializeToString()) == [
        "ConvTranspose", "Gemm", "Relu", "Reshape", "Sigmoid",
    ]  # fmt: skip
