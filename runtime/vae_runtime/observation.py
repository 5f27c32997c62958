"""Noise of observation: a draw from p(x given z), of which the decoder computes no more than the mean.

Every image has random numbers of its own, known by the seed and the image's place among all that are drawn. So an
image does not depend on how many are made at a time, by how many threads, or in which order.
"""

from __future__ import annotations

import numpy as np
import numpy.random  # now, or a fork during another thread's first use would inherit the import's lock

from vae_runtime.card import Card
from vae_runtime.images import Images
from vae_runtime.likelihoods import LOGISTIC_DEVIATION, spread_of

_STEPS = np.float32(255.0)  # between the values of a stored pixel
_SMALLEST = np.float32(2.0**-25)  # half of the smallest step of what is drawn
_OF_PIXELS = (1,)  # beside the latents' numbers, which the seed alone gives


class ObservationNoise:
    """What turns the means of p(x given z) into draws from it. Safe to use from several threads."""

    def __init__(self, card: Card, seed: int | None, source: str) -> None:
        """Read the likelihood off a card.

        Args:
            card: the decoder's.
            seed: the same seed gives the same numbers everywhere; None draws differently every time.
            source: where the card came from, for messages.

        Raises:
            BundleError: a likelihood that is not known here, or without the noise scale that it needs.
        """
        self._likelihood = card.likelihood.name
        self._spread = np.float32(spread_of(card.likelihood, source, "to draw pixels from") or 0.0)
        self._key = np.random.SeedSequence(seed, spawn_key=_OF_PIXELS).generate_state(2, np.uint64)

    def draw(self, means: Images, begins_at: int) -> Images:
        """Draw images about their means.

        Args:
            means: (N, C, H, W) float32 in [0, 1]; is written over.
            begins_at: the place of the first of them among all images.

        Returns:
            (N, C, H, W) float32 in [0, 1]: 0 and 1 alone of a Bernoulli, multiples of 1/255 of a discretised
            logistic distribution; a Gaussian is clipped.
        """
        numbers = self._numbers(means.shape, begins_at)
        if self._likelihood == "bernoulli":
            np.less(numbers, means, out=means, casting="unsafe")
            return means
        if self._likelihood == "discretized-logistic":
            numbers = _as_logistic(numbers)
        numbers *= self._spread
        means += numbers
        means.clip(0.0, 1.0, out=means)
        if self._likelihood == "discretized-logistic":
            means *= _STEPS
            np.rint(means, out=means)
            means /= _STEPS
        return means

    def _numbers(self, shape: tuple[int, ...], begins_at: int) -> Images:
        """Return standard normal numbers for a Gaussian, uniform ones in [0, 1) for the other likelihoods."""
        source = np.random.Philox(key=self._key)
        generator, fresh = np.random.Generator(source), source.state
        draw = generator.standard_normal if self._likelihood == "gaussian" else generator.random
        numbers = np.empty(shape, np.float32)
        for place, image in enumerate(numbers, start=begins_at):
            # Each image has 2^64 blocks of four numbers to itself: more than all its pixels ever take.
            fresh["state"]["counter"][1] = place
            source.state = fresh
            draw(dtype=np.float32, out=image)
        return numbers


def _as_logistic(uniform: Images) -> Images:
    """Turn uniform numbers in [0, 1) into draws of a logistic distribution with standard deviation 1, in place."""
    np.clip(uniform, _SMALLEST, None, out=uniform)  # the logarithm of 0 is infinite
    uniform /= 1.0 - uniform
    np.log(uniform, out=uniform)
    uniform *= np.float32(1.0 / LOGISTIC_DEVIATION)
    return uniform
