"""Images with pixels that are missing or noisy, and the images that most probably stand behind them.

The latent of such an image is looked for where the model thinks it most probable:

    z = argmin  sum (x - decoder(z))^2 / (2 s^2)  +  |z|^2 / 2        over the pixels that are known

Encoding again and again what was decoded (Rezende, Mohamed and Wierstra, Stochastic Backpropagation, 2014, appendix F)
was measured beside it and left: posterior means run away there where much is missing, and half a face ends below the
mean face. This is a nonlinear least-squares problem, solved by the Levenberg-Marquardt method. The decoder's
derivatives are finite differences, from decoding a step to the side along every latent, so no more than the graphs is
needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.card import Card
from vae_runtime.engine import Engine
from vae_runtime.errors import InputError, shown
from vae_runtime.images import Images, as_array, as_floats, is_whole_number
from vae_runtime.latent import Latents, noise

STEPS = 12
"""Most images settle after six."""

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.float32]

# Factor on the standard deviation of pixels. What the decoder does not draw of an image lies in patches, so that the
# errors of neighbouring pixels are no independent evidence: twice the standard deviation fills a missing half by a
# decibel better, and harms nothing.
_INFLATION = 2.0
# A patch is as large a part of a larger image, and holds more of its pixels: so the factor grows with the side, from
# the 2 that was found at 24x24. At 64x64 it is 5.3: missing halves of new faces are filled a decibel better than by the
# mean face, where a factor of 2 fills them a decibel and a half worse.
_SIDE_OF_FACTOR_1 = 12.0  # pixels
_SIDE_STEP = 0.3  # standard deviations of the prior: integer graphs do not see smaller ones
_SETTLED = 0.1  # nats
# The Levenberg-Marquardt damping: to begin with, its factor after a step that gained nothing, its factor after one
# that did, and where an image is given up.
_DAMPING, _CALMER, _BOLDER, _MOST_DAMPING = 0.1, 8.0, 0.25, 1e5
_NUMBERS_AT_ONCE = 1 << 20  # in the derivatives of all images of a piece: 4 MB, for the processor's cache
_UNKNOWN_SPREAD = 0.1  # of pixels about what is drawn, where a card tells neither spread nor PSNR
_MEASURED = "validation_psnr_db"


class Restorer:
    """Finds latents of damaged images with the graphs of one model. Safe to use from several threads."""

    def __init__(self, engine: Engine, steps: int) -> None:
        """Take at most so many steps for an image.

        Raises:
            InputError: not a whole number of at least 1.
        """
        if not is_whole_number(steps) or steps < 1:
            raise InputError(f"steps is {shown(steps)}; expected a whole number of at least 1")
        self._engine, self._steps = engine, int(steps)
        self._spread = spread_of_pixels(engine.card)
        size = engine.latent_size * math.prod(engine.image_shape)
        self._at_once = max(1, min(engine.chunk, _NUMBERS_AT_ONCE // size))
        engine.require_room(self._at_once * engine.threads, 16 * size, "images' derivatives")

    def inpaint(self, images: npt.NDArray[Any], mask: Mask, seed: int | None) -> Images:
        """Fill in what is missing.

        Args:
            images: (N, C, H, W) float32 or pictures uint8, checked.
            mask: (1, H, W) or (N, H, W).
            seed: draws what is missing, instead of taking the most probable.

        Returns:
            (N, C, H, W) float32.
        """
        eps = None if seed is None else noise(len(images), self._engine.latent_size, seed)
        restored = self._engine.new_images(len(images), "float32")
        belief = np.float32((inflation(self._engine.image_shape) * self._spread) ** -2)

        def work(piece: slice) -> None:
            given = as_floats(images[piece])
            of_these = mask[piece] if len(mask) > 1 else mask
            missing = np.broadcast_to(of_these[:, None], given.shape)
            begin = np.where(missing, self._blank(), given)
            fit = self._fit(given, np.where(missing, np.float32(0), belief), begin)
            made = fit.made if eps is None else self._decode(fit.drawn(eps[piece]))
            restored[piece] = np.where(missing, made.reshape(given.shape), given)

        self._engine.in_chunks(len(images), work, at_most=self._at_once)
        return restored

    def denoise(self, images: npt.NDArray[Any], noise_scale: float) -> Images:
        """Take noise of a known standard deviation away; (N, C, H, W) float32 or pictures, to (N, C, H, W) float32."""
        restored = self._engine.new_images(len(images), "float32")
        belief = np.float32(1.0 / ((_INFLATION * self._spread) ** 2 + noise_scale**2))
        # The posterior mean of a pixel between two normal distributions: about what the decoder draws there, and about
        # what came with noise.
        kept = np.float32(self._spread**2 / (self._spread**2 + noise_scale**2))

        def work(piece: slice) -> None:
            given = as_floats(images[piece])
            made = self._fit(given, np.full(given.shape, belief), given).made.reshape(given.shape)
            restored[piece] = made + kept * (given - made)

        self._engine.in_chunks(len(images), work, at_most=self._at_once)
        return restored

    def _blank(self) -> Images:
        (image,) = self._engine.run("decoder", np.zeros((1, self._engine.latent_size), np.float32))
        return image

    def _fit(self, images: Images, beliefs: Images, begin: Images) -> Fit:
        latents = self._engine.encode(begin)[0].copy()
        fit = Fit(self._decode, latents, _flat(images), _flat(beliefs))
        with np.errstate(all="ignore"):  # of numbers that are not finite, where they are let through
            for _ in range(self._steps):
                if not fit.step():
                    break
        return fit

    def _decode(self, latents: Latents) -> Pixels:
        """Return what the decoder makes of any number of latents, (N, D) to (N, P)."""
        most = self._engine.chunk
        pieces = [
            self._engine.run("decoder", latents[start : start + most])[0]
            for start in range(0, len(latents), most)
        ]
        return _flat(np.concatenate(pieces))


class Fit:
    """Latents on their way to where images are most probable, each for itself."""

    def __init__(
        self, decode: Callable[[Latents], Pixels], latents: Latents, images: Pixels, beliefs: Pixels
    ) -> None:
        """Begin at some latents (N, D) that are written over; images and beliefs (1 / variance) are (N, P)."""
        self._decode, self._images, self._beliefs = decode, images, beliefs
        self.latents = latents
        """(N, D), the most probable so far."""
        self.made = decode(latents)
        """(N, P), what the decoder draws there."""
        size = latents.shape[1]
        self._curvature = np.tile(np.eye(size), (len(latents), 1, 1))
        self._nats = self._energy(slice(None), latents, self.made)
        self._damping = np.full(len(latents), _DAMPING)
        self._unsettled = np.arange(len(latents))

    def step(self) -> bool:
        """Take a Levenberg-Marquardt step for each image that has not settled; return whether any is left."""
        rows = self._unsettled
        slopes, curvature = self._derivatives(rows)
        self._curvature[rows] = curvature
        damped = curvature + self._damping[rows, None, None] * np.eye(curvature.shape[1])
        way = np.linalg.solve(damped, slopes[..., None])[..., 0].astype(np.float32)
        latents = self.latents[rows] + way
        made = self._decode(latents)
        nats = self._energy(rows, latents, made)
        gained = self._nats[rows] - nats
        better = gained > 0
        for kept, new in ((self.latents, latents), (self.made, made), (self._nats, nats)):
            kept[rows[better]] = new[better]
        self._damping[rows] *= np.where(better, _BOLDER, _CALMER)
        done = (better & (gained < _SETTLED)) | (self._damping[rows] > _MOST_DAMPING)
        self._unsettled = rows[~done]
        return len(self._unsettled) > 0

    def drawn(self, eps: Latents) -> Latents:
        """Draw latents from the Laplace approximation about the most probable ones; `eps` is their noise, (N, D)."""
        factor = np.linalg.cholesky(self._curvature)
        way = np.linalg.solve(np.swapaxes(factor, 1, 2), eps[..., None].astype(np.float64))[..., 0]
        drawn: Latents = self.latents + way.astype(np.float32)
        return drawn

    def _derivatives(self, rows: npt.NDArray[np.intp]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return the energy's negative gradient (n, D), and the Gauss-Newton approximation of its Hessian (n, D, D)."""
        count, size = len(rows), self.latents.shape[1]
        aside = self.latents[rows, None] + np.float32(_SIDE_STEP) * np.eye(size, dtype=np.float32)
        changes = self._decode(aside.reshape(-1, size)).reshape(count, size, -1)
        changes -= self.made[rows, None]
        changes /= np.float32(_SIDE_STEP)
        believed = changes * self._beliefs[rows, None]
        curvature = np.matmul(believed, changes.swapaxes(1, 2)).astype(np.float64) + np.eye(size)
        missed = (self._images - self.made)[rows]
        slopes = np.matmul(believed, missed[..., None])[..., 0].astype(np.float64) - self.latents[rows]
        return slopes, curvature

    def _energy(
        self, rows: slice | npt.NDArray[np.intp], latents: Latents, made: Pixels
    ) -> npt.NDArray[np.float64]:
        """Return the nats that are made as small as can be, of some of the images: (n,)."""
        squares = np.square(made - self._images[rows]) * self._beliefs[rows]
        nats: npt.NDArray[np.float64] = 0.5 * (
            squares.sum(axis=1, dtype=np.float64) + np.square(latents).sum(axis=1, dtype=np.float64)
        )
        return nats


def inflation(shape: tuple[int, int, int]) -> float:
    """Return the factor on the standard deviation of known pixels about missing ones, of images (C, H, W)."""
    return max(_INFLATION, math.sqrt(shape[1] * shape[2]) / _SIDE_OF_FACTOR_1)


def spread_of_pixels(card: Card) -> float:
    """Return how far pixels of images lie from what the decoder draws, as a standard deviation: as the card says it.

    Of a Bernoulli likelihood, which has no such number, as the reconstructions of held-out images were measured.
    """
    told = card.likelihood.noise_scale
    if told is None and _MEASURED in card.quality:
        told = 10.0 ** (-card.quality[_MEASURED] / 20.0)
    return told if told is not None and 1e-4 <= told <= 1.0 else _UNKNOWN_SPREAD


def as_mask(given: npt.ArrayLike, count: int, shape: tuple[int, int, int]) -> Mask:
    """Return a mask as (1, H, W) or (N, H, W) bool.

    Raises:
        InputError: not booleans, or of another shape.
    """
    array = as_array(given, "mask")
    height, width = shape[1:]
    if array.dtype != np.bool_:
        raise InputError(
            f"a mask of type {array.dtype}; expected bool, True where a pixel is missing (of a picture: picture > 127)"
        )
    if array.shape == (height, width):
        return array[None]
    if array.shape not in ((1, height, width), (count, height, width)):
        raise InputError(
            f"a mask of shape {array.shape}; expected ({height}, {width}) for all images, "
            f"or ({count}, {height}, {width})"
        )
    return array


def without_missing(images: npt.NDArray[Any], mask: Mask) -> npt.NDArray[Any]:
    """Return images or pictures with 0 where they are missing, whatever stood there."""
    if images.ndim == 4 and images.dtype != np.uint8:
        return np.where(mask[:, None], images.dtype.type(0), images)
    return np.where(mask[..., None] if images.ndim == 4 else mask, np.uint8(0), images)


def require_noise_scale(noise_scale: float) -> float:
    """Return the standard deviation of noise, or raise `InputError` where it cannot be one."""
    if isinstance(noise_scale, (int, float, np.number)) and 0 < noise_scale <= 10:
        return float(noise_scale)
    raise InputError(
        f"noise_scale is {shown(noise_scale)}; expected the standard deviation of the noise, pixels being 0 to 1: "
        "above 0, at most 10"
    )


def _flat(images: npt.NDArray[Any]) -> Pixels:
    return images.reshape(len(images), -1)
