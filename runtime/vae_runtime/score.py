"""How strange an image is to a model: its negative ELBO, and where that lies among those of images it has not seen.

    -ELBO(x) = E -log p(x given z) + KL(q(z given x) || N(0, 1)),  z from q(z given x)

(Kingma and Welling, Auto-Encoding Variational Bayes, 2014; the second part as in appendix B.) The expectation is a
mean over few points of the posterior, and these come from the same noise for every image: what an image scores
depends on nothing but the image, and two images are compared at the same places of their posteriors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vae_runtime.card import ScoreCalibration
from vae_runtime.engine import Engine
from vae_runtime.errors import InputError, NonFiniteError, shown
from vae_runtime.images import all_finite, as_array, as_floats, is_whole_number
from vae_runtime.latent import Latents, noise
from vae_runtime.likelihoods import Numbers, Pixels, nll_of
from vae_runtime.requests import ImageArray

BYTES_OF_ONE = 24
"""Bytes of one image's score: three float64."""


class Score(NamedTuple):
    """The negative ELBO of every image and its two parts, in nats; higher is stranger.

    In float64: what a likelihood adds for each pixel grows to tens of thousands of nats in large images, where float32
    would no longer tell one hundredth from the next.
    """

    total: Numbers
    """(N,): `reconstruction` + `kl`."""
    reconstruction: Numbers
    """(N,): E -log p(x given z), how badly the decoder draws the image. Below 0 where a density is above 1."""
    kl: Numbers
    """(N,): KL(q(z given x) || N(0, 1)), how far from the middle of the latent space the image lies."""


class Scorer:
    """Scores chunks of images with the graphs of one model. Safe to call from several threads."""

    def __init__(self, engine: Engine, samples: int, seed: int | None) -> None:
        """Draw the noise.

        Args:
            engine: runs the graphs.
            samples: how many points of every posterior the decoder draws.
            seed: of their noise.

        Raises:
            InputError: not such numbers.
            BundleError: the card's likelihood is not known here.
            ResourceLimitError: not enough memory for so many points.
        """
        if not is_whole_number(samples) or samples < 1:
            raise InputError(f"samples is {shown(samples)}; expected a whole number of at least 1")
        engine.require_room(samples, engine.latent_bytes, "points of a posterior")
        self._engine = engine
        self._nll = nll_of(engine.card.likelihood, engine.source)
        self._noise = noise(samples, engine.latent_size, seed)

    def score_into(self, scores: Score, images: ImageArray, piece: slice) -> None:
        """Score a piece of images or pictures that were checked.

        Raises:
            NonFiniteError: posteriors or scores that are no finite numbers.
        """
        floats = as_floats(images[piece])
        pixels = floats.reshape(len(floats), -1)
        with np.errstate(all="ignore"):  # what is not finite is told of below, or was to be let through
            mean, logvar = self._engine.run("encoder", floats)
            reconstruction, kl = self._expected_nll(pixels, mean, logvar), kl_divergence(mean, logvar)
            total = reconstruction + kl
        self._require_finite(total, logvar)
        for all_of_it, part in zip(scores, (total, reconstruction, kl), strict=True):
            all_of_it[piece] = part

    def _expected_nll(self, pixels: Pixels, mean: Latents, logvar: Latents) -> Numbers:
        """Return the mean of -log p(x given z) over the points, (N,)."""
        spread = np.exp(np.float32(0.5) * logvar)
        summed = np.zeros(len(pixels))
        at_once = max(1, self._engine.chunk // len(pixels))
        for start in range(0, len(self._noise), at_once):
            drawn = self._noise[start : start + at_once]
            points = drawn[:, None] * spread
            points += mean
            latents = points.reshape(-1, points.shape[-1])
            self._require_finite(latents, logvar)
            (made,) = self._engine.run("decoder", latents)
            for images in made.reshape(len(drawn), *pixels.shape):
                summed += self._nll(images, pixels)
        summed /= len(self._noise)
        return summed

    def _require_finite(self, numbers: npt.NDArray[np.floating[Any]], logvar: Latents) -> None:
        if self._engine.check_finite and not all_finite(numbers):
            raise NonFiniteError(
                f"{self._engine.source}: some images have no score that is a finite number (their posteriors have "
                f"log-variances of up to {float(logvar.max()):.3g}); the model's weights are broken, or the images are "
                "far outside of what it was trained on"
            )


def new_scores(n: int) -> Score:
    """Return the arrays of `n` scores, to write into."""
    return Score(*(np.empty(n) for _ in Score._fields))


def kl_divergence(mean: Latents, logvar: Latents) -> Numbers:
    """Return KL(N(mean, exp(logvar)) || N(0, 1)) summed over the latents, in nats; (N, D) each, to (N,).

    -1/2 sum (1 + logvar - mean^2 - exp(logvar)), in float64: the variance of a posterior may be beyond float32.
    """
    logs = logvar.astype(np.float64)
    terms = np.exp(logs)
    terms -= logs
    terms += np.square(mean, dtype=np.float64)
    sums: Numbers = 0.5 * (terms.sum(axis=1) - mean.shape[1])
    return sums


def percentiles(totals: npt.ArrayLike, calibration: ScoreCalibration) -> Numbers:
    """Return how many percent of the images that a model was calibrated with score lower.

    Between two quantiles it is a straight line; beyond the outermost it stays 0 or 100.

    Args:
        totals: nats, of any shape.
        calibration: of the card.

    Returns:
        float64, of the totals' shape; NaN where a total is.

    Raises:
        InputError: no numbers.
    """
    given = as_array(totals, "totals")
    if given.dtype.kind not in "fiu":
        raise InputError(f"totals of type {given.dtype}; expected floating point, as `score` gives them")
    found: Numbers = np.interp(given, calibration.quantiles, calibration.percentages)
    return found
