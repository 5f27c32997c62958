"""Fitting a prior to where the encoder puts images: the aggregated posterior.

Training draws each posterior towards the standard normal, but their mixture over all images never becomes it. What
is drawn from the standard normal therefore falls beside the images; what is drawn from a prior that was fitted
afterwards does not (Rosca, Lakshminarayanan and Mohamed, Distribution Matching in Variational Inference, 2018).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from vae_training.batches import to_float
from vae_training.flow import Flow
from vae_training.model import VAE
from vae_training.schedule import learning_rate

_STEPS = 600
_BATCH = 256
_PEAK = 2e-3
_LOOKED_AT = 50  # steps between two looks at the held-out images
_ENCODED_AT_ONCE = 1024
_LEAST_VARIANCE = 1e-6  # of a latent that is always the same


class Posteriors:
    """The posteriors of images: mean and variance of each latent, (N, D) each."""

    @torch.no_grad()
    def __init__(self, model: VAE, images: Tensor) -> None:
        """Encode (N, C, H, W) uint8 images on the model's device."""
        encoded = [model.encoder(to_float(piece)) for piece in torch.split(images, _ENCODED_AT_ONCE)]
        self.mean = torch.cat([mean for mean, _ in encoded])
        self.variance = torch.cat([logvar.exp() for _, logvar in encoded])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.mean)

    def draw(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Return a latent of each of these images."""
        mean, variance = self.mean[indices], self.variance[indices]
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return mean + noise * variance.sqrt()

    def covariance(self) -> Tensor:
        """Return the covariance (D, D) of latents drawn from all of them."""
        spread = torch.diag(self.variance.mean(0) + _LEAST_VARIANCE)
        return self.mean.t().cov(correction=0).reshape(spread.shape) + spread


def fit_flow(
    model: VAE, images: Tensor, held_out: Tensor, seed: int, on_step: Callable[[int, int], None] | None = None
) -> tuple[Flow, float, float]:
    """Fit a flow to the aggregated posterior, by maximum likelihood.

    Args:
        model: its encoder is used and not changed.
        images: (N, C, H, W) uint8, on the model's device: those that it was trained on.
        held_out: the same, of those that it was not; the flow that makes their latents most probable is returned.
            With none of them, the last one.
        seed: of all that is random.
        on_step: called as on_step(done, total), and may raise to stop.

    Returns:
        The flow, in evaluation mode, on the same device; and how improbable latents of the held-out images are to
        it and to the standard normal, in nats (of the images themselves, where none are held out).
    """
    posteriors = Posteriors(model, images)
    others = Posteriors(model, held_out) if len(held_out) else None
    device = posteriors.mean.device
    draws = torch.Generator(device).manual_seed(seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        flow = Flow(posteriors.mean.shape[1]).to(device)
    standard = _nll(flow, others or posteriors, seed)  # which it is as yet
    flow.begin_with(posteriors.mean.mean(0), posteriors.covariance())
    optimizer = torch.optim.Adam(flow.parameters(), lr=_PEAK, fused=True)
    best, lowest = copy.deepcopy(flow), math.inf
    for step in range(_STEPS):
        picked = torch.randint(len(posteriors), (_BATCH,), generator=draws, device=device)
        loss = -flow.log_prob(posteriors.draw(picked, draws)).mean()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate("onecycle", _PEAK, step, _STEPS)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        if (step + 1) % _LOOKED_AT == 0:
            nll = _nll(flow, others or posteriors, seed)
            if others is None or nll < lowest:
                best, lowest = copy.deepcopy(flow), nll
        if on_step:
            on_step(step + 1, _STEPS)
    return best.eval().requires_grad_(False), lowest, standard


@torch.no_grad()
def _nll(flow: Flow, posteriors: Posteriors, seed: int) -> float:
    """Return how improbable latents of these images are, in nats; always with the same noise."""
    device = posteriors.mean.device
    draws = torch.Generator(device).manual_seed(seed)
    latents = posteriors.draw(torch.arange(len(posteriors), device=device), draws)
    return float(-flow.log_prob(latents).mean())
