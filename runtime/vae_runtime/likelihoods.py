"""p(x given z) in numpy: how probable an image is where the decoder has drawn another, in nats.

The formulas are those of training. What a chunk of images needs is computed in float32 and in place, since it stands
beside the decoder's own work; sums of an image leave as float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vae_runtime.card import Likelihood
from vae_runtime.errors import BundleError, printable

Numbers = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.float32]

Nll = Callable[[Pixels, Pixels], Numbers]
"""-log p(x given z): means that a decoder gave, which are overwritten, and images, both (N, P); to (N,) nats."""

LIKELIHOODS = ("bernoulli", "gaussian", "discretized-logistic")
LOGISTIC_DEVIATION = math.pi / math.sqrt(3.0)
"""Standard deviation of a logistic distribution of scale 1."""

# Of a Bernoulli's probability that is 0 in float32; PyTorch's binary cross-entropy has the same.
_LOWEST_LOG = -100.0
_HALF_STEP = 0.5 / 255.0  # between two values of a stored pixel
_FINEST, _COARSEST = 1e-6, 1e6  # standard deviations of a pixel; beyond, formulas overflow


def nll_of(likelihood: Likelihood, source: str) -> Nll:
    """Return -log p(x given z) of a card's likelihood.

    Raises:
        BundleError: a likelihood that is not known here, or without the noise scale that it needs.
    """
    scale = spread_of(likelihood, source, "to score images with")
    if scale is None:
        return bernoulli_nll
    return gaussian_nll(scale) if likelihood.name == "gaussian" else discretized_logistic_nll(scale)


def spread_of(likelihood: Likelihood, source: str, purpose: str) -> float | None:
    """Return the standard deviation of a pixel about its mean: of a Bernoulli, which has none of its own, None.

    Raises:
        BundleError: a likelihood that is not known here, or without the noise scale that it needs.
    """
    if likelihood.name not in LIKELIHOODS:
        raise BundleError(
            f"{source}: its card names the likelihood {printable(likelihood.name[:40])!r}; "
            f"expected one of {', '.join(LIKELIHOODS)}, {purpose}"
        )
    if likelihood.name == "bernoulli":
        return None
    scale = likelihood.noise_scale
    if scale is None or not _FINEST <= scale <= _COARSEST:
        raise BundleError(
            f"{source}: its card gives the {likelihood.name} likelihood the noise scale {scale}; "
            f"expected the standard deviation of a pixel, from {_FINEST:g} to {_COARSEST:g}, {purpose}"
        )
    return scale


def bernoulli_nll(made: Pixels, pixels: Pixels) -> Numbers:
    """Return the binary cross-entropy of images, summed over their pixels: `Nll`.

    The logarithm of a probability that is 0 counts as -100.
    """
    made.clip(0.0, 1.0, out=made)
    log_black = np.log(np.subtract(1.0, made))
    np.maximum(log_black, _LOWEST_LOG, out=log_black)
    log_white = np.log(made, out=made)
    np.maximum(log_white, _LOWEST_LOG, out=log_white)
    # -x log p - (1 - x) log(1 - p) = x (log(1 - p) - log p) - log(1 - p)
    return _dots(pixels, np.subtract(log_black, log_white, out=log_white)) - _sums(log_black)


def gaussian_nll(scale: float) -> Nll:
    """Return -log N(x; mean, scale^2) summed over the pixels: a density of pixels in [0, 1]."""
    weight = 0.5 / scale / scale
    of_each_pixel = math.log(scale) + 0.5 * math.log(2.0 * math.pi)

    def nll(made: Pixels, pixels: Pixels) -> Numbers:
        made -= pixels
        nats: Numbers = weight * _dots(made, made) + pixels.shape[1] * of_each_pixel
        return nats

    return nll


def discretized_logistic_nll(standard_deviation: float) -> Nll:
    """Return -log P(x) summed over the pixels, which are the values k / 255.

    A value has the probability of the interval of half a step about it; the outermost two, of all beyond as well
    (Kingma et al., Improved Variational Inference with Inverse Autoregressive Flow, 2016).
    """
    scale = standard_deviation / LOGISTIC_DEVIATION
    inverse, half = np.float32(1.0 / scale), np.float32(_HALF_STEP / scale)
    # With u the distance from the mean and h half a step, both in scales, a value inside has
    #   -log P = log(1 + exp(u - h)) + log(1 + exp(-u - h)) - log(1 - exp(-2 h)),
    # and an outermost one the first term alone: the mean lies on its inner side.
    of_each_inside = -math.log(-math.expm1(-2.0 * _HALF_STEP / scale))

    def nll(made: Pixels, pixels: Pixels) -> Numbers:
        outermost = (pixels < _HALF_STEP) | (pixels > 1.0 - _HALF_STEP)
        inside = pixels.shape[1] - np.count_nonzero(outermost, axis=1)
        made.clip(0.0, 1.0, out=made)
        made -= pixels
        made *= inverse
        beyond = np.abs(made, out=made)
        second = np.exp(-(beyond + half))
        second[outermost] = 0.0
        beyond -= half
        # log(1 + exp(y)) = max(y, 0) + log(1 + exp(-|y|)), of which nothing is too large.
        linear = _sums(beyond.clip(0.0, None))
        first = np.exp(-np.abs(beyond, out=beyond))
        first += 1.0
        second += 1.0
        first *= second
        nats: Numbers = linear + _sums(np.log(first, out=first)) + inside * of_each_inside
        return nats

    return nll


def _sums(pixels: Pixels) -> Numbers:
    """Return the sums of rows, (N, P) to (N,)."""
    sums: Numbers = pixels.sum(axis=1).astype(np.float64)
    return sums


def _dots(a: Pixels, b: Pixels) -> Numbers:
    """Return the dot products of rows, (N, P) each, to (N,)."""
    # Not `matmul`: its BLAS wakes threads of its own for rows of more than 10,000.
    products: Numbers = np.einsum("np,np->n", a, b).astype(np.float64)
    return products
