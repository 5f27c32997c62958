"""p(x given z): how probable an image is where the decoder has drawn another, in nats.

The decoder gives one number for each pixel, a logit. Its sigmoid is the mean of the pixel's distribution, in
[0, 1]; how far pixels lie from the mean is the likelihood's own affair:

- `bernoulli`: the classic one, for pixels that are black or white. On gray ones it is no proper density: most of
  it is the images' own entropy, which no model can take away.
- `gaussian`: one standard deviation for all pixels: given, learned, or the best one there is for the images at
  hand (sigma-VAE, Rybkin, Daniilidis and Levine, Simple and Effective VAE Training with Calibrated Decoders, 2021).
- `discretized-logistic`: the probability of each of the 256 values that a stored pixel can have (Kingma et al.,
  Improved Variational Inference with Inverse Autoregressive Flow, 2016), with one scale for all pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn

from vae_runtime.likelihoods import LOGISTIC_DEVIATION
from vae_training.config import TrainingConfig

_STEP = 1.0 / 255.0  # between two values of a stored pixel
_SMALLEST = _STEP / 20.0  # a standard deviation that no image shows: black ones alone would take it to zero
_FIRST = 0.25  # the spread of pixels of a model that knows nothing
_FOLLOWS = 0.05  # share by which the kept standard deviation follows each batch's, in the long run


class Likelihood(nn.Module):
    """One of the likelihoods, with what it knows of the spread of pixels."""

    log_scale: Tensor
    share: Tensor
    """The weight of the next batch's scale in the moving average that is kept."""

    def __init__(self, settings: TrainingConfig) -> None:
        """Begin with what the settings say of the likelihood and its noise scale."""
        super().__init__()
        self.name = settings.likelihood
        fixed = settings.fixed_noise_scale
        self.follows_batches = self.name == "gaussian" and settings.noise_scale == "auto"
        if self.name == "bernoulli":
            return
        unit = 1.0 if self.name == "gaussian" else LOGISTIC_DEVIATION
        first = torch.tensor(math.log((fixed or _FIRST) / unit))
        self.register_buffer("share", torch.tensor(_FOLLOWS), persistent=False)
        if fixed is None and not self.follows_batches:
            self.log_scale = nn.Parameter(first)
        else:
            self.register_buffer("log_scale", first)

    @property
    def noise_scale(self) -> float | None:
        """Standard deviation of a pixel about the decoder's mean; None of a Bernoulli. Waits for the device."""
        if self.name == "bernoulli":
            return None
        return math.exp(self.log_scale.item()) * (1.0 if self.name == "gaussian" else LOGISTIC_DEVIATION)

    def forward(self, logits: Tensor, image: Tensor) -> Tensor:
        """Return -log p(x given z) of each image; (N, C, H, W) logits and images in [0, 1] to (N,), in nats.

        While it trains, a Gaussian whose scale follows the batches takes the batch's own.
        """
        if self.name == "bernoulli":
            return bernoulli_nll(logits, image)
        if self.name == "gaussian":
            squared = (torch.sigmoid(logits) - image).square().flatten(1)
            return gaussian_nll(squared, self._gaussian_log_scale(squared))
        return discretized_logistic_nll(torch.sigmoid(logits), image, self.log_scale)

    def begin_step(self, step: int) -> None:
        """Say which step of a run comes, counted from 1: a scale that follows the batches soon forgets the first ones.

        Otherwise the errors of an untrained model would make up most of the scale that a short run ends with. The
        warm-up is that of `WeightAverage`.
        """
        # Until the share of the step before, 9 / (9 + step), has come down to the lasting one.
        if self.follows_batches and 9.0 / (9.0 + step) > _FOLLOWS:
            self.share.fill_(max(_FOLLOWS, 9.0 / (10.0 + step)))

    def _gaussian_log_scale(self, squared: Tensor) -> Tensor:
        if not (self.follows_batches and self.training):
            return self.log_scale
        best = 0.5 * squared.mean().clamp_min(_SMALLEST**2).log()
        with torch.no_grad():
            self.log_scale.lerp_(best.detach(), self.share)
        return best


def bernoulli_nll(logits: Tensor, image: Tensor) -> Tensor:
    """Binary cross-entropy summed over the pixels; (N, C, H, W) logits and images in [0, 1] to (N,)."""
    return F.binary_cross_entropy_with_logits(logits, image, reduction="none").flatten(1).sum(1)


def gaussian_nll(squared: Tensor, log_scale: Tensor) -> Tensor:
    """Return -log N(x; mean, exp(log_scale)^2) summed over the pixels, whose squared errors (N, P) are given; (N,).

    The density is that of pixels in [0, 1]: it may be above 1 and its logarithm above 0.
    """
    pixels = squared.shape[1]
    constant = pixels * (log_scale + 0.5 * math.log(2.0 * math.pi))
    return 0.5 * squared.sum(1) * torch.exp(-2.0 * log_scale) + constant


def discretized_logistic_nll(mean: Tensor, image: Tensor, log_scale: Tensor) -> Tensor:
    """Return -log P(x), the pixels being the 256 values k / 255, summed over them; (N, C, H, W) to (N,).

    A value has the probability of the interval of half a step about it; the outermost two, of all beyond as well.
    """
    inverse = torch.exp(-log_scale)
    centred = (image - mean) * inverse
    half = 0.5 * _STEP * inverse
    above, below = centred + half, centred - half
    # log(sigmoid(a) - sigmoid(b)) in a form that keeps its digits where both are near 0 or near 1:
    # logsigmoid(a) + logsigmoid(-b) + log(1 - exp(b - a)).
    inside = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(-2.0 * half))
    log_probability = torch.where(
        image < 0.5 * _STEP,
        F.logsigmoid(above),
        torch.where(image > 1.0 - 0.5 * _STEP, F.logsigmoid(-below), inside),
    )
    return -log_probability.flatten(1).sum(1)
