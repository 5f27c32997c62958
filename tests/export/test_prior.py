"""A bundle with a prior: its graph is the flow, sampling goes through it, and its card tells of the likelihood."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import vae_runtime
from vae_export import bundle as bundle_module
from vae_export.bundle import Report, Settings, export_bundle
from vae_export.errors import ParityError
from vae_export.opsets import supported_opsets
from vae_export.sources import Source, load_source
from vae_runtime.latent import noise
from vae_training import loop
from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.data import ImageSet
from vae_training.flow import Flow
from vae_training.loop import Trainer
from vae_training.run_folder import RunFolder

Images = Callable[..., ImageSet]


@pytest.fixture(scope="module")
def trained(make_images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose prior is a flow, and whose likelihood is Gaussian."""
    folder = tmp_path_factory.mktemp("flow") / "run"
    settings = TrainingConfig(
        epochs=1, batch_size=8, device="cpu", compile="off", likelihood="gaussian", prior="flow"
    )
    config = Config(DataConfig("noise.npy"), ModelConfig(8, 8, 1, (3, 5), 4), settings)
    with pytest.MonkeyPatch.context() as patched:
        for name in ("plot_losses", "write_sample_sheet", "write_reconstruction_sheet"):
            patched.setattr(loop, name, lambda *_: None)
        trainer = Trainer(config, make_images(), RunFolder(folder))
        RunFolder(folder).write_config(config)
        trainer.run()
    return folder


@pytest.fixture(scope="module")
def flowing(trained: Path) -> Source:
    """The run with a flow that is far from doing nothing."""
    flowing = load_source(trained)
    assert isinstance(flowing.prior, Flow)
    draws = torch.Generator().manual_seed(0)
    for parameter in flowing.prior.parameters():
        parameter.normal_(std=0.1, generator=draws)
    return flowing


@pytest.fixture(scope="module")
def bundle(flowing: Source, make_images: Images, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Its bundle."""
    return export_bundle(
        flowing, make_images(), tmp_path_factory.mktemp("out") / "bundle", Settings(17, "flow")
    )


@torch.no_grad()
def test_sampling_is_the_decoder_behind_the_prior_behind_noise(bundle: Report, flowing: Source) -> None:
    assert flowing.prior is not None
    drawn = flowing.prior(torch.from_numpy(noise(300, 4, seed=3)))
    with vae_runtime.load(bundle.path, provider="cpu") as model:
        np.testing.assert_allclose(model.sample_latents(300, seed=3), drawn.numpy(), rtol=0, atol=1e-4)
        expected = flowing.model.decoder(drawn).numpy()
        np.testing.assert_allclose(model.sample(300, seed=3), expected, rtol=0, atol=1e-4)
    assert (drawn - torch.from_numpy(noise(300, 4, seed=3))).abs().max() > 0.2


def test_the_card_tells_of_the_likelihood_and_the_readme_of_the_prior(bundle: Report, trained: Path) -> None:
    scale = RunFolder(trained).read_metrics()[-1]["noise_scale"]
    assert bundle.card.likelihood.name == "gaussian"
    assert bundle.card.likelihood.noise_scale == pytest.approx(scale)
    readme = (bundle.path / "README.md").read_text()
    assert f"gaussian with standard deviation {scale:g}" in readme
    assert "| `prior.onnx` | `noise` (batch, 4) float32, standard normal |" in readme
    assert "send noise, drawn from the standard normal, through the prior" in readme
    assert [row.output for row in bundle.differences] == [
        "mean",
        "logvar",
        "latent",
        "image",
        "image",
        "image",
    ]


def test_a_prior_that_is_off_by_little_fails_the_proof(
    flowing: Source, make_images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = bundle_module.build_prior

    def shifted(prior: Flow, latent_size: int, opset: int) -> onnx.ModelProto:
        moved = Flow(latent_size).eval().requires_grad_(requires_grad=False)
        moved.load_state_dict(prior.state_dict())
        moved.mean += 1e-3
        return build(moved, latent_size, opset)

    monkeypatch.setattr(bundle_module, "build_prior", shifted)
    with pytest.raises(ParityError, match=r"latent on noise differs by 0\.001"):
        export_bundle(flowing, make_images(), tmp_path / "bundle", Settings(17, "flow"))
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def test_a_bundle_with_a_prior_is_a_source_too_with_all_of_it(
    bundle: Report, flowing: Source, make_images: Images, tmp_path: Path
) -> None:
    read = load_source(bundle.path)
    assert isinstance(read.prior, Flow)
    assert isinstance(flowing.prior, Flow)
    for name, tensor in flowing.prior.state_dict().items():
        assert torch.equal(read.prior.state_dict()[name], tensor), name
    assert read.likelihood == bundle.card.likelihood
    again = export_bundle(read, make_images(), tmp_path / "int8", Settings(17, "flow", precision="int8"))
    with vae_runtime.load(bundle.path) as exact, vae_runtime.load(again.path) as rounded:
        np.testing.assert_array_equal(exact.sample_latents(50, seed=1), rounded.sample_latents(50, seed=1))
        assert rounded.card.precision == "int8"
        assert rounded.card.likelihood == exact.card.likelihood


@pytest.mark.parametrize("opset", [supported_opsets()[0], supported_opsets()[-1]])
def test_every_opset_has_what_a_flow_needs(
    flowing: Source, make_images: Images, tmp_path: Path, opset: int
) -> None:
    report = export_bundle(flowing, make_images(), tmp_path / "bundle", Settings(opset, "flow"))
    assert report.card.opset == opset
    assert set(report.sizes) == {"encoder", "decoder", "prior"}


def test_a_classic_bundle_has_no_prior_and_a_bernoulli_without_a_scale(exported: Report) -> None:
    assert set(exported.sizes) == {"encoder", "decoder"}
    assert exported.card.likelihood == vae_runtime.Likelihood("bernoulli", None)
    assert "decode latents drawn from the standard normal" in (exported.path / "README.md").read_text()
