"""PyTorch modules to ONNX graphs: traced, converted to the opset, and stripped of the exporter's traces."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace

import onnx
import onnx.version_converter
import torch
from torch import Tensor, nn

from vae_export.coders import Coders
from vae_export.errors import GraphError
from vae_export.opsets import ir_version_for
from vae_runtime.card import METADATA_KEY, Card
from vae_runtime.session import SIGNATURES
from vae_training.config import ModelConfig
from vae_training.priors import Prior
from vae_training.priors.flow import FlowInverse
from vae_training.priors.mixture import GaussianMixture, MixtureDensity

_PRODUCER = "vae-edge"

# The exporter writes this opset by itself; asked for an older one it converts, and where that fails it
# silently keeps this one. So we convert, and look.
_EXPORTER_OPSET = 18

# The smallest batch that is not 1: the exporter takes an axis of 1 for a constant.
_TRACED_BATCH = 2


def build_graphs(model: Coders, opset: int) -> dict[str, onnx.ModelProto]:
    """Return encoder and decoder as ONNX models of an opset, without cards."""
    inputs = example_inputs(model.config)
    return {
        "encoder": _build("encoder", model.encoder, inputs["encoder"], opset),
        "decoder": _build("decoder", model.decoder, inputs["decoder"], opset),
    }


def build_prior(prior: Prior, opset: int) -> dict[str, onnx.ModelProto]:
    """Return a prior, and what is known of it besides, as ONNX models of an opset, without cards.

    A flow has a way back, which tells the density as well; of a mixture the density alone can be told.
    """
    example = torch.zeros(
        _TRACED_BATCH, len(prior.means[0] if isinstance(prior, GaussianMixture) else prior.mean)
    )
    modules = {"prior": prior, **besides(prior)}
    return {role: _build(role, module, example, opset) for role, module in modules.items()}


def besides(prior: Prior) -> dict[str, nn.Module]:
    """Return what is known of a prior besides itself, by the role of its graph: modules that take latents."""
    if isinstance(prior, GaussianMixture):
        return {"prior_density": MixtureDensity(prior)}
    return {"prior_inverse": FlowInverse(prior)}


def example_inputs(config: ModelConfig) -> dict[str, Tensor]:
    """Return an input to trace each graph with: its role's shape, with a batch of two."""
    return {
        "encoder": torch.zeros(_TRACED_BATCH, *config.image_shape),
        "decoder": torch.zeros(_TRACED_BATCH, config.latent_size),
    }


def add_cards(graphs: Mapping[str, onnx.ModelProto], card: Card) -> dict[str, bytes]:
    """Write the card into each graph, with its role and the identifier that all of them share.

    Returns:
        The files' bytes, by role. The identifier is a hash of the graphs and the card: the same export
        gives the same bytes.
    """
    digest = hashlib.sha256(card.to_metadata().encode())
    for graph in graphs.values():
        digest.update(graph.SerializeToString(deterministic=True))
    shared = replace(card, bundle_id=digest.hexdigest()[:32])
    files = {}
    for role, graph in graphs.items():
        marked = onnx.ModelProto()
        marked.CopyFrom(graph)
        marked.metadata_props.add(key=METADATA_KEY, value=replace(shared, role=role).to_metadata())
        files[role] = marked.SerializeToString(deterministic=True)
    return files


def _build(role: str, module: nn.Module, example: Tensor, opset: int) -> onnx.ModelProto:
    input_name, output_names = SIGNATURES[role]
    with _quiet_exporter():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=max(opset, _EXPORTER_OPSET),
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            external_data=False,
            optimize=True,
            verbose=False,
        )
    if program is None:  # pragma: no cover - only other modes of the exporter return nothing
        raise GraphError("torch.onnx.export returned nothing")
    proto = program.model_proto
    if opset < _EXPORTER_OPSET:
        try:
            proto = onnx.version_converter.convert_version(proto, opset)
        except Exception as error:
            raise GraphError(f"the {role} cannot be converted to opset {opset}: {error}") from error
    return tidy(proto, role, opset)


def tidy(proto: onnx.ModelProto, role: str, opset: int) -> onnx.ModelProto:
    """Take out what is not needed to run, stack traces with the builder's paths among it; return the same graph."""
    proto.producer_name, proto.producer_version = _PRODUCER, ""
    proto.domain, proto.doc_string, proto.model_version = "", "", 0
    proto.ir_version = ir_version_for(opset)
    proto.graph.name, proto.graph.doc_string = role, ""
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    del proto.graph.value_info[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    return proto


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence notes on missing optional packages and on what the exporter deprecates inside itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
