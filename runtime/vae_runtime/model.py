"""The model: one object that encodes, decodes, samples, reconstructs and interpolates."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from vae_runtime.bundle import MOST_MODEL_BYTES, Bundle, read_bundle
from vae_runtime.card import Card
from vae_runtime.chunks import CHUNK, GPU_CHUNK, for_each_chunk
from vae_runtime.errors import BundleError, ClosedError, InputError, NonFiniteError, printable
from vae_runtime.images import (
    Images,
    all_finite,
    as_array,
    as_float32,
    as_images,
    fill_pictures,
    is_whole_number,
    require_finite,
    require_images,
    to_float,
    to_uint8,
)
from vae_runtime.latent import Latents, generator, latent_path, noise, require_latents
from vae_runtime.memory import (
    ALWAYS_TRIED,
    explain_exhaustion,
    explain_exhaustion_of_each,
    require_memory,
)
from vae_runtime.session import Graph
from vae_runtime.streams import Batch, in_order
from vae_runtime.threads import thread_count

Dtype = Literal["float32", "uint8"] | type[np.float32] | type[np.uint8] | np.dtype[Any]


_HOTTEST = 1e30  # far below the largest float32: noise times this is finite

_FLOAT32, _UINT8 = np.dtype(np.float32), np.dtype(np.uint8)

_BATCH = 1024  # images that a stream gives at a time: enough that handing them over costs nothing beside making them
_BATCHES_AT_ONCE = 4  # at the taker's, being given, being made, and being thought of

_Made = TypeVar("_Made")

ImageArray = npt.NDArray[Any]
"""Images (N, C, H, W) float32 in [0, 1], or pictures (N, H, W) or (N, H, W, C) uint8."""


class Posterior(NamedTuple):
    """q(z given x), a diagonal Gaussian for every image."""

    mean: Latents
    """(N, D) float32."""
    logvar: Latents
    """(N, D) float32: the natural logarithm of the variance."""


def load(
    name_or_path: str | os.PathLike[str],
    provider: str = "auto",
    threads: int | None = None,
    *,
    check_finite: bool = True,
    expect_sha256: str | None = None,
    allow_links: bool = False,
    max_model_bytes: int = MOST_MODEL_BYTES,
) -> Model:
    """Open a model. Nothing of a bundle is opened but SHA256SUMS and the graphs, each once, and nothing outside.

    Args:
        name_or_path: a shipped model (see `shipped_models`), or the folder of a bundle.
        provider: `auto` (CUDA where it really opens, else the CPU), `cpu`, `cuda`, `tensorrt`, `coreml`,
            `directml` or `openvino`. A provider that is named is used, or the call fails.
        threads: how many threads a large request may use on the CPU. None: every processor that this
            process may use by its affinity and its container's quota.
        check_finite: refuse NaN and infinity in what goes into the model and in what comes out of it. Without
            it neither is looked at for them: what an image or a latent with NaN gives is NaN or nonsense, for
            that one alone, and pictures (uint8) are 0 there.
        expect_sha256: the SHA-256, as 64 hexadecimal digits, that the bundle's SHA256SUMS must have. Sums
            prove that files belong together; this, got from somebody you trust, proves which files.
        allow_links: let files through that are symbolic links or have other hard links, as in the cache of
            Hugging Face.
        max_model_bytes: how large a graph's file may be; more is refused before it is read.

    Raises:
        BundleError: no such bundle, or one that is damaged or does not fit together.
        UnsafeBundleError: something in it that no bundle may hold, or not the one that was expected.
        ProviderError: the provider that was named cannot be used here.
        EnvironmentProblem: onnxruntime is missing, doubled or too old.
        ResourceLimitError: not enough memory.
        InputError: an unknown provider name, or another argument that is not what it should be.
    """
    bundle = read_bundle(
        name_or_path, expect_sha256=expect_sha256, allow_links=allow_links, max_model_bytes=max_model_bytes
    )
    return Model(bundle, provider, threads, check_finite=check_finite)


class Model:
    """An opened bundle. Safe to call from several threads; can be pickled, and is opened again then.

    Images go in as (N, C, H, W) float32 in [0, 1], or as (N, H, W) or (N, H, W, C) uint8 pictures. They
    come out as (N, C, H, W) float32 in [0, 1], or as pictures with `dtype="uint8"`. Latents are (N, D)
    float32. N is any number, 0 included: large requests are worked off in chunks.
    """

    def __init__(
        self,
        bundle: Bundle,
        provider: str = "auto",
        threads: int | None = None,
        *,
        check_finite: bool = True,
    ) -> None:
        """Open the graphs of a bundle that was read; `load` reads it."""
        self._bundle = bundle
        self._provider = provider
        self._threads = threads
        self._check_finite = check_finite
        self._thread_count = thread_count(threads)
        self._closed = False
        self._graphs = {
            role: Graph(role, data, source=bundle.source, provider=provider)
            for role, data in bundle.graphs.items()
        }
        _refuse_strangers(self._graphs)
        on_cpu = self.providers == ("cpu",)
        self._image_shape, self._latent_size = self.card.image_shape, self.card.latent_size
        self._pixels = math.prod(self._image_shape)
        self._latent_bytes = 4 * self._latent_size
        self._surely_fit = ALWAYS_TRIED // (2 * self._latent_bytes + 4 * self._pixels)
        self._chunk, self._chunk_threads = (CHUNK, self._thread_count) if on_cpu else (GPU_CHUNK, 1)
        self._batch = max(_BATCH, self._chunk)

    @property
    def card(self) -> Card:
        """What the decoder says of itself; the other graphs say the same."""
        return self._graphs["decoder"].card

    @property
    def sha256(self) -> str:
        """SHA-256 of the bundle's SHA256SUMS: what `load(..., expect_sha256=...)` takes.

        Empty where the model was not read from a folder.
        """
        return self._bundle.sha256

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that really run the graphs, by their short names."""
        return tuple(sorted({graph.provider for graph in self._graphs.values()}))

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
        given = self._finite_images(as_array(images, "images"))
        self._require_room(len(given), 2 * self._latent_bytes, "posteriors")
        if 0 < len(given) <= self._chunk:
            return Posterior(*(output.copy() for output in self._run("encoder", _as_floats(given))))
        mean, logvar = self._new_latents(2, len(given))

        def work(piece: slice) -> None:
            mean[piece], logvar[piece] = self._run("encoder", _as_floats(given[piece]))

        self._in_chunks(len(given), work)
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
        checked = self._as_latents(latents)
        images = self._new_images(len(checked), dtype)
        if (
            0 < len(checked) <= self._chunk
        ):  # the shortest way: for one image all else would be a third of the time
            self._store(self._run("decoder", checked)[0], images)
            return images

        def work(piece: slice) -> None:
            self._store(self._run("decoder", checked[piece])[0], images[piece])

        self._in_chunks(len(checked), work)
        return images

    @explain_exhaustion
    def sample(
        self, n: int, seed: int | None = None, temperature: float = 1.0, *, dtype: Dtype = "float32"
    ) -> ImageArray:
        """Return `n` new images: noise through the prior and the decoder.

        Args:
            n: how many, 0 included.
            seed: the same seed gives the same latents everywhere; None draws differently every time.
            temperature: the noise is multiplied by it; below 1 images are nearer to the average.
            dtype: `float32` for images, `uint8` for pictures.

        Returns:
            As `decode`.

        Raises:
            InputError: a negative number or temperature, or a seed that is not a whole number.
            ResourceLimitError: not enough memory; said before anything is drawn.
        """
        count = _count(n)
        self._require_room_for_decoding(count, dtype)
        if count <= self._chunk:
            return self.decode(self.sample_latents(count, seed, temperature), dtype=dtype)
        self._require_open()
        images = self._new_images(count, dtype)
        drawn = self._noise(count, seed, temperature, batch=self._batch)
        for _ in in_order(self._sampling_into(images, drawn), threads=self._chunk_threads):
            pass
        return images

    def sample_stream(
        self,
        n: int | None = None,
        seed: int | None = None,
        temperature: float = 1.0,
        *,
        batch: int | None = None,
        dtype: Dtype = "float32",
    ) -> Iterator[ImageArray]:
        """Give new images batch by batch, any number of them in bounded memory.

        While one batch is in your hands the next is being made, with all threads but yours; no more than that. The
        latents are those of `sample` with the same seed, and with a `batch` that is a multiple of 64 the images are
        so too, bit for bit. A stream is for one thread; any number of streams may be open. Closed, or forgotten, it
        leaves nothing behind.

        Args:
            n: how many images in all; None: without end.
            seed: as `sample`.
            temperature: as `sample`.
            batch: how many images at a time, the last ones may be fewer. None: 1024 on the CPU, 4096 elsewhere.
            dtype: `float32` for images, `uint8` for pictures.

        Yields:
            (batch, C, H, W) float32 in [0, 1]; or (batch, H, W) where C is 1, else (batch, H, W, C), uint8.

        Raises:
            InputError: as `sample`, at once.
            NonFiniteError: the model produced NaN or infinity; what came before has been given.
            ClosedError: the model is closed, now or when the next batch is asked for.
            ResourceLimitError: not enough memory for a few batches.
        """
        size = self._batch_size(batch, dtype)
        noises = self._noise(None if n is None else _count(n), seed, temperature, batch=size)
        return self._stream(
            self._decoding(drawn, self._new_images(len(drawn), dtype), prior=True) for drawn in noises
        )

    def decode_stream(
        self,
        latents: npt.NDArray[Any] | Iterable[npt.ArrayLike],
        *,
        batch: int | None = None,
        dtype: Dtype = "float32",
    ) -> Iterator[ImageArray]:
        """Give the images of latents batch by batch, any number of them in bounded memory.

        Args:
            latents: one array (N, D), perhaps memory-mapped, or an iterable of arrays (K, D), perhaps without end.
                For each array of at most `batch` latents there comes one of images; larger ones are cut. With more
                than one thread, an iterable is asked for one array more than was worked off. What is given may be
                changed afterwards.
            batch: as `sample_stream`.
            dtype: as `sample_stream`.

        Yields:
            As `sample_stream`.

        Raises:
            InputError: a wrong type or shape, or NaN: of one array at once, but for NaN, and else when its turn comes.
            NonFiniteError, ClosedError, ResourceLimitError: as `sample_stream`.
        """
        size = self._batch_size(batch, dtype)
        pieces = self._cut(latents, size, self._require_latents, self._finite_latents)
        return self._stream(
            self._decoding(piece, self._new_images(len(piece), dtype), prior=False) for piece in pieces
        )

    def encode_stream(
        self, images: npt.NDArray[Any] | Iterable[npt.ArrayLike], *, batch: int | None = None
    ) -> Iterator[Posterior]:
        """Give the posteriors of images batch by batch, any number of them in bounded memory.

        Args:
            images: one array as `encode` takes it, perhaps memory-mapped, or an iterable of such arrays, as
                `decode_stream` takes latents.
            batch: as `sample_stream`.

        Yields:
            mean and logvar, each (batch, D) float32.

        Raises:
            InputError: a wrong type, shape or range, or NaN: type and shape of one array at once, and else when its
                turn comes.
            NonFiniteError, ClosedError, ResourceLimitError: as `sample_stream`.
        """
        pieces = self._cut(
            images, self._batch_size(batch, "float32"), self._require_images, self._finite_images
        )
        return self._stream(
            self._encoding(piece, Posterior(*self._new_latents(2, len(piece)))) for piece in pieces
        )

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
        size = self._batch_size(batch, dtype)
        pieces = self._cut(images, size, self._require_images, self._finite_images)
        return self._stream(
            self._reconstructing(piece, self._new_images(len(piece), dtype)) for piece in pieces
        )

    @explain_exhaustion
    def sample_latents(self, n: int, seed: int | None = None, temperature: float = 1.0) -> Latents:
        """Return the latents, (n, D) float32, that `sample` decodes."""
        count = _count(n)
        _require_temperature(temperature)
        self._require_room(count, self._latent_bytes, "latents")
        drawn = noise(count, self._latent_size, seed)
        drawn *= np.float32(temperature)
        if "prior" not in self._graphs:
            return drawn

        def work(piece: slice) -> None:
            drawn[piece] = self._run("prior", drawn[piece])[0]

        self._in_chunks(len(drawn), work)
        return drawn

    @explain_exhaustion
    def reconstruct(self, images: npt.ArrayLike, *, dtype: Dtype = "float32") -> ImageArray:
        """Return images as the model sees them: decoded from the posterior mean. Arguments as `encode`."""
        return self.decode(self.encode(images).mean, dtype=dtype)

    @explain_exhaustion
    def interpolate(
        self,
        a: npt.ArrayLike,
        b: npt.ArrayLike,
        steps: int,
        method: str = "slerp",
        *,
        dtype: Dtype = "float32",
    ) -> ImageArray:
        """Return the images on the way from one latent to another, both ends included.

        Args:
            a: (D,) where the way begins.
            b: (D,) where it ends.
            steps: how many images; at least 2.
            method: `slerp` along an arc, `lerp` or `linear` along a straight line.
            dtype: `float32` for images, `uint8` for pictures.

        Returns:
            `steps` images, as `decode`.
        """
        if isinstance(steps, (int, np.integer)):
            self._require_room_for_decoding(int(steps), dtype)
        path = latent_path([a, b], steps, method, check_finite=self._check_finite)
        return self.decode(path, dtype=dtype)

    def close(self) -> None:
        """Release the sessions. Later calls raise `ClosedError`; calls under way in other threads end."""
        self._closed = True
        for graph in self._graphs.values():
            graph.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[Bundle, str, int | None, bool]]:
        # The graphs' bytes travel along, so that a worker needs no path to the bundle.
        return _open_again, (self._bundle, self._provider, self._threads, self._check_finite)

    def __repr__(self) -> str:
        channels, height, width = self._image_shape
        return (
            f"<vae_runtime.Model {self.card.name!r}: {channels}x{height}x{width} images, "
            f"{self._latent_size} latents, {self.card.precision}, on {', '.join(self.providers)}>"
        )

    def _run(self, role: str, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        outputs = self._graphs[role].run(batch)
        if self._check_finite:
            for output in outputs:
                if not all_finite(output):
                    raise self._non_finite(role, output)
        return outputs

    def _non_finite(self, role: str, output: npt.NDArray[np.float32]) -> NonFiniteError:
        bad = int(np.count_nonzero(~np.isfinite(output)))
        return NonFiniteError(
            f"{self._bundle.source}: the {role} produced {bad} NaN or infinite values of {output.size}; "
            "its weights are broken, or its input is far outside of what it was trained on"
        )

    def _in_chunks(self, total: int, work: Callable[[slice], None]) -> None:
        self._require_open()
        for_each_chunk(total, work, chunk=self._chunk, threads=self._chunk_threads)

    def _require_open(self) -> None:
        if self._closed:  # an empty request would not notice
            raise ClosedError(f"{self._bundle.source}: the model is closed; load it again")

    def _stream(self, batches: Iterator[Batch[_Made]]) -> Iterator[_Made]:
        """Give what batches make; the errors of an argument have been raised when this is called."""
        self._require_open()

        def images() -> Iterator[_Made]:
            for made in in_order(batches, threads=self._chunk_threads):
                self._require_open()  # what was made ahead is not given any more
                yield made
                del made  # while the next is being made

        return explain_exhaustion_of_each(images())

    def _batch_size(self, batch: int | None, dtype: Dtype) -> int:
        """Return how many images a stream gives at a time, which there must be room for."""
        if batch is not None and (not is_whole_number(batch) or batch < 1):
            raise InputError(f"batch is {batch!r}; expected a whole number of at least 1, or None")
        size = self._batch if batch is None else int(batch)
        bytes_each = self._latent_bytes + self._pixels * _image_dtype(dtype).itemsize
        self._require_room(size, _BATCHES_AT_ONCE * bytes_each, "images at a time, several times over,")
        return size

    def _noise(self, n: int | None, seed: int | None, temperature: float, *, batch: int) -> Iterator[Latents]:
        """Give noise in batches, without end where n is None: what one draw of all would give."""
        _require_temperature(temperature)
        source, width, warmth = generator(seed), self._latent_size, np.float32(temperature)

        def draw() -> Iterator[Latents]:
            left = n
            while left is None or left > 0:
                size = batch if left is None else min(batch, left)
                drawn = source.standard_normal((size, width), dtype=np.float32)
                drawn *= warmth
                yield drawn
                left = None if left is None else left - size

        return draw()

    def _cut(
        self,
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
        if hasattr(given, "__array__"):
            require(np.asarray(given))
            given = [np.asarray(given)]

        def batches() -> Iterator[npt.NDArray[Any]]:
            begins_at = 0
            for each in given:
                array = as_array(each, "what is given")
                require(array)
                for start in range(0, len(array), size):
                    yield check(np.array(array[start : start + size]), begins_at + start)
                begins_at += len(array)

        return batches()

    def _sampling_into(self, images: ImageArray, noises: Iterable[Latents]) -> Iterator[Batch[ImageArray]]:
        start = 0
        for drawn in noises:
            yield self._decoding(drawn, images[start : start + len(drawn)], prior=True)
            start += len(drawn)

    def _decoding(self, latents: Latents, images: ImageArray, *, prior: bool) -> Batch[ImageArray]:
        """Plan to decode latents, or noise that goes through the prior first, into images."""
        through_prior = prior and "prior" in self._graphs

        def work(piece: slice) -> None:
            chunk = latents[piece]
            if through_prior:
                (chunk,) = self._run("prior", chunk)
            self._store(self._run("decoder", chunk)[0], images[piece])

        return Batch(images, len(latents), work, chunk=self._chunk)

    def _encoding(self, images: npt.NDArray[Any], posterior: Posterior) -> Batch[Posterior]:
        """Plan to encode images or pictures."""

        def work(piece: slice) -> None:
            posterior.mean[piece], posterior.logvar[piece] = self._run("encoder", _as_floats(images[piece]))

        return Batch(posterior, len(images), work, chunk=self._chunk)

    def _reconstructing(self, given: npt.NDArray[Any], images: ImageArray) -> Batch[ImageArray]:
        """Plan to encode images or pictures, and to decode their means."""

        def work(piece: slice) -> None:
            mean, _ = self._run("encoder", _as_floats(given[piece]))
            self._store(self._run("decoder", mean)[0], images[piece])

        return Batch(images, len(images), work, chunk=self._chunk)

    def _new_latents(self, arrays: int, n: int) -> list[Latents]:
        return [np.empty((n, self._latent_size), np.float32) for _ in range(arrays)]

    def _store(self, made: Images, images: ImageArray) -> None:
        """Put what a decoder made into an array of images or of pictures."""
        if images.dtype is _FLOAT32:
            images[...] = made
        elif self._check_finite:
            fill_pictures(made, images)
        else:
            to_uint8(made, images)

    def _new_images(self, n: int, dtype: Dtype) -> ImageArray:
        channels, height, width = self._image_shape
        kind = _image_dtype(dtype)
        self._require_room(n, self._pixels * kind.itemsize, "images")
        if kind is _FLOAT32:
            return np.empty((n, channels, height, width), np.float32)
        return np.empty((n, height, width) if channels == 1 else (n, height, width, channels), np.uint8)

    def _require_room(self, n: int, bytes_each: int, what: str) -> None:
        """Raise where memory cannot hold so many, before any of them is made: noise alone can take minutes."""
        if n > self._surely_fit:
            require_memory(n * bytes_each, f"{n} {what}")

    def _require_room_for_decoding(self, n: int, dtype: Dtype) -> None:
        if n > self._surely_fit:
            bytes_each = self._latent_bytes + self._pixels * _image_dtype(dtype).itemsize
            self._require_room(n, bytes_each, "images and their latents")

    def _as_latents(self, given: npt.ArrayLike) -> Latents:
        array = np.asarray(given)
        self._require_latents(array)
        return self._finite_latents(array)

    def _require_latents(self, array: npt.NDArray[Any]) -> None:
        require_latents(array.dtype, array.shape, self._latent_size)

    def _require_images(self, array: npt.NDArray[Any]) -> None:
        require_images(array.dtype, array.shape, self._image_shape)

    def _finite_images(self, array: npt.NDArray[Any], begins_at: int = 0) -> npt.NDArray[Any]:
        shape = self._image_shape
        return as_images(array, shape, check_finite=self._check_finite, begins_at=begins_at)

    def _finite_latents(self, array: npt.NDArray[Any], begins_at: int = 0) -> Latents:
        latents = as_float32(array)
        if self._check_finite:
            require_finite(latents, "latents", begins_at=begins_at)
        return latents


def _open_again(bundle: Bundle, provider: str, threads: int | None, check_finite: bool) -> Model:
    return Model(bundle, provider, threads, check_finite=check_finite)


def _as_floats(images: npt.NDArray[Any]) -> Images:
    return to_float(images) if images.dtype == np.uint8 else images


def _require_temperature(temperature: float) -> None:
    if not 0.0 <= temperature <= _HOTTEST:
        raise InputError(
            f"temperature is {temperature!r}; expected a number of at least 0, at most {_HOTTEST:g}"
        )


def _count(n: Any) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
        raise InputError(f"n is {n!r}; expected a whole number of at least 0")
    return int(n)


def _image_dtype(dtype: Dtype) -> np.dtype[Any]:
    try:
        kind = np.dtype(dtype)
    except TypeError as error:
        raise InputError(f"dtype {dtype!r}; expected float32 or uint8") from error
    if kind == _FLOAT32:
        return _FLOAT32
    if kind == _UINT8:
        return _UINT8
    raise InputError(f"dtype {kind}; expected float32 or uint8")


def _refuse_strangers(graphs: dict[str, Graph]) -> None:
    """Raise unless all graphs come from one export: an encoder of another training means nothing here."""
    decoder = graphs["decoder"]
    for graph in graphs.values():
        differing = graph.card.differences(decoder.card)
        if "bundle_id" in differing:
            raise BundleError(
                f"{graph.source} and {decoder.source} come from different exports "
                f"({_short(graph.card)} and {_short(decoder.card)}); expected graphs of one bundle"
            )
        if differing:
            raise BundleError(f"{graph.source} and {decoder.source} disagree about {', '.join(differing)}")


def _short(card: Card) -> str:
    return printable(card.bundle_id[:12])
