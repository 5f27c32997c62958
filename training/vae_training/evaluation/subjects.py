"""What is measured: a run, through PyTorch, or a bundle, through the runtime, seen in one form."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from vae_runtime.bundle import ROLES_OF_A_PRIOR, shipped_models
from vae_runtime.card import Card
from vae_runtime.errors import BundleError, NonFiniteError, printable
from vae_runtime.images import Images
from vae_runtime.latent import Latents, latent_path, noise
from vae_runtime.model import Model, load
from vae_runtime.prior import standard_log_density
from vae_runtime.sums import SUMS
from vae_training.checkpoint import (
    STATE,
    Checkpoint,
    likelihood_from_checkpoint,
    model_from_weights,
    prior_from_weights,
)
from vae_training.config import Config, TrainingConfig
from vae_training.errors import ConfigError
from vae_training.likelihood import Likelihood
from vae_training.priors.flow import Flow, FlowInverse
from vae_training.run_folder import CONFIG, read_checkpoint

_AT_ONCE = 512  # images
_LONGEST_NAME = 40  # characters


class Subject(Protocol):
    """A trained model, as the measures see it. Deterministic: what is random comes from a seed."""

    name: str
    kind: str
    """`run` or `bundle`."""
    image_shape: tuple[int, int, int]
    """Channels, height and width."""
    latent_size: int
    config: Config | None
    """The settings of its training, where they are known."""
    data_fingerprint: str | None
    """Of the images that it was trained on, where it is known."""
    likelihood: Likelihood
    learned_prior: bool
    """Whether samples come from something else than the standard normal."""
    sha256: str
    """Of a bundle's SHA256SUMS; empty for a run."""

    def encode(self, images: Images) -> tuple[Latents, Latents]:
        """(N, C, H, W) float32 in [0, 1] to mean and logvar of q(z given x), each (N, D) float32."""

    def decode(self, latents: Latents) -> Images:
        """(N, D) float32 to the mean of p(x given z), (N, C, H, W) float32 in [0, 1]."""

    def sample_latents(self, n: int, seed: int) -> Latents:
        """Return the latents of `n` new images, (n, D) float32."""

    def prior_gain(self, latents: Latents) -> npt.NDArray[np.float64] | None:
        """Return by how many nats latents (N, D) are more probable to the prior than to the standard normal; (N,).

        None where that cannot be told: by a bundle that has a prior and does not know its density.
        """

    def latent_path(self, ends: Latents, steps: int) -> Latents:
        """Return the latents on the way from one to the other of (2, D), (steps, D), as the model interpolates."""


@contextlib.contextmanager
def open_subject(source: str) -> Iterator[Subject]:
    """Open a run's folder, one checkpoint, a bundle's folder or a shipped model.

    Raises:
        CheckpointError: of a run: no whole checkpoint.
        BundleError: of a bundle, or of what is neither: damaged, or there is none.
        NonFiniteError: weights that are NaN or infinite.
    """
    path = Path(source)
    if any(os.path.lexists(path / part) for part in (CONFIG, "checkpoints", STATE)):
        yield RunSubject(read_checkpoint(path), path)
        return
    if source not in shipped_models() and not os.path.lexists(path / SUMS):
        problem = "neither a run nor a bundle" if os.path.lexists(path) else "no such run or bundle"
        raise BundleError(
            f"{source}: {problem}; expected a folder that vae-train or vae-export wrote, or a shipped model "
            f"({', '.join(shipped_models()) or 'none'})"
        )
    with load(source, provider="cpu") as model:
        yield BundleSubject(model)


class RunSubject:
    """The newest checkpoint of a run, on the CPU."""

    kind = "run"
    sha256 = ""

    def __init__(self, checkpoint: Checkpoint, path: Path) -> None:
        source = str(checkpoint.path)
        self.name = _short(path.absolute().name)
        self.config: Config | None = checkpoint.config
        self.data_fingerprint: str | None = checkpoint.data_fingerprint
        self.image_shape = checkpoint.config.model.image_shape
        self.latent_size = checkpoint.config.model.latent_size
        self.likelihood = likelihood_from_checkpoint(checkpoint)
        model = model_from_weights(checkpoint.config.model, checkpoint.weights, source)
        self._model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload,unused-ignore]  # newer torch types it
        prior = checkpoint.prior
        self._prior = None if prior is None else prior_from_weights(checkpoint.config.model, prior, source)
        self.learned_prior = prior is not None
        self._source = source

    @torch.inference_mode()
    def encode(self, images: Images) -> tuple[Latents, Latents]:
        """As `Subject.encode`."""
        coded = [self._model.encoder(piece) for piece in torch.split(torch.from_numpy(images), _AT_ONCE)]
        mean, logvar = (torch.cat(parts).numpy() for parts in zip(*coded, strict=True))
        return self._finite(mean, "encoder"), self._finite(logvar, "encoder")

    @torch.inference_mode()
    def decode(self, latents: Latents) -> Images:
        """As `Subject.decode`."""
        pieces = torch.split(torch.from_numpy(latents), _AT_ONCE)
        images = torch.cat([self._model.decoder(piece) for piece in pieces]).contiguous().numpy()
        return self._finite(images, "decoder")

    def sample_latents(self, n: int, seed: int) -> Latents:
        """As `Subject.sample_latents`."""
        drawn = noise(n, self.latent_size, seed)
        if self._prior is None:
            return drawn
        with torch.inference_mode():
            return self._finite(self._prior(torch.from_numpy(drawn)).numpy(), "prior")

    @torch.inference_mode()
    def prior_gain(self, latents: Latents) -> npt.NDArray[np.float64] | None:
        """As `Subject.prior_gain`."""
        if self._prior is None:
            return np.zeros(len(latents))
        found: npt.NDArray[np.float64] = self._prior.log_prob(torch.from_numpy(latents)).double().numpy()
        return found - standard_log_density(latents)

    @torch.inference_mode()
    def latent_path(self, ends: Latents, steps: int) -> Latents:
        """As `Subject.latent_path`: through a flow, as the runtime does it."""
        if not isinstance(self._prior, Flow):
            return latent_path(ends, steps)
        noises, _ = FlowInverse(self._prior)(torch.from_numpy(ends))
        path: Latents = self._prior(torch.from_numpy(latent_path(noises.numpy(), steps))).numpy()
        path[[0, -1]] = ends
        return self._finite(path, "prior")

    def _finite(self, array: npt.NDArray[np.float32], role: str) -> npt.NDArray[np.float32]:
        if not np.isfinite(array).all():
            raise NonFiniteError(
                f"{self._source}: the {role} produced NaN or infinity; its weights are broken"
            )
        return array


class BundleSubject:
    """An opened bundle; `sample_latents` goes through its prior, where it has one."""

    kind = "bundle"

    def __init__(self, model: Model) -> None:
        card = model.card
        self.name = _short(card.name)
        self.sha256 = model.sha256
        self.config = Config.from_recipe(card.recipe)
        self.data_fingerprint: str | None = None
        self.image_shape = card.image_shape
        self.latent_size = card.latent_size
        self.likelihood = _likelihood_of_card(card, self.config)
        self._model = model
        self.learned_prior = "prior" in model.graphs
        self._knows_density = not self.learned_prior or bool({*model.graphs} & {*ROLES_OF_A_PRIOR})

    def encode(self, images: Images) -> tuple[Latents, Latents]:
        """As `Subject.encode`."""
        mean, logvar = self._model.encode(images)
        return mean, logvar

    def decode(self, latents: Latents) -> Images:
        """As `Subject.decode`."""
        return self._model.decode(latents)

    def sample_latents(self, n: int, seed: int) -> Latents:
        """As `Subject.sample_latents`."""
        return self._model.sample_latents(n, seed)

    def prior_gain(self, latents: Latents) -> npt.NDArray[np.float64] | None:
        """As `Subject.prior_gain`."""
        if not self._knows_density:
            return None
        return self._model.log_density(latents) - standard_log_density(latents)

    def latent_path(self, ends: Latents, steps: int) -> Latents:
        """As `Subject.latent_path`."""
        return self._model.latent_path(ends, steps)


def _short(name: str) -> str:
    """Return a name as a table can show it."""
    shown = printable(name)
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[: _LONGEST_NAME - 3]}..."


def _likelihood_of_card(card: Card, config: Config | None) -> Likelihood:
    told, name = card.likelihood, _short(card.name)
    if config is not None and config.training.likelihood != told.name:
        raise BundleError(
            f"{name}: its card names the likelihood {told.name}, the recipe in it {config.training.likelihood}; "
            "export it anew, or measure the run that it comes from"
        )
    scale = "auto" if told.noise_scale is None else str(told.noise_scale)
    try:
        settings = replace(TrainingConfig(), likelihood=told.name, noise_scale=scale)
    except ConfigError as error:
        raise BundleError(
            f"{name}: its card tells of a likelihood that is not known here ({error})"
        ) from error
    if told.name != "bernoulli" and settings.fixed_noise_scale is None:
        raise BundleError(
            f"{name}: its card names the likelihood {told.name} and no noise scale; export it anew, "
            "or measure the run that it comes from"
        )
    return Likelihood(settings).eval().requires_grad_(False)
