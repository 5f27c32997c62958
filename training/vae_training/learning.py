"""What learns from a batch: the model, how its losses are computed, and the optimizer that makes them less."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vae_training.checkpoint import LIKELIHOOD
from vae_training.compiling import Compiling
from vae_training.config import Config
from vae_training.cpu_forward import forward_on_cpu
from vae_training.kl_shaping import kl_per_latent
from vae_training.likelihood import Likelihood
from vae_training.model import VAE
from vae_training.objective import Loss, beta_vae_loss, detached
from vae_training.optimizer_state import optimizer_to_tensors
from vae_training.recorded_step import RecordedStep, is_recording
from vae_training.weight_average import WeightAverage

_SCALE_FACTOR = 10.0  # times the learning rate: how fast a learned noise scale is trained


class Learner:
    """A model that is trained step by step, as fast as the device allows."""

    def __init__(self, config: Config, device: torch.device, tell: Callable[[str], None]) -> None:
        """Begin with random weights, drawn by the settings' seed.

        Args:
            config: the settings.
            device: where it learns.
            tell: hears, as one line, what is found out about the speed of steps.
        """
        self.settings, self.device, self._tell = config.training, device, tell
        self.compiling = Compiling(self.loss, self.settings.compile, device, tell)
        # The arrangement for the CPU pays in float32: compiled code and GPUs arrange by themselves.
        plain = not (self.compiling.is_on or self.settings.bf16)
        self.is_arranged = device.type == "cpu" and plain
        self.records = device.type == "cuda" and self.settings.compile != "off"
        self._recorded: tuple[bool, RecordedStep] | None = None  # and whether it is compiled
        torch.manual_seed(self.settings.seed)
        self.model = VAE(config.model).to(device)
        if self.is_arranged:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,unused-ignore]  # newer torch types it
        self.average = WeightAverage(self.model, self.settings.ema) if self.settings.ema else None
        self.likelihood = Likelihood(self.settings).to(device)
        self.optimizer = torch.optim.Adam(self._groups(), lr=self.settings.learning_rate, fused=True)

    @property
    def kept(self) -> VAE:
        """The model that is worth keeping: an average of the weights where one is taken."""
        return self.average.model if self.average else self.model

    @property
    def described(self) -> str:
        """How steps are taken, in words; nothing where that is the plain way."""
        ways = (
            "bfloat16" if self.settings.bf16 else "",
            "CUDA graph" if self.records else "",
            self.compiling.described,
        )
        return ", ".join(filter(None, ways))

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return all that the optimizer changes, by name and in its order."""
        own = {f"{LIKELIHOOD}{name}": value for name, value in self.likelihood.named_parameters()}
        return {**dict(self.model.named_parameters()), **own}

    def _groups(self) -> list[dict[str, Any]]:
        groups = [{"params": list(self.model.parameters()), "factor": 1.0}]
        spread = list(self.likelihood.parameters())
        # A single number, whose logarithm has to move by two or three.
        return [*groups, {"params": spread, "factor": _SCALE_FACTOR}] if spread else groups

    def step(self, image: Tensor, noise: Tensor, *, number: int, beta: float, rate: float) -> Tensor:
        """Learn from a batch, without waiting for the device.

        Args:
            image: (N, C, H, W) float32 in [0, 1].
            noise: (N, D) float32, standard normal.
            number: of the step, counted from 1.
            beta: the weight of the KL divergence.
            rate: the learning rate.

        Returns:
            Loss, reconstruction and KL divergence, (3,), which the next step may overwrite.
        """
        return self._step(self._updater(), image, noise, number, beta, rate)

    def plain_step(self, image: Tensor, noise: Tensor, *, number: int, beta: float, rate: float) -> Tensor:
        """Do the same neither compiled nor recorded, which takes no time before the first one."""
        return self._step(partial(self._update, self.loss), image, noise, number, beta, rate)

    def forget_recording(self) -> None:
        """Give back the memory of recorded steps, after the last of them."""
        self._recorded = None

    def loss(self, image: Tensor, noise: Tensor, beta: float | Tensor, model: VAE | None = None) -> Loss:
        """Return the losses of the model that is trained, or of another one of its kind."""
        rounds = self.settings.bf16 and model is None
        model = model or self.model
        forward = partial(forward_on_cpu, model) if self.is_arranged else model
        with torch.autocast(self.device.type, torch.bfloat16, enabled=rounds):
            logits, mean, logvar = forward(image, noise)
        # Sums over an image's pixels would lose too much in 16 bits.
        logits, mean, logvar = logits.float(), mean.float(), logvar.float()
        return self.weighed(self.likelihood(logits, image), kl_per_latent(mean, logvar), beta)

    def weighed(self, nll: Tensor, kl: Tensor, beta: float | Tensor) -> Loss:
        """Return the losses of -log p(x given z), (N,), and the KL divergence of each latent, (N, D), in nats."""
        settings = self.settings
        return beta_vae_loss(nll, kl, beta, free_bits=settings.free_bits, capacity=settings.capacity)

    def _step(
        self,
        update: Callable[..., Tensor],
        image: Tensor,
        noise: Tensor,
        number: int,
        beta: float,
        rate: float,
    ) -> Tensor:
        self.likelihood.begin_step(number)
        rates = [rate * group["factor"] for group in self.optimizer.param_groups]
        losses = update(image, noise, self._as_compiled(beta), *rates)
        if self.average:
            self.average.update(self.model, number)
        return losses

    def _updater(self) -> Callable[..., Tensor]:
        """Return what changes the weights: `_update`, which a GPU repeats from a recording of it."""
        update = partial(self._update, self.compiling)
        if not self.records:
            return update
        if self._recorded is None or self._recorded[0] != self.compiling.is_on:
            self._recorded = self.compiling.is_on, RecordedStep(update, self._changed, self._tell)
        return self._recorded[1]

    def _as_compiled(self, beta: float) -> float | Tensor:
        """Return a number that is another one at every step as a tensor, where code is compiled for numbers."""
        varies = self.compiling.is_on and self.settings.beta_schedule != "constant" and not self.records
        return torch.tensor(beta, device=self.device) if varies else beta

    def _update(
        self,
        compute_loss: Callable[..., Loss],
        image: Tensor,
        noise: Tensor,
        beta: float | Tensor,
        *rates: float | Tensor,
    ) -> Tensor:
        """Change the weights once; all that is another one at every step comes as an argument."""
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group.update(lr=rate, capturable=is_recording(image))
        self.optimizer.zero_grad(set_to_none=True)
        loss = compute_loss(image, noise, beta)
        loss.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if self.settings.clip_gradient:
            nn.utils.clip_grad_norm_(self.parameters().values(), self.settings.clip_gradient)
        self.optimizer.step()
        return detached(loss)

    def _changed(self) -> list[Tensor]:
        """Return all that `_update` changes in place."""
        parameters = self.parameters()
        moments = optimizer_to_tensors(self.optimizer, parameters)
        return [*parameters.values(), *self.likelihood.buffers(), *moments.values()]
