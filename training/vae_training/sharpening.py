"""A second stage of training that makes pictures sharp: the decoder alone, against a discriminator.

A decoder that minimises pixels' errors draws the mean of all that a latent may mean, and the mean is blurred. Here
it learns to draw what a discriminator takes for photographs, from latents of photographs and from the prior, half
of each; the former it must still draw about as they are. The encoder and the prior stay as they are, so latents keep
their meaning, and the decoder keeps its size.

The game: non-saturating losses (Goodfellow et al., Generative Adversarial Nets, 2014), a penalty on the
discriminator's gradient at photographs (R1; Mescheder, Geiger and Nowozin, Which Training Methods for GANs do actually
Converge?, 2018), and the moving average of the decoder's weights as the result. Such games may turn bad after going
well: after every epoch the average is measured on held-out images, and the best one is kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from vae_training.batches import to_float
from vae_training.cpu_forward import decode_on_cpu
from vae_training.detail import detail_distance
from vae_training.discriminator import Discriminator
from vae_training.errors import CheckpointError
from vae_training.kl_shaping import kl_per_latent
from vae_training.likelihood import Likelihood
from vae_training.model import VAE, reparameterize
from vae_training.optimizer_state import optimizer_from_tensors, optimizer_to_tensors
from vae_training.priors import Prior
from vae_training.weight_average import WeightAverage

_RATE = 5e-4  # of both, by Adam
_BETAS = (0.5, 0.99)
_FIDELITY = 20.0  # weight of the mean squared error of reconstructions
_R1 = 1.0  # gamma, of which the penalty is half times the squared gradient
_R1_EVERY = 8  # steps, with so many times the weight: lazy regularization (Karras et al., StyleGAN2, 2020)
_DECAY = 0.998  # of the average, where the settings name none
_DRAWN = 2000  # samples that are measured, at most
_NETWORK, _AVERAGE = "discriminator.", "average."
_NOT_MEASURED = 1e30  # a distance before the first measurement; files hold finite numbers only


class Sharpening:
    """The stage's networks and optimizers, and its steps."""

    learning_rate = _RATE

    def __init__(
        self,
        model: VAE,
        likelihood: Likelihood,
        prior: Prior | None,
        *,
        decay: float,
        seed: int,
        on_cpu: bool,
    ) -> None:
        """Begin.

        Args:
            model: trained; its decoder is changed in place.
            likelihood: what the losses are told by.
            prior: of the model's latents; None for the standard normal.
            decay: of the average of the weights; 0 for the stage's own.
            seed: of the discriminator's first weights.
            on_cpu: whether the arrangement for the CPU pays.
        """
        device = next(model.parameters()).device
        self.model, self.likelihood, self.prior = model, likelihood.eval(), prior
        self._decode = partial(decode_on_cpu, model.decoder) if on_cpu else model.decoder.logits
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            self.discriminator = Discriminator(model.config).to(device)
        self.average = WeightAverage(model, decay or _DECAY)
        self.best = copy.deepcopy(self.average.model)
        self.distance = math.inf
        self.steps = 0
        model.encoder.requires_grad_(False)
        self._decoder_adam, self._discriminator_adam = _adam(model.decoder), _adam(self.discriminator)

    def step(self, image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Train both networks on a batch of photographs, (N, C, H, W) float32 in [0, 1].

        The first half of the batch, K = ceil(N / 2) photographs, is reconstructed from draws of its posteriors; the
        other N - K images that the discriminator sees beside photographs are samples from the prior.

        Returns:
            Of the reconstructions, -log p(x given z), (K,), and the KL divergence of each latent, (K, D), in nats.
        """
        half = len(image) - len(image) // 2
        with torch.no_grad():
            mean, logvar = self.model.encoder(image[:half])
            noise = torch.randn((len(image), mean.shape[1]), generator=generator, device=image.device)
            samples = self.prior(noise[half:]) if self.prior else noise[half:]
            latent = torch.cat([reparameterize(mean, logvar, noise[:half]), samples])
        logits = self._decode(latent)
        drawn = torch.sigmoid(logits)
        self._teach_discriminator(image, drawn.detach())
        self._teach_decoder(image[:half], drawn)
        self.steps += 1
        self.average.update(self.model, self.steps)
        with torch.no_grad():
            return self.likelihood(logits[:half], image[:half]), kl_per_latent(mean, logvar)

    @torch.no_grad()
    def measure(self, held_out: Tensor, seed: int) -> float:
        """Return how far the average's samples are from photographs, and keep it where it is the best so far.

        Args:
            held_out: (N, C, H, W) uint8.
            seed: of the noise; the same gives figures that can be compared.
        """
        device = held_out.device
        count = min(len(held_out), _DRAWN)
        draws = torch.Generator(device).manual_seed(seed)
        noise = torch.randn((count, self.model.config.latent_size), generator=draws, device=device)
        drawn = self.average.model.decoder(self.prior(noise) if self.prior else noise)
        distance = detail_distance(to_float(held_out[:count]), drawn)
        if distance < self.distance:
            self.best, self.distance = copy.deepcopy(self.average.model), distance
        return distance

    def to_tensors(self) -> dict[str, Tensor]:
        """Return all that going on needs besides the decoder that is trained and the best one, by name."""
        return {
            "steps": torch.tensor(self.steps),
            "distance": torch.tensor(self.distance if math.isfinite(self.distance) else _NOT_MEASURED),
            **{f"{_NETWORK}{name}": value for name, value in self.discriminator.state_dict().items()},
            **{f"{_AVERAGE}{name}": value for name, value in self.average.model.decoder.state_dict().items()},
            **optimizer_to_tensors(self._decoder_adam, dict(self.model.decoder.named_parameters())),
            **optimizer_to_tensors(self._discriminator_adam, self._discriminator_parameters()),
        }

    def resume(self, tensors: Mapping[str, Tensor], best: Mapping[str, Tensor], source: str) -> None:
        """Go on where `to_tensors` was called.

        Args:
            tensors: what it returned.
            best: the weights of the best model so far.
            source: where they come from, for messages.

        Raises:
            CheckpointError: something is missing, of another shape or type, or not finite.
        """
        networks: tuple[tuple[str, nn.Module], ...] = (
            (_NETWORK, self.discriminator),
            (_AVERAGE, self.average.model.decoder),
        )
        for prefix, network in networks:
            for name, value in network.state_dict().items():
                value.copy_(_get(tensors, f"{prefix}{name}", value, source))
        self.steps = int(_get(tensors, "steps", torch.tensor(0), source))
        self.distance = float(_get(tensors, "distance", torch.tensor(0.0), source))
        self.best.load_state_dict(dict(best))
        parameters = dict(self.model.decoder.named_parameters())
        optimizer_from_tensors(self._decoder_adam, parameters, tensors, source)
        optimizer_from_tensors(self._discriminator_adam, self._discriminator_parameters(), tensors, source)

    def _teach_discriminator(self, photographs: Tensor, drawn: Tensor) -> None:
        is_regularized = self.steps % _R1_EVERY == 0
        photographs = photographs.detach().requires_grad_(is_regularized)
        of_photographs = self.discriminator(photographs)
        loss = F.softplus(-of_photographs).mean() + F.softplus(self.discriminator(drawn)).mean()
        if is_regularized:
            (gradient,) = torch.autograd.grad(of_photographs.sum(), photographs, create_graph=True)
            loss = loss + 0.5 * _R1 * _R1_EVERY * gradient.square().flatten(1).sum(1).mean()
        _take_step(self._discriminator_adam, loss)

    def _teach_decoder(self, photographs: Tensor, drawn: Tensor) -> None:
        """Draw what is taken for a photograph; the first images drawn are reconstructions of these photographs."""
        self.discriminator.requires_grad_(False)
        error = F.mse_loss(drawn[: len(photographs)], photographs)
        loss = F.softplus(-self.discriminator(drawn)).mean() + _FIDELITY * error
        _take_step(self._decoder_adam, loss)
        self.discriminator.requires_grad_(True)

    def _discriminator_parameters(self) -> dict[str, nn.Parameter]:
        return {f"{_NETWORK}{name}": value for name, value in self.discriminator.named_parameters()}


def _adam(network: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(network.parameters(), lr=_RATE, betas=_BETAS, fused=True)


def _take_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    optimizer.step()


def _get(tensors: Mapping[str, Tensor], name: str, like: Tensor, source: str) -> Tensor:
    found = tensors.get(name)
    if found is None or found.shape != like.shape or found.dtype != like.dtype:
        raise CheckpointError(f"{source}: no fitting {name} of the sharpening; it cannot be resumed")
    return found
