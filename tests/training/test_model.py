"""The architecture, against the classic code written out once more in plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_vae import PlainVAE

from vae_training.config import ModelConfig
from vae_training.model import VAE, reparameterize

CLASSIC_NAMES = [
    f"{part}.{layer}.{kind}"
    for part, layers in (
        ("encoder", ("conv1", "conv2", "fc_mu", "fc_logvar")),
        ("decoder", ("fc", "trans_conv1", "trans_conv2")),
    )
    for layer in layers
    for kind in ("weight", "bias")
]


def test_layers_have_the_names_of_the_classic_code() -> None:
    assert list(VAE(ModelConfig()).state_dict()) == CLASSIC_NAMES


@torch.no_grad()
@pytest.mark.parametrize("fc_relu", [False, True])
def test_weights_of_the_classic_code_load_as_they_are_and_compute_the_same(fc_relu: bool) -> None:
    torch.manual_seed(1)
    plain = PlainVAE(fc_relu=fc_relu)
    ours = VAE(ModelConfig(fc_relu=fc_relu))
    ours.load_state_dict(plain.state_dict(), strict=True)
    image, latent = torch.rand(5, 1, 24, 24), torch.randn(5, 20)
    for found, expected in zip(ours.encoder(image), plain.encode(image), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.decoder(latent), plain.decode(latent), rtol=0, atol=1e-6)


def test_the_same_seed_draws_the_same_first_weights_as_the_classic_code() -> None:
    torch.manual_seed(3)
    plain = PlainVAE().state_dict()
    torch.manual_seed(3)
    ours = VAE(ModelConfig()).state_dict()
    assert all(torch.equal(ours[name], plain[name]) for name in CLASSIC_NAMES)


def parameter_count(channels: int, height: int, width: int, f1: int, f2: int, latents: int) -> int:
    features = f2 * (height // 4) * (width // 4)
    convolutions = (16 * channels * f1 + f1) + (16 * f1 * f2 + f2)
    heads = 2 * (features * latents + latents)
    back = (latents * features + features) + (16 * f2 * f1 + f1) + (16 * f1 * channels + channels)
    return convolutions + heads + back


def test_the_classic_model_has_207273_parameters() -> None:
    assert sum(p.numel() for p in VAE(ModelConfig()).parameters()) == 207_273
    assert parameter_count(1, 24, 24, 32, 64, 20) == 207_273


@torch.no_grad()
@given(
    height=st.integers(2, 10),
    width=st.integers(2, 10),
    channels=st.sampled_from([1, 3]),
    filters=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    latents=st.integers(1, 6),
    batch=st.integers(1, 3),
)
@settings(max_examples=25, deadline=None)
def test_any_size_divisible_by_four_goes_in_and_comes_out(
    height: int, width: int, channels: int, filters: tuple[int, int], latents: int, batch: int
) -> None:
    height, width = 4 * height, 4 * width
    model = VAE(ModelConfig(height, width, channels, filters, latents))
    assert sum(p.numel() for p in model.parameters()) == parameter_count(
        channels, height, width, *filters, latents
    )
    image = torch.rand(batch, channels, height, width)
    mean, logvar = model.encoder(image)
    assert mean.shape == logvar.shape == (batch, latents)
    decoded = model.decoder(mean)
    assert decoded.shape == image.shape
    assert ((decoded >= 0) & (decoded <= 1)).all()
    logits, *_ = model(image, torch.zeros(batch, latents))
    torch.testing.assert_close(torch.sigmoid(logits), decoded)


def test_z_is_the_mean_plus_noise_times_the_standard_deviation() -> None:
    mean, logvar, noise = torch.randn(3, 50, 4, generator=torch.Generator().manual_seed(0)).double()
    expected = (
        mean.numpy() + noise.numpy() * torch.distributions.Normal(mean, (logvar / 2).exp()).stddev.numpy()
    )
    torch.testing.assert_close(reparameterize(mean, logvar, noise), torch.from_numpy(expected))
    torch.testing.assert_close(reparameterize(mean, logvar, torch.zeros_like(noise)), mean)
    # A variance of four, so a standard deviation of two.
    z = reparameterize(torch.tensor([1.0]), torch.tensor([4.0]).log(), torch.tensor([3.0]))
    torch.testing.assert_close(z, torch.tensor([7.0]))


def test_gradients_pass_through_the_draw() -> None:
    mean, logvar, noise = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(1))
    mean.requires_grad_()
    logvar.requires_grad_()
    reparameterize(mean, logvar, noise).sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones(5, 2))
    torch.testing.assert_close(logvar.grad, 0.5 * noise * (0.5 * logvar.detach()).exp())


def test_the_draw_decides_what_is_decoded() -> None:
    torch.manual_seed(0)
    model = VAE(ModelConfig(8, 8, 1, (2, 3), 2))
    image = torch.rand(2, 1, 8, 8)
    first, second = (model(image, torch.full((2, 2), value))[0] for value in (0.0, 1.0))
    assert not torch.equal(first, second)
