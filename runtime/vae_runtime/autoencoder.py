"""An autoencoder: an opened bundle that turns images into latents, and latents into images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy.typing as npt

from vae_runtime.batches import Batches
from vae_runtime.bundle import Bundle
from vae_runtime.card import Card
from vae_runtime.engine import Engine
from vae_runtime.images import as_array, owned
from vae_runtime.latent import Latents, Posterior
from vae_runtime.memory import explain_exhaustion
from vae_runtime.requests import Dtype, ImageArray


class Autoencoder:
    """The encoder and the decoder of a bundle, opened. `Model`, which builds on it, tells of arrays and threads."""

    def __init__(
        self,
        bundle: Bundle,
        provider: str = "auto",
        threads: int | None = None,
        *,
        check_finite: bool = True,
        tf32: bool = False,
    ) -> None:
        """Open the graphs of a bundle that was read; `load` reads it."""
        self._bundle = bundle
        self._provider = provider
        self._threads = threads
        self._engine = Engine(bundle, provider, threads, check_finite=check_finite, tf32=tf32)
        self._batches = Batches(self._engine)

    @property
    def card(self) -> Card:
        """What the decoder says of itself; the other graphs say the same."""
        return self._engine.card

    @property
    def graphs(self) -> tuple[str, ...]:
        """The roles of the bundle's graphs: `encoder`, `decoder`, and what it has of a prior."""
        return self._engine.roles

    @property
    def sha256(self) -> str:
        """SHA-256 of the bundle's SHA256SUMS: what `load(..., expect_sha256=...)` takes.

        Empty where the model was not read from a folder.
        """
        return self._bundle.sha256

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that really run the graphs, by their short names."""
        return self._engine.providers

    @explain_exhaustion
    def encode(self, images: npt.ArrayLike) -> Posterior:
        """Return the posterior of images.

        Args:
            images: (N, C, H, W) float in [0, 1], or (N, H, W) or (N, H, W, C) uint8.

        Returns:
            mean and logvar, each (N, D) float32.

        Raises:
            InputError: a wrong type, shape or range, or NaN.
            NonFiniteError: the model produced NaN or infinity.
            ResourceLimitError: not enough memory.
        """
        engine = self._engine
        given = engine.checked_images(as_array(images, "images"))
        engine.require_room(len(given), 2 * engine.latent_bytes, "posteriors")
        if 0 < len(given) <= engine.encoder_chunk:
            return Posterior(*map(owned, engine.encode(given)))
        mean, logvar = engine.new_latents(2, len(given))

        def work(piece: slice) -> None:
            mean[piece], logvar[piece] = engine.encode(given[piece])

        engine.in_chunks(len(given), work, at_most=engine.encoder_chunk)
        return Posterior(mean, logvar)

    @explain_exhaustion
    def decode(self, latents: npt.ArrayLike, *, dtype: Dtype = "float32") -> ImageArray:
        """Return the images of latents: the mean of p(x given z).

        Args:
            latents: (N, D) floating point.
            dtype: `float32` for images, `uint8` for pictures.

        Returns:
            (N, C, H, W) float32 in [0, 1]; or (N, H, W) where C is 1, else (N, H, W, C), uint8.

        Raises:
            InputError: a wrong type or shape, or NaN.
            NonFiniteError: the model produced NaN or infinity.
            ResourceLimitError: not enough memory.
        """
        engine = self._engine
        if type(dtype) is str and dtype == "float32":
            image = engine.decode_one(latents)
            if image is not None:
                return image
        checked = self._checked_latents(latents)
        images = engine.new_images(len(checked), dtype)
        # Small requests go straight through: planning chunks would take a third of the time of a few images.
        if 0 < len(checked) <= engine.chunk:
            engine.decode_into(checked, images)
            return images

        def work(piece: slice) -> None:
            engine.decode_into(checked[piece], images[piece])

        engine.in_chunks(len(checked), work)
        return images

    @explain_exhaustion
    def reconstruct(self, images: npt.ArrayLike, *, dtype: Dtype = "float32") -> ImageArray:
        """Return images as the model sees them: decoded from the posterior mean.

        Arguments and errors as `encode`; returns as `decode`.
        """
        return self.decode(self.encode(images).mean, dtype=dtype)

    def decode_stream(
        self,
        latents: npt.NDArray[Any] | Iterable[npt.ArrayLike],
        *,
        batch: int | None = None,
        dtype: Dtype = "float32",
    ) -> Iterator[ImageArray]:
        """Give the images of latents batch by batch, any number of them in bounded memory.

        While one batch is in your hands the next is being made, with all threads but yours; no more than that. A
        stream is for one thread; any number of streams may be open. Closed, or forgotten, it leaves nothing behind.

        Args:
            latents: one array (N, D), perhaps memory-mapped, or an iterable of arrays (K, D), perhaps without end.
                For each array of at most `batch` latents there comes one of images; larger ones are cut. With more
                than one thread, an iterable is asked for one array more than was worked off. What is given may be
                changed afterwards.
            batch: how many images at a time, the last ones may be fewer. None: 1024 on the CPU, 4096 elsewhere, or
                fewer where they are larger than 24x24.
            dtype: `float32` for images, `uint8` for pictures.

        Yields:
            (batch, C, H, W) float32 in [0, 1]; or (batch, H, W) where C is 1, else (batch, H, W, C), uint8.

        Raises:
            InputError: a wrong type or shape, or NaN. Type and shape of a single array are checked at once, all else
                when its turn comes.
            NonFiniteError: the model produced NaN or infinity; what came before has been given.
            ClosedError: the model is closed, now or when the next batch is asked for.
            ResourceLimitError: not enough memory for a few batches.
        """
        batches, engine = self._batches, self._engine
        pieces = batches.of_latents(latents, batches.size(batch, dtype))
        return batches.stream(
            batches.decoding(piece, engine.new_images(len(piece), dtype)) for piece in pieces
        )

    def encode_stream(
        self, images: npt.NDArray[Any] | Iterable[npt.ArrayLike], *, batch: int | None = None
    ) -> Iterator[Posterior]:
        """Give the posteriors of images batch by batch, any number of them in bounded memory.

        Args:
            images: one array as `encode` takes it, perhaps memory-mapped, or an iterable of such arrays, as
                `decode_stream` takes latents.
            batch: as `decode_stream`.

        Yields:
            mean and logvar, each (batch, D) float32.

        Raises:
            InputError: a wrong type, shape or range, or NaN. Type and shape of a single array are checked at once, all
                else when its turn comes.
            NonFiniteError, ClosedError, ResourceLimitError: as `decode_stream`.
        """
        batches = self._batches
        pieces = batches.of_images(images, batches.size(batch, "float32"))
        return batches.stream(map(batches.encoding, pieces))

    def reconstruct_stream(
        self,
        images: npt.NDArray[Any] | Iterable[npt.ArrayLike],
        *,
        batch: int | None = None,
        dtype: Dtype = "float32",
    ) -> Iterator[ImageArray]:
        """Give images as the model sees them batch by batch: arguments and errors as `encode_stream`.

        Yields:
            As `decode_stream`.
        """
        batches, engine = self._batches, self._engine
        pieces = batches.of_images(images, batches.size(batch, dtype))
        return batches.stream(
            batches.reconstructing(piece, engine.new_images(len(piece), dtype)) for piece in pieces
        )

    def _checked_latents(self, latents: npt.ArrayLike) -> Latents:
        engine, array = self._engine, as_array(latents, "latents")
        engine.require_latents(array)
        engine.require_room(len(array), engine.latent_bytes, "latents")
        engine.require_open()
        return engine.checked_latents(array)
