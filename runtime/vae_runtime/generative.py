"""A generative model: an autoencoder with a prior, from which new latents come and which says where latents lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.autoencoder import Autoencoder
from vae_runtime.images import is_whole_number
from vae_runtime.latent import Latents, noise
from vae_runtime.likelihoods import Numbers
from vae_runtime.memory import explain_exhaustion
from vae_runtime.observation import ObservationNoise
from vae_runtime.prior import log_density, path_through, to_noise
from vae_runtime.requests import Dtype, ImageArray, as_count, require_temperature


class GenerativeModel(Autoencoder):
    """An autoencoder whose latents have a prior: the standard normal, or one that was learned."""

    @explain_exhaustion
    def sample(
        self,
        n: int,
        seed: int | None = None,
        temperature: float = 1.0,
        *,
        observation_noise: bool = False,
        dtype: Dtype = "float32",
    ) -> ImageArray:
        """Return `n` new images: noise through the prior and the decoder.

        What the decoder gives is the mean of p(x given z), and what is shown of a model as a rule. A draw from the
        model as the theory has it is a draw from that distribution, with noise in every pixel.

        Args:
            n: how many, 0 included.
            seed: the same seed gives the same noise everywhere, and the same latents but for the rounding of a
                learned prior; None draws differently every time.
            temperature: the noise is multiplied by it; below 1 images are nearer to the average.
            observation_noise: draw from p(x given z), as the card's likelihood has it, instead of giving its mean:
                of the same latents, and the same for a seed however many are drawn, and by how many threads.
            dtype: `float32` for images, `uint8` for pictures.

        Returns:
            As `decode`.

        Raises:
            InputError: a negative number or temperature, or a seed that is not a whole number.
            BundleError: observation noise of a likelihood that is not known.
            ResourceLimitError: not enough memory; said before anything is drawn.
        """
        engine, count = self._engine, as_count(n)
        engine.require_room_for_decoding(count, dtype)
        engine.require_open()
        images = engine.new_images(count, dtype)
        noises = self._batches.of_noise(count, seed, temperature, size=self._batches.usual_size)
        # Small requests go straight through, as those of `decode` do.
        if count <= engine.chunk and not observation_noise:
            for drawn in noises:
                engine.sample_into(drawn, images)
            return images
        pixel_noise = ObservationNoise(self.card, seed, engine.source) if observation_noise else None
        planned = self._batches.sampling(noises, lambda start, stop: images[start:stop], pixel_noise)
        for _ in self._batches.done(planned):
            pass
        return images

    def sample_stream(
        self,
        n: int | None = None,
        seed: int | None = None,
        temperature: float = 1.0,
        *,
        batch: int | None = None,
        observation_noise: bool = False,
        dtype: Dtype = "float32",
    ) -> Iterator[ImageArray]:
        """Give new images batch by batch, any number of them in bounded memory.

        A stream as `decode_stream` gives it. The latents are those of `sample` with the same seed; on the CPU, with a
        `batch` that is a multiple of 64, the images are so too, bit for bit.

        Args:
            n: how many images in all; None: without end.
            seed: as `sample`.
            temperature: as `sample`.
            batch: as `decode_stream`.
            observation_noise: as `sample`.
            dtype: `float32` for images, `uint8` for pictures.

        Yields:
            As `decode_stream`.

        Raises:
            InputError: as `sample`, at once.
            NonFiniteError, ClosedError, ResourceLimitError: as `decode_stream`.
        """
        batches, engine = self._batches, self._engine
        size = batches.size(batch, dtype)
        noises = batches.of_noise(None if n is None else as_count(n), seed, temperature, size=size)
        pixel_noise = ObservationNoise(self.card, seed, engine.source) if observation_noise else None
        planned = batches.sampling(
            noises, lambda start, stop: engine.new_images(stop - start, dtype), pixel_noise
        )
        return batches.stream(planned)

    @explain_exhaustion
    def sample_latents(self, n: int, seed: int | None = None, temperature: float = 1.0) -> Latents:
        """Return the latents, (n, D) float32, that `sample` decodes; arguments and errors as there."""
        engine, count = self._engine, as_count(n)
        require_temperature(temperature)
        engine.require_room(count, engine.latent_bytes, "latents")
        drawn = noise(count, engine.latent_size, seed)
        drawn *= np.float32(temperature)
        if not engine.has("prior"):
            return drawn

        def work(piece: slice) -> None:
            drawn[piece] = engine.through_prior(drawn[piece])

        engine.in_chunks(len(drawn), work)
        return drawn

    @explain_exhaustion
    def interpolate(
        self,
        a: npt.ArrayLike,
        b: npt.ArrayLike,
        steps: int,
        method: str = "slerp",
        *,
        through_prior: bool | None = None,
        dtype: Dtype = "float32",
    ) -> ImageArray:
        """Return the images on the way from one latent to another, both ends included.

        Args:
            a: (D,) where the way begins.
            b: (D,) where it ends.
            steps: how many images; at least 2.
            method: `slerp` along an arc, `lerp` or `linear` along a straight line.
            through_prior: as `latent_path`.
            dtype: `float32` for images, `uint8` for pictures.

        Returns:
            `steps` images, as `decode`.

        Raises:
            InputError, BundleError: as `latent_path`.
            NonFiniteError, ResourceLimitError: as `decode`.
        """
        if is_whole_number(steps):
            self._engine.require_room_for_decoding(int(steps), dtype)
        return self.decode(self.latent_path([a, b], steps, method, through_prior=through_prior), dtype=dtype)

    @explain_exhaustion
    def latent_path(
        self,
        points: Sequence[npt.ArrayLike] | npt.NDArray[Any],
        steps: int,
        method: str = "slerp",
        *,
        through_prior: bool | None = None,
    ) -> Latents:
        """Return the latents on the way through two or more, all of which are part of it where a step falls on them.

        Where the model has a learned prior that can be undone (a flow; see `to_noise`), the way is that of the noise
        behind the latents, sent through the prior: it stays where images are. A line between latents leads through
        places that no image was ever put to.

        Args:
            points: (K, D), at least two.
            steps: how many latents; at least 2, first and last among them.
            method: `slerp` along arcs, `lerp` or `linear` along straight lines, in noise or in latents.
            through_prior: False for latents always; True for noise, or an error; None for noise where it is possible.

        Returns:
            (steps, D) float32.

        Raises:
            InputError: fewer than two points or steps, points of a wrong size or type, NaN, or an unknown method.
            BundleError: `through_prior` is True for a model whose prior cannot be undone.
            NonFiniteError: a point is so far from all images that the prior knows no noise for it.
            ResourceLimitError: not enough memory.
        """
        if is_whole_number(steps):
            self._engine.require_room(int(steps), self._engine.latent_bytes, "latents")
        return path_through(self._engine, points, steps, method, through_prior=through_prior)

    @explain_exhaustion
    def log_density(self, latents: npt.ArrayLike) -> Numbers:
        """Return how probable latents are to the prior that `sample` draws from: log p(z), in nats.

        Args:
            latents: (N, D) floating point.

        Returns:
            (N,) float64. Without a learned prior it is that of the standard normal.

        Raises:
            InputError: a wrong type or shape, or NaN.
            BundleError: the bundle has a learned prior and does not know its density.
            NonFiniteError: latents so far out that their density is 0.
            ResourceLimitError: not enough memory.
        """
        return log_density(self._engine, self._checked_latents(latents))

    @explain_exhaustion
    def to_noise(self, latents: npt.ArrayLike) -> Latents:
        """Return the noise that the prior sends to latents, (N, D) float32: the latents where no prior was learned.

        Args:
            latents: (N, D) floating point.

        Raises:
            InputError: a wrong type or shape, or NaN.
            BundleError: the prior cannot be undone: a mixture, or a bundle of an older vae-edge.
            NonFiniteError: latents so far out that there is no noise for them.
            ResourceLimitError: not enough memory.
        """
        return to_noise(self._engine, self._checked_latents(latents))
