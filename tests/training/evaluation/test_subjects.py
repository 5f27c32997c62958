"""A run and the bundle of it are the same model, and what is neither is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from classic_graphs import graph
from torch import Tensor
from torch.distributions import Normal

from vae_runtime.card import Likelihood
from vae_runtime.errors import BundleError, NonFiniteError
from vae_runtime.latent import latent_path, noise
from vae_training.data import ImageSet
from vae_training.errors import CheckpointError
from vae_training.evaluation.subjects import RunSubject, open_subject
from vae_training.priors.flow import Flow
from vae_training.run_folder import RunFolder, read_checkpoint


def test_a_run_and_its_bundle_see_draw_and_sample_the_same(
    run: Path, bundle: Path, run_data: ImageSet
) -> None:
    images = (run_data.images[:600].transpose(0, 3, 1, 2) / 255).astype(np.float32)
    with open_subject(str(run)) as ours, open_subject(str(bundle)) as theirs:
        assert (ours.kind, theirs.kind) == ("run", "bundle")
        assert ours.image_shape == theirs.image_shape
        for a, b in zip(ours.encode(images), theirs.encode(images), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
        latents = ours.sample_latents(700, seed=3)
        assert np.array_equal(latents, theirs.sample_latents(700, seed=3))
        np.testing.assert_allclose(ours.decode(latents), theirs.decode(latents), atol=1e-5)
        assert ours.likelihood.noise_scale == pytest.approx(theirs.likelihood.noise_scale, rel=1e-6)
        assert theirs.config.training == ours.config.training
        assert (ours.learned_prior, theirs.learned_prior) == (False, False)


def test_the_noise_scale_of_a_run_is_the_one_that_it_trained(run: Path) -> None:
    last = RunFolder(run).read_metrics()[-1]
    with open_subject(str(run)) as subject:
        assert subject.likelihood.noise_scale == pytest.approx(last["noise_scale"], rel=1e-5)
        assert subject.likelihood.training is False


def test_one_checkpoint_of_a_run_can_be_opened_by_itself(run: Path) -> None:
    oldest = min((run / "checkpoints").iterdir())
    with open_subject(str(run)) as newest, open_subject(str(oldest)) as subject:
        assert subject.name == oldest.name
        assert not np.array_equal(subject.decode(noise(1, 3, 0)), newest.decode(noise(1, 3, 0)))


def test_a_bundle_whose_card_knows_no_noise_scale_is_refused(write_bundle: Callable[..., Path]) -> None:
    with (
        pytest.raises(BundleError, match="no noise scale"),
        open_subject(str(write_bundle(likelihood=Likelihood("gaussian")))),
    ):
        pass


def test_a_bundle_whose_card_contradicts_its_recipe_is_refused(write_bundle: Callable[..., Path]) -> None:
    with (
        pytest.raises(BundleError, match="names the likelihood bernoulli, the recipe in it gaussian"),
        open_subject(str(write_bundle(likelihood=Likelihood("bernoulli")))),
    ):
        pass


def test_a_bundle_with_a_likelihood_of_another_time_is_refused(write_bundle: Callable[..., Path]) -> None:
    with (
        pytest.raises(BundleError, match="a likelihood that is not known here"),
        open_subject(str(write_bundle(likelihood=Likelihood("laplace", 0.1), recipe={}))),
    ):
        pass


def test_a_recipe_that_is_not_understood_is_as_none(write_bundle: Callable[..., Path]) -> None:
    with open_subject(str(write_bundle(recipe={"training": {"unheard_of": 1}}))) as subject:
        assert subject.config is None


def test_what_is_neither_a_run_nor_a_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for source, problem in (
        (tmp_path / "nowhere", "no such run or bundle"),
        (tmp_path, "neither a run nor a bundle"),
        (tmp_path / "file", "neither a run nor a bundle"),
    ):
        with pytest.raises(BundleError, match=problem), open_subject(str(source)):
            pass


def test_a_shipped_model_is_known_by_its_name() -> None:
    with open_subject("faces24") as subject:
        assert (subject.name, subject.kind, subject.image_shape) == ("faces24", "bundle", (1, 24, 24))


def doubling_priors() -> dict[str, onnx.ModelProto]:
    """A prior that doubles noise, and the way back from it."""
    node, latents = onnx.helper.make_node, ["batch", 3]
    numbers = {
        "two": torch.full((3,), 2.0),
        "half": torch.full((1,), -0.5),
        "rest": torch.full((1,), -1.5 * math.log(2 * math.pi) - 3 * math.log(2)),
    }
    back = [
        node("Div", ["latent", "two"], ["noise"]),
        node("Mul", ["noise", "noise"], ["squares"]),
        node("ReduceSum", ["squares", "axes"], ["sum"], keepdims=0),
        node("Mul", ["sum", "half"], ["normal"]),
        node("Add", ["normal", "rest"], ["log_density"]),
    ]
    forward = [node("Mul", ["noise", "two"], ["latent"])]
    made = {"noise": latents, "log_density": ["batch"]}
    return {
        "prior": graph("prior", forward, {"noise": latents}, {"latent": latents}, numbers, {}),
        "prior_inverse": graph("prior_inverse", back, {"latent": latents}, made, numbers, {"axes": [1]}),
    }


def test_samples_of_a_bundle_go_through_its_prior(write_bundle: Callable[..., Path]) -> None:
    priors = doubling_priors()
    del priors["prior_inverse"]
    with open_subject(str(write_bundle(priors=priors))) as subject:
        assert subject.learned_prior
        np.testing.assert_allclose(subject.sample_latents(9, seed=4), 2 * noise(9, 3, 4))
        assert subject.prior_gain(noise(9, 3, 4)) is None


def test_a_bundle_that_can_undo_its_prior_tells_its_density(write_bundle: Callable[..., Path]) -> None:
    points = noise(9, 3, 4)
    with open_subject(str(write_bundle(priors=doubling_priors()))) as subject:
        assert subject.learned_prior
        found = subject.prior_gain(points)
    doubled, standard = (Normal(0.0, scale).log_prob(torch.from_numpy(points)).sum(1) for scale in (2.0, 1.0))
    np.testing.assert_allclose(found, doubled - standard, atol=1e-4)


def test_a_run_interpolates_through_its_flow_as_a_bundle_does(run: Path) -> None:
    flow = Flow(3)
    flow.begin_with(torch.tensor([5.0, 0.0, -5.0]), torch.diag(torch.tensor([4.0, 1.0, 0.25])))
    subject = RunSubject(replace(read_checkpoint(run), prior=flow.state_dict()), run)
    noises, shift, scale = noise(2, 3, 1), np.float32([5, 0, -5]), np.float32([2, 1, 0.5])
    ends = noises * scale + shift
    np.testing.assert_allclose(
        subject.latent_path(ends, 9), latent_path(noises, 9) * scale + shift, atol=1e-5
    )


def test_the_ends_of_a_way_through_a_flow_are_what_they_were_to_the_last_bit(run: Path) -> None:
    torch.manual_seed(2)
    flow = Flow(3)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    subject = RunSubject(replace(read_checkpoint(run), prior=flow.state_dict()), run)
    for seed in range(8):
        ends = 2 * noise(2, 3, seed)
        np.testing.assert_array_equal(subject.latent_path(ends, 9)[[0, -1]], ends)


@pytest.mark.parametrize(
    "kept", [None, torch.tensor(float("nan")), torch.zeros(2), torch.tensor(1e30), torch.tensor(-1e30)]
)
def test_a_run_without_a_fitting_spread_of_its_pixels_is_refused(run: Path, kept: Tensor | None) -> None:
    checkpoint = read_checkpoint(run)
    training = {} if kept is None else {"likelihood.log_scale": kept}
    with pytest.raises(CheckpointError, match="holds no fitting log_scale of its likelihood"):
        RunSubject(replace(checkpoint, training=training), run)


def test_what_is_not_a_number_is_never_measured(run: Path) -> None:
    checkpoint = read_checkpoint(run)
    huge = {name: tensor * 1e30 for name, tensor in checkpoint.weights.items()}
    subject = RunSubject(replace(checkpoint, weights=huge), run)
    with pytest.raises(NonFiniteError, match="the decoder produced NaN or infinity"):
        subject.decode(noise(4, 3, 0))
    with pytest.raises(NonFiniteError, match="the encoder produced NaN or infinity"):
        subject.encode(np.full((1, 1, 8, 8), 0.5, np.float32))


def test_samples_of_a_run_go_through_the_prior_that_was_fitted(run: Path) -> None:
    flow = Flow(3)
    flow.begin_with(torch.tensor([5.0, 0.0, -5.0]), torch.diag(torch.tensor([4.0, 1.0, 0.25])))
    subject = RunSubject(replace(read_checkpoint(run), prior=flow.state_dict()), run)
    assert subject.learned_prior
    latents = subject.sample_latents(4000, seed=0)
    np.testing.assert_allclose(latents.mean(0), [5.0, 0.0, -5.0], atol=0.15)
    np.testing.assert_allclose(latents.std(0), [2.0, 1.0, 0.5], rtol=0.05)
    spread = Normal(torch.tensor([5.0, 0.0, -5.0]), torch.tensor([2.0, 1.0, 0.5]))
    points = torch.from_numpy(noise(5, 3, 1))
    gain = (spread.log_prob(points) - Normal(0.0, 1.0).log_prob(points)).sum(1)
    np.testing.assert_allclose(subject.prior_gain(points.numpy()), gain.numpy(), rtol=1e-4)
