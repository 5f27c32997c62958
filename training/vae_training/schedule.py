"""The learning rate as a function of the step, so that a resumed run needs no scheduler's state."""

from __future__ import annotations

import math

_WARM_UP = 0.3  # share of the steps in which the rate rises
_START = 1.0 / 25.0  # of the peak
_END = _START / 1e4


def learning_rate(schedule: str, peak: float, step: int, total: int) -> float:
    """Return the learning rate of a step.

    `constant` is the peak throughout. `onecycle` rises from 1/25 of the peak along half a cosine for
    three tenths of the steps and falls to almost zero along another (Smith and Topin, Super-Convergence,
    2018; with the numbers of torch.optim.lr_scheduler.OneCycleLR). `cosine` falls from the peak to almost zero
    along half a cosine (Loshchilov and Hutter, SGDR, 2017, without restarts).
    """
    if schedule == "constant":
        return peak
    if schedule == "cosine":
        return peak * _cosine(1.0, _END, step / max(total - 1.0, 1.0))
    turn = _WARM_UP * total - 1.0
    if step <= turn:
        return peak * _cosine(_START, 1.0, step / turn)
    return peak * _cosine(1.0, _END, (step - turn) / max(total - 1.0 - turn, 1.0))


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * fraction))
