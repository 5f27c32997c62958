"""What a model costs, against PyTorch's own counter of floating point operations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from vae_training.config import ModelConfig
from vae_training.costs import decoder_multiply_adds, encoder_multiply_adds, parameter_count
from vae_training.model import VAE

CLASSIC = ModelConfig()

FEW = st.integers(1, 9)
MODELS = st.one_of(
    st.builds(
        ModelConfig,
        height=st.sampled_from([8, 12, 24]),
        width=st.sampled_from([8, 12, 24]),
        channels=st.sampled_from([1, 3]),
        filters=st.tuples(FEW, FEW),
        latent_size=FEW,
    ),
    st.builds(
        ModelConfig,
        height=st.sampled_from([8, 24]),
        width=st.sampled_from([8, 16, 24]),
        channels=st.sampled_from([1, 3]),
        filters=st.none() | st.lists(FEW, min_size=1, max_size=3).map(tuple),
        latent_size=FEW,
        architecture=st.just("residual"),
        blocks=st.integers(0, 2),
    ),
)


@torch.no_grad()
@given(model=MODELS)
@settings(max_examples=30, deadline=None)
def test_multiply_adds_are_those_that_pytorch_counts(model: ModelConfig) -> None:
    vae = VAE(model)
    for module, given_, found in (
        (vae.encoder, torch.zeros(1, *model.image_shape), encoder_multiply_adds(model)),
        (vae.decoder, torch.zeros(1, model.latent_size), decoder_multiply_adds(model)),
    ):
        with FlopCounterMode(display=False) as counter:
            module(given_)
        assert 2 * found == counter.get_total_flops()


def test_the_classic_decoder_does_one_point_three_million_multiply_adds() -> None:
    assert decoder_multiply_adds(CLASSIC) == 1_299_456
    assert encoder_multiply_adds(CLASSIC) == 1_345_536


def test_a_model_whose_weights_would_fill_any_machine_is_counted_without_memory() -> None:
    huge = ModelConfig(1024, 1024, 3, (65_536, 65_536), 65_536)
    features = 65_536 * 256 * 256
    assert encoder_multiply_adds(huge) == 2 * 65_536 * features + 16 * 65_536 * (3 * 512**2 + 65_536 * 256**2)


@pytest.mark.parametrize("model", [CLASSIC, ModelConfig(32, 48, 3, architecture="residual")])
def test_parameters_are_the_elements_of_the_weights(model: ModelConfig) -> None:
    vae = VAE(model)
    assert parameter_count(vae) == sum(tensor.numel() for tensor in vae.state_dict().values())
