"""The running average of the weights: smoother than the last step's, and often better."""

from __future__ import annotations

import copy

from torch.optim.swa_utils import get_ema_multi_avg_fn

from vae_training.model import VAE


class WeightAverage:
    """The exponential moving average of a model's weights, as a model of its own.

    After step t the average moves towards the weights by 1 - min(decay, (1 + t) / (10 + t)): a run that has just
    begun does not drag its random beginning along. (Polyak and Juditsky, Acceleration of Stochastic Approximation
    by Averaging, 1992; the warm-up is that of TensorFlow's ExponentialMovingAverage.)
    """

    def __init__(self, model: VAE, decay: float) -> None:
        """Begin with the weights as they are; `decay`, from 0 to below 1, is the share that is kept a step."""
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)

    def update(self, model: VAE, step: int) -> None:
        """Move towards the weights that `model` has after so many steps; nothing waits for the device."""
        decay = min(self.decay, (1.0 + step) / (10.0 + step))
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call,unused-ignore]  # torch leaves it untyped
        average(list(self.model.parameters()), list(model.parameters()), None)
