"""Graphs: right at every opset, the same every time, and nothing in them but the model."""

from __future__ import annotations

import collections
import copy
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch

from vae_export.graphs import add_cards, build_graphs, example_inputs
from vae_export.opsets import supported_opsets
from vae_export.readback import check_graph
from vae_export.source import Source
from vae_runtime.card import METADATA_KEY, Card, Likelihood
from vae_runtime.scan import scan
from vae_training.config import ModelConfig
from vae_training.model import VAE

Graphs = Mapping[str, onnx.ModelProto]

CARD = Card("name", "", (1, 8, 8), 2, Likelihood("bernoulli"), "fp32", 17, "")


def run_graph(graph: onnx.ModelProto, inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs: list[npt.NDArray[np.float32]] = session.run(None, {session.get_inputs()[0].name: inputs})
    return outputs


@torch.no_grad()
def require_equal_to_pytorch(graphs: Graphs, model: VAE) -> None:
    draws = torch.Generator().manual_seed(0)
    for batch in (1, 5):
        image = torch.rand(batch, *model.config.image_shape, generator=draws)
        latent = 2 * torch.randn(batch, model.config.latent_size, generator=draws)
        for found, expected in zip(
            run_graph(graphs["encoder"], image.numpy()), model.encoder(image), strict=True
        ):
            np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-5)
        (decoded,) = run_graph(graphs["decoder"], latent.numpy())
        np.testing.assert_allclose(decoded, model.decoder(latent).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("opset", supported_opsets())
def test_at_every_opset_both_graphs_keep_their_promises_and_equal_pytorch(source: Source, opset: int) -> None:
    graphs = build_graphs(source.model, opset)
    assert list(graphs) == ["encoder", "decoder"]
    for role, graph in graphs.items():
        check_graph(graph.SerializeToString(), role, opset)
    require_equal_to_pytorch(graphs, source.model)


@pytest.mark.parametrize(
    "config",
    [ModelConfig(8, 20, 1, (2, 3), 1), ModelConfig(12, 8, 3, (4, 2), 5, fc_relu=True)],
    ids=["8x20 gray, one latent", "12x8 colour, ReLU"],
)
def test_other_sizes_keep_their_promises_too(make_vae: Callable[..., VAE], config: ModelConfig) -> None:
    model = make_vae(config)
    graphs = build_graphs(model, 17)
    for role, graph in graphs.items():
        check_graph(graph.SerializeToString(), role, 17)
    require_equal_to_pytorch(graphs, model)
    shape = graphs["decoder"].graph.output[0].type.tensor_type.shape
    assert [d.dim_param or d.dim_value for d in shape.dim] == ["batch", *config.image_shape]


@pytest.mark.parametrize("opset", supported_opsets())
def test_at_every_opset_the_runtimes_scan_sees_the_graph_as_it_is(source: Source, opset: int) -> None:
    for role, graph in build_graphs(source.model, opset).items():
        seen = scan(graph.SerializeToString(), role)
        assert (seen.opset, seen.ir_version, seen.metadata) == (opset, graph.ir_version, {})
        assert seen.operators == collections.Counter(node.op_type for node in graph.graph.node)
        assert seen.parameters >= sum(
            parameter.numel() for parameter in getattr(source.model, role).parameters()
        )


def test_the_same_model_gives_the_same_bytes(source: Source, graphs: Graphs, trace_anew: None) -> None:
    again = build_graphs(source.model, 17)
    assert add_cards(again, CARD) == add_cards(graphs, CARD)


def test_inputs_to_trace_with_have_the_shapes_of_the_roles() -> None:
    inputs = example_inputs(ModelConfig(8, 12, 3, (2, 3), 5))
    assert {role: tuple(value.shape)[1:] for role, value in inputs.items()} == {
        "encoder": (3, 8, 12),
        "decoder": (5,),
    }


def test_graphs_hold_no_notes_traces_or_names_of_the_builder(graphs: Graphs) -> None:
    here = str(Path(torch.__file__).parents[2]).encode()
    for role, graph in graphs.items():
        assert (graph.producer_name, graph.producer_version, graph.domain) == ("vae-edge", "", "")
        assert graph.graph.name == role
        parts = [
            graph.graph, *graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.initializer
        ]  # fmt: skip
        for part in (graph, *parts):
            assert len(part.metadata_props) == 0
            assert part.doc_string == ""
        assert len(graph.graph.value_info) == 0
        data = graph.SerializeToString()
        for trace in (here, b".py", b"stack_trace", b"pkg.torch", b"torch.", b"/home", b"site-packages"):
            assert trace not in data, (role, trace)


def test_weights_lie_inside_by_their_names(graphs: Graphs, source: Source) -> None:
    for role, module in (("encoder", source.model.encoder), ("decoder", source.model.decoder)):
        held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graphs[role].graph.initializer}
        for name, tensor in module.state_dict().items():
            np.testing.assert_array_equal(held[name], tensor.numpy())


def test_the_card_is_the_only_note_and_says_the_role(graphs: Graphs) -> None:
    cards = {}
    for role, data in add_cards(graphs, CARD).items():
        (note,) = onnx.load_model_from_string(data).metadata_props
        assert note.key == METADATA_KEY
        cards[role] = Card.from_metadata(note.value, role)
        assert cards[role].role == role
        check_graph(data, role, 17)
    assert cards["encoder"].differences(cards["decoder"]) == []
    assert len(cards["encoder"].bundle_id) == 32


def test_the_identifier_changes_with_weights_and_card_and_with_nothing_else(graphs: Graphs) -> None:
    def identifier(built: Graphs, card: Card) -> str:
        (note,) = onnx.load_model_from_string(add_cards(built, card)["decoder"]).metadata_props
        return Card.from_metadata(note.value, "").bundle_id

    other = {role: copy.deepcopy(graph) for role, graph in graphs.items()}
    weight = other["encoder"].graph.initializer[0]
    weight.raw_data = bytes([weight.raw_data[0] ^ 1]) + weight.raw_data[1:]
    renamed = Card("another", "", (1, 8, 8), 2, Likelihood("bernoulli"), "fp32", 17, "")
    assert identifier(graphs, CARD) == identifier(graphs, CARD)
    assert len({identifier(graphs, CARD), identifier(other, CARD), identifier(graphs, renamed)}) == 3


def test_adding_cards_leaves_the_graphs_alone(graphs: Graphs) -> None:
    before = {role: graph.SerializeToString() for role, graph in graphs.items()}
    add_cards(graphs, CARD)
    assert {role: graph.SerializeToString() for role, graph in graphs.items()} == before
