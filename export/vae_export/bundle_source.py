"""A bundle as the source of an export: its weights are read from its graphs, and proven to compute the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from torch import Tensor

from vae_export.coders import Coders
from vae_export.errors import ParityError, SourceError
from vae_export.half_storage import stored_weights
from vae_export.parity import Tolerances, compare, require_parity
from vae_runtime.bundle import ROLES_OF_A_PRIOR, Bundle
from vae_runtime.card import Card
from vae_runtime.images import picture_shape
from vae_runtime.model import Model
from vae_training.checkpoint import model_from_weights, prior_from_weights
from vae_training.config import Config, ModelConfig
from vae_training.errors import NonFiniteWeightsError, TrainingError
from vae_training.priors import Prior, expected_shapes

_NOISE = 64  # pictures


def read_models(bundle: Bundle) -> tuple[Coders, Prior | None, Card]:
    """Return the model that a bundle's graphs compute, its prior where it has one, and its card.

    Classic decoders are known as PyTorch has them and folded: the weights are the same. Of other architectures the
    sizes are those of the card's recipe; whether they are true shows in what the graphs compute.

    Raises:
        SourceError: another precision than fp32, or graphs of no architecture that is known here.
        BundleError: damaged, or not what a bundle may be.
    """
    # Opening it scans the bytes, and checks that the graphs belong together.
    with Model(bundle, provider="cpu") as model:
        card = model.card
        if card.precision != "fp32":
            raise SourceError(
                f"{bundle.source}: its weights are rounded to {card.precision}; expected a bundle of fp32"
            )
        graphs = {role: onnx.load_model_from_string(data) for role, data in bundle.graphs.items()}
        try:
            prior = _prior(graphs.pop("prior"), card, bundle.source) if "prior" in graphs else None
            for role in ROLES_OF_A_PRIOR:  # made of the prior again
                graphs.pop(role, None)
            coders = _coders(graphs, card, bundle.source)
            noise = np.random.default_rng(0).integers(
                0, 256, (_NOISE, *picture_shape(card.image_shape)), np.uint8
            )
            require_parity(compare(coders, model, noise, Tolerances(), prior))
        except NonFiniteWeightsError:
            raise
        except (KeyError, IndexError, ValueError, RuntimeError, TrainingError, ParityError) as error:
            raise SourceError(
                f"{bundle.source}: its graphs are not of an architecture that is known here: {error}; "
                "expected a bundle that vae-export wrote in fp32"
            ) from error
    return coders, prior, card


def _coders(graphs: Mapping[str, onnx.ModelProto], card: Card, source: str) -> Coders:
    weights = {
        f"{role}.{name}": tensor for role, graph in graphs.items() for name, tensor in _tensors(graph).items()
    }
    training = Config.from_recipe(card.recipe)
    if training is None or training.model.architecture == "classic":
        config, weights = _classic(weights, graphs, card)
    else:
        config = training.model
        of_card = (card.image_shape, card.latent_size)
        if (config.image_shape, config.latent_size) != of_card:
            raise ValueError(f"its recipe is of another model than its card, of images and latents {of_card}")
    return model_from_weights(config, weights, source).eval().requires_grad_(False)


def _classic(
    weights: dict[str, Tensor], graphs: Mapping[str, onnx.ModelProto], card: Card
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Return the sizes of the classic architecture, read off its graphs, and its weights as PyTorch has them."""
    first, second = (weights[f"encoder.conv{number}.weight"].shape[0] for number in (1, 2))
    channels, height, width = card.image_shape
    relus = sum(node.op_type == "Relu" for node in graphs["decoder"].graph.node)
    config = ModelConfig(height, width, channels, (first, second), card.latent_size, fc_relu=relus > 1)
    rows, start = weights["decoder.fc.weight"], weights["decoder.fc.bias"]
    if rows.dim() == 4:  # as `folding` stores them: what each latent adds to the images, and what none does
        weights |= {"decoder.fc.weight": rows.flatten(1).t().contiguous(), "decoder.fc.bias": start.flatten()}
    return config, weights


def _prior(graph: onnx.ModelProto, card: Card, source: str) -> Prior:
    tensors = _tensors(graph)
    known = expected_shapes(card.latent_size, tensors)  # among the tensors are numbers of its formulas, too
    weights = {name: tensor for name, tensor in tensors.items() if name in known}
    return prior_from_weights(ModelConfig(latent_size=card.latent_size), weights, source)


def _tensors(graph: onnx.ModelProto) -> dict[str, Tensor]:
    """Return a graph's weights by name: its float32 tensors, and not its shapes, which are whole numbers."""
    return {name: torch.tensor(array) for name, array in stored_weights(graph).items()}
