"""The forward pass that is arranged for the CPU is the plain one, up to rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vae_training.config import ModelConfig
from vae_training.cpu_forward import _DoubleByProduct, decode_on_cpu, forward_on_cpu
from vae_training.kl_shaping import kl_per_latent
from vae_training.likelihood import bernoulli_nll
from vae_training.model import VAE
from vae_training.objective import beta_vae_loss

CONFIGS = {
    "classic": ModelConfig(),
    "colour, not square": ModelConfig(16, 12, 3, (6, 10), 5),
    "with a ReLU behind fc": ModelConfig(8, 8, 1, (3, 2), 1, fc_relu=True),
    "residual": ModelConfig(16, 8, 3, (3, 2), 2, architecture="residual"),
}


@pytest.mark.parametrize("channels_last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("count", [1, 5, 70], ids=["one image", "a few images", "a batch"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_outputs_and_gradients_are_those_of_the_model(
    config: ModelConfig, count: int, *, channels_last: bool
) -> None:
    torch.manual_seed(0)
    plain, arranged = VAE(config), VAE(config)
    arranged.load_state_dict(plain.state_dict())
    if channels_last:
        arranged.to(memory_format=torch.channels_last)
    image, noise = torch.rand(count, *config.image_shape), torch.randn(count, config.latent_size)
    expected, found = plain(image, noise), forward_on_cpu(arranged, image, noise)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, atol=1e-6, rtol=1e-5)
    for logits, mean, logvar in (expected, found):
        loss = beta_vae_loss(bernoulli_nll(logits, image), kl_per_latent(mean, logvar), 0.5)
        loss.total.backward()
    assert gradients(arranged).keys() == gradients(plain).keys()
    for name, gradient in gradients(plain).items():
        torch.testing.assert_close(gradients(arranged)[name], gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("config", "count", "convolved"),
    [
        (ModelConfig(), 64, 21),  # the 20 latents, and the bias
        (ModelConfig(), 16, 16),
        (ModelConfig(latent_size=60), 64, 64),
        (ModelConfig(fc_relu=True), 64, 64),
    ],
    ids=["more images than latents", "fewer images", "many latents", "a ReLU in between"],
)
def test_what_each_latent_adds_is_convolved_where_that_is_less_than_the_images(
    config: ModelConfig, count: int, convolved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    convolve = F.conv_transpose2d

    def counted(given: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        counts.append(len(given))
        return convolve(given, *args, **kwargs)

    monkeypatch.setattr(F, "conv_transpose2d", counted)
    decode_on_cpu(VAE(config).decoder, torch.randn(count, config.latent_size))
    assert counts == [convolved]


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 3))
def test_the_matrix_product_is_the_transposed_convolution(
    count: int, inputs: int, height: int, width: int, outputs: int
) -> None:
    generator = torch.Generator().manual_seed(count + 10 * inputs + 100 * height + 1000 * width)
    shapes = ((count, inputs, height, width), (inputs, outputs, 4, 4), (outputs,))
    given_ = [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes
    ]
    expected = F.conv_transpose2d(*given_, stride=2, padding=1)
    found = _DoubleByProduct.apply(*given_)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    for one, other in zip(slopes(expected, weights, given_), slopes(found, weights, given_), strict=True):
        torch.testing.assert_close(other, one)


def slopes(output: Tensor, weights: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad((output * weights).sum(), inputs)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }
