"""Fitting a normalising flow to the aggregated posterior, by maximum likelihood."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from vae_training.priors.flow import Flow
from vae_training.priors.posteriors import Posteriors
from vae_training.schedule import learning_rate

_STEPS = 600
_BATCH = 256
_PEAK = 2e-3
_LOOKED_AT = 50  # steps between two looks at the held-out latents


def fit_flow(
    posteriors: Posteriors, held_out: Tensor | None, seed: int, on_step: Callable[[int, int], None]
) -> Flow:
    """Fit a flow.

    Args:
        posteriors: of the images that the model was trained on.
        held_out: (M, D) latents of others; the flow that makes them most probable is returned. With None, the last.
        seed: of all that is random.
        on_step: called as on_step(done, total), and may raise to stop.

    Returns:
        The flow, on the posteriors' device.
    """
    device = posteriors.mean.device
    draws = torch.Generator(device).manual_seed(seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        flow = Flow(posteriors.mean.shape[1]).to(device)
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
        if held_out is None:
            best = flow
        elif (step + 1) % _LOOKED_AT == 0:
            nll = _nll(flow, held_out)
            if nll < lowest:
                best, lowest = copy.deepcopy(flow), nll
        on_step(step + 1, _STEPS)
    return best


@torch.no_grad()
def _nll(flow: Flow, latents: Tensor) -> float:
    return float(-flow.log_prob(latents).mean())
