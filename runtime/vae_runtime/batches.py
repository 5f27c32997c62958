"""Requests of any size as batches: noise as it is drawn, arrays as they are cut, and what is to be made of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vae_runtime.engine import Engine
from vae_runtime.errors import InputError, shown
from vae_runtime.images import as_array, is_whole_number
from vae_runtime.latent import Latents, Posterior, generator
from vae_runtime.memory import explain_exhaustion_of_each
from vae_runtime.observation import ObservationNoise
from vae_runtime.requests import Dtype, ImageArray, require_temperature
from vae_runtime.score import Score, Scorer, new_scores
from vae_runtime.streams import Batch, in_order

# Handing so much over costs nothing beside making it.
_BATCH, _CHUNKS_A_BATCH = 1024, 16
_HELD = 4  # batches at once: the caller's, the one being handed over, the one being made, and the one being planned

_Made = TypeVar("_Made")


class Batches:
    """The batches of one model's streams. Holds nothing of them."""

    def __init__(self, engine: Engine) -> None:
        """Plan what this engine is to do."""
        self._engine = engine
        self.usual_size = max(engine.chunk, min(_BATCH, _CHUNKS_A_BATCH * engine.chunk))

    def size(self, batch: int | None, dtype: Dtype) -> int:
        """Return how many images a stream gives at a time, which there must be room for."""
        if batch is not None and (not is_whole_number(batch) or batch < 1):
            raise InputError(f"batch is {shown(batch)}; expected a whole number of at least 1, or None")
        size = self.usual_size if batch is None else int(batch)
        bytes_each = _HELD * self._engine.bytes_of_one(dtype)
        self._engine.require_room(size, bytes_each, "images at a time, several times over,")
        return size

    def of_noise(
        self, n: int | None, seed: int | None, temperature: float, *, size: int
    ) -> Iterator[Latents]:
        """Give noise in batches, without end where n is None: what one draw of all would give."""
        require_temperature(temperature)
        source, width, warmth = generator(seed), self._engine.latent_size, np.float32(temperature)

        def draw() -> Iterator[Latents]:
            left = n
            while left is None or left > 0:
                count = size if left is None else min(size, left)
                drawn = source.standard_normal((count, width), dtype=np.float32)
                drawn *= warmth
                yield drawn
                left = None if left is None else left - count

        return draw()

    def of_images(self, given: npt.NDArray[Any] | Iterable[npt.ArrayLike], size: int) -> Iterator[ImageArray]:
        """Give copies of images or pictures, of one array or of many, checked."""
        return _cut(given, size, self._engine.require_images, self._engine.checked_images)

    def of_latents(self, given: npt.NDArray[Any] | Iterable[npt.ArrayLike], size: int) -> Iterator[Latents]:
        """Give copies of latents, of one array or of many, checked."""
        return _cut(given, size, self._engine.require_latents, self._engine.checked_latents)

    def stream(self, batches: Iterator[Batch[_Made]]) -> Iterator[_Made]:
        """Give what batches make; the errors of an argument have been raised when this is called."""
        self._engine.require_open()

        def made_in_order() -> Iterator[_Made]:
            for made in self.done(batches):
                self._engine.require_open()  # what was made ahead is not given any more
                yield made
                del made  # while the next is being made

        return explain_exhaustion_of_each(made_in_order())

    def done(self, batches: Iterable[Batch[_Made]]) -> Iterator[_Made]:
        """Work off batches with all threads, and give what they make in their order."""
        return in_order(batches, threads=self._engine.threads)

    def sampling(
        self,
        noises: Iterable[Latents],
        room: Callable[[int, int], ImageArray],
        pixel_noise: ObservationNoise | None,
    ) -> Iterator[Batch[ImageArray]]:
        """Plan to lead noise through the prior and the decoder.

        Args:
            noises: one array for each batch.
            room: gives the array that the images from one place to another are written into.
            pixel_noise: what is added to the images, if anything is.
        """
        begins_at = 0
        for noise in noises:
            ends_at = begins_at + len(noise)
            yield self._sampling(noise, room(begins_at, ends_at), pixel_noise, begins_at)
            begins_at = ends_at

    def _sampling(
        self, noise: Latents, images: ImageArray, pixel_noise: ObservationNoise | None, begins_at: int
    ) -> Batch[ImageArray]:
        engine = self._engine

        def work(piece: slice) -> None:
            begin = begins_at + piece.start
            observe = partial(pixel_noise.draw, begins_at=begin) if pixel_noise else None
            engine.sample_into(noise[piece], images[piece], observe)

        return self._plan(images, work)

    def decoding(self, latents: Latents, images: ImageArray) -> Batch[ImageArray]:
        """Plan to decode latents into images."""

        def work(piece: slice) -> None:
            self._engine.decode_into(latents[piece], images[piece])

        return self._plan(images, work)

    def encoding(self, images: ImageArray) -> Batch[Posterior]:
        """Plan to encode images or pictures."""
        posterior = Posterior(*self._engine.new_latents(2, len(images)))

        def work(piece: slice) -> None:
            posterior.mean[piece], posterior.logvar[piece] = self._engine.encode(images[piece])

        return Batch(posterior, len(images), work, chunk=self._engine.encoder_chunk)

    def reconstructing(self, given: ImageArray, images: ImageArray) -> Batch[ImageArray]:
        """Plan to encode images or pictures, and to decode their means."""

        def work(piece: slice) -> None:
            mean, _ = self._engine.encode(given[piece])
            self._engine.decode_into(mean, images[piece])

        return self._plan(images, work)

    def scoring(self, images: ImageArray, scorer: Scorer) -> Batch[Score]:
        """Plan to score images or pictures."""
        scores = new_scores(len(images))

        def work(piece: slice) -> None:
            scorer.score_into(scores, images, piece)

        return Batch(scores, len(images), work, chunk=self._engine.encoder_chunk)

    def _plan(self, images: ImageArray, work: Callable[[slice], None]) -> Batch[ImageArray]:
        return Batch(images, len(images), work, chunk=self._engine.chunk)


def _cut(
    given: npt.NDArray[Any] | Iterable[npt.ArrayLike],
    size: int,
    require: Callable[[npt.NDArray[Any]], None],
    check: Callable[[npt.NDArray[Any], int], npt.NDArray[Any]],
) -> Iterator[npt.NDArray[Any]]:
    """Give copies of one array or of many in batches.

    Args:
        given: the arrays.
        size: how many rows a batch has at most.
        require: raises unless an array is of the right type and shape; of one array this is known at once.
        check: makes of a batch what the graphs take. It is also told which row of all is its first.
    """
    if isinstance(given, memoryview) or hasattr(given, "__array__") or hasattr(given, "__array_interface__"):
        array = as_array(given, "what is given")
        require(array)
        given = [array]
    try:
        arrays = iter(given)
    except TypeError:
        raise InputError(
            f"{type(given).__name__} given; expected an array, or an iterable of arrays"
        ) from None

    def batches() -> Iterator[npt.NDArray[Any]]:
        begins_at = 0
        for each in arrays:
            array = as_array(each, "what is given")
            require(array)
            for start in range(0, len(array), size):
                yield check(np.array(array[start : start + size]), begins_at + start)
            begins_at += len(array)

    return batches()
