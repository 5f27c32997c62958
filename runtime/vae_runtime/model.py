"""The model: one object that encodes, decodes, samples, reconstructs, interpolates and scores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.attributes import as_direction, require_strength
from vae_runtime.batches import Batches
from vae_runtime.bundle import MOST_MODEL_BYTES, Bundle, read_bundle
from vae_runtime.card import Card
from vae_runtime.engine import Engine
from vae_runtime.errors import BundleError
from vae_runtime.images import as_array, is_whole_number, to_uint8
from vae_runtime.latent import Latents, Posterior, noise
from vae_runtime.likelihoods import Numbers
from vae_runtime.memory import explain_exhaustion
from vae_runtime.observation import ObservationNoise
from vae_runtime.prior import log_density, path_through, to_noise
from vae_runtime.requests import FLOAT32, Dtype, ImageArray, as_count, image_dtype, require_temperature
from vae_runtime.restoration import STEPS, Restorer, as_mask, require_noise_scale, without_missing
from vae_runtime.score import BYTES_OF_ONE, Score, Scorer, new_scores, percentiles


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

    The way back from a learned prior, or its density, is read and compared with its sum like all graphs; scanned, and
    opened by onnxruntime, it is by the first call that needs it.

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
        self._engine = Engine(bundle, provider, threads, check_finite=check_finite)
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
        if 0 < len(given) <= engine.chunk:
            return Posterior(*(output.copy() for output in engine.encode(given)))
        mean, logvar = engine.new_latents(2, len(given))

        def work(piece: slice) -> None:
            mean[piece], logvar[piece] = engine.encode(given[piece])

        engine.in_chunks(len(given), work)
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
        array = as_array(latents, "latents")
        engine.require_latents(array)
        checked = engine.checked_latents(array)
        images = engine.new_images(len(checked), dtype)
        # The shortest way: for one image all else would be a third of the time.
        if 0 < len(checked) <= engine.chunk:
            engine.decode_into(checked, images)
            return images

        def work(piece: slice) -> None:
            engine.decode_into(checked[piece], images[piece])

        engine.in_chunks(len(checked), work)
        return images

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
        if count <= engine.chunk and not observation_noise:
            return self.decode(self.sample_latents(count, seed, temperature), dtype=dtype)
        engine.require_open()
        images = engine.new_images(count, dtype)
        noises = self._batches.of_noise(count, seed, temperature, size=self._batches.usual_size)
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

        While one batch is in your hands the next is being made, with all threads but yours; no more than that. The
        latents are those of `sample` with the same seed, and with a `batch` that is a multiple of 64 the images are
        so too, bit for bit. A stream is for one thread; any number of streams may be open. Closed, or forgotten, it
        leaves nothing behind.

        Args:
            n: how many images in all; None: without end.
            seed: as `sample`.
            temperature: as `sample`.
            batch: how many images at a time, the last ones may be fewer. None: 1024 on the CPU, 4096 elsewhere, or
                fewer where they are larger than 24x24.
            observation_noise: as `sample`.
            dtype: `float32` for images, `uint8` for pictures.

        Yields:
            (batch, C, H, W) float32 in [0, 1]; or (batch, H, W) where C is 1, else (batch, H, W, C), uint8.

        Raises:
            InputError: as `sample`, at once.
            NonFiniteError: the model produced NaN or infinity; what came before has been given.
            ClosedError: the model is closed, now or when the next batch is asked for.
            ResourceLimitError: not enough memory for a few batches.
        """
        batches, engine = self._batches, self._engine
        size = batches.size(batch, dtype)
        noises = batches.of_noise(None if n is None else as_count(n), seed, temperature, size=size)
        pixel_noise = ObservationNoise(self.card, seed, engine.source) if observation_noise else None
        planned = batches.sampling(
            noises, lambda start, stop: engine.new_images(stop - start, dtype), pixel_noise
        )
        return batches.stream(planned)

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
            batch: as `sample_stream`.

        Yields:
            mean and logvar, each (batch, D) float32.

        Raises:
            InputError: a wrong type, shape or range, or NaN: type and shape of one array at once, and else when its
                turn comes.
            NonFiniteError, ClosedError, ResourceLimitError: as `sample_stream`.
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

    @explain_exhaustion
    def sample_latents(self, n: int, seed: int | None = None, temperature: float = 1.0) -> Latents:
        """Return the latents, (n, D) float32, that `sample` decodes."""
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
    def reconstruct(self, images: npt.ArrayLike, *, dtype: Dtype = "float32") -> ImageArray:
        """Return images as the model sees them: decoded from the posterior mean. Arguments as `encode`."""
        return self.decode(self.encode(images).mean, dtype=dtype)

    @explain_exhaustion
    def edit(
        self,
        images: npt.ArrayLike,
        direction: npt.ArrayLike,
        strength: float = 1.0,
        *,
        dtype: Dtype = "float32",
    ) -> ImageArray:
        """Return images with more or less of something: decoded from the posterior mean + strength * direction.

        Args:
            images: as `encode`.
            direction: (D,) floating point, as `attribute_direction` finds it.
            strength: 1 goes as far as from the mean of the images without it to the mean of those with it, 0 nowhere
                (what comes is the reconstruction), a negative number the other way.
            dtype: `float32` for images, `uint8` for pictures.

        Returns:
            As `decode`.

        Raises:
            InputError: as `encode`, or a direction that is none of this model's latent space.
            NonFiniteError, ResourceLimitError: as `decode`.
        """
        along = as_direction(direction, self._engine.latent_size)
        require_strength(strength)
        mean = self.encode(images).mean
        with np.errstate(over="ignore", invalid="ignore"):  # infinity is refused by `decode`
            mean += np.float32(strength) * along
        return self.decode(mean, dtype=dtype)

    @explain_exhaustion
    def inpaint(
        self,
        images: npt.ArrayLike,
        mask: npt.ArrayLike,
        *,
        steps: int = STEPS,
        seed: int | None = None,
        dtype: Dtype = "float32",
    ) -> ImageArray:
        """Return images whose missing pixels are filled in with what the model thinks most probable beside the others.

        Args:
            images: as `encode`. What stands where a pixel is missing does not matter, NaN included.
            mask: (H, W) for all images, or (N, H, W), bool: True where a pixel is missing.
            steps: the most that are gone for an image on the way to the most probable latent.
            seed: draw from what is probable instead; another seed fills in something else. Nearly so: from a normal
                distribution about the most probable latent (Laplace).
            dtype: `float32` for images, `uint8` for pictures.

        Returns:
            As `decode`. Pixels that are not missing are those that were given, to the bit.

        Raises:
            InputError: as `encode`, or a mask, steps or seed that are none.
            NonFiniteError, ResourceLimitError: as `decode`.
        """
        asked = image_dtype(dtype)
        restorer, given = Restorer(self._engine, steps), as_array(images, "images")
        self._engine.require_images(given)
        missing = as_mask(mask, len(given), self._engine.image_shape)
        checked = self._engine.checked_images(without_missing(given, missing))
        restored = restorer.inpaint(checked, missing, seed)
        return restored if asked is FLOAT32 else to_uint8(restored)

    @explain_exhaustion
    def denoise(
        self, images: npt.ArrayLike, noise_scale: float, *, steps: int = STEPS, dtype: Dtype = "float32"
    ) -> ImageArray:
        """Return images without the noise that lies on them.

        `reconstruct` shows what the model makes of an image. This is told how strong the noise is, looks for the latent
        that is most probable under it, and keeps as much of the image's own pixels as can be believed.

        Args:
            images: as `encode`.
            noise_scale: the standard deviation of the noise in a pixel, pixels being 0 to 1; above 0.
            steps: as `inpaint`.
            dtype: `float32` for images, `uint8` for pictures.

        Returns:
            As `decode`.

        Raises:
            InputError: as `encode`, or a noise scale or steps that are none.
            NonFiniteError, ResourceLimitError: as `decode`.
        """
        asked, scale = image_dtype(dtype), require_noise_scale(noise_scale)
        checked = self._engine.checked_images(as_array(images, "images"))
        restored = Restorer(self._engine, steps).denoise(checked, scale)
        return restored if asked is FLOAT32 else to_uint8(restored)

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

    def _checked_latents(self, latents: npt.ArrayLike) -> Latents:
        array = as_array(latents, "latents")
        self._engine.require_latents(array)
        checked = self._engine.checked_latents(array)
        self._engine.require_room(len(checked), self._engine.latent_bytes, "latents")
        self._engine.require_open()
        return checked

    @explain_exhaustion
    def score(self, images: npt.ArrayLike, *, samples: int = 1, seed: int | None = 0) -> Score:
        """Return how strange images are to the model: their negative ELBO, in nats.

        The prior is the standard normal that the model was trained beside, also where another was learned afterwards.

        Args:
            images: as `encode`.
            samples: at how many points of its posterior an image is decoded. More make the score steadier and take as
                many times as long; the card's percentiles are those of as many as `card.scores` says.
            seed: of the points, which are the same for all images, whatever stands beside them; None draws
                differently every time.

        Returns:
            total, reconstruction and kl, each (N,) float64. Higher is stranger. Images that are simpler than those
            of the training, such as plain gray, can score low: they are easy to draw.

        Raises:
            InputError: a wrong type, shape or range, or NaN; samples or a seed that are no such numbers.
            BundleError: a likelihood that is not known here.
            NonFiniteError: the model produced NaN or infinity, or posteriors as wide as that.
            ResourceLimitError: not enough memory.
        """
        engine = self._engine
        given = engine.checked_images(as_array(images, "images"))
        scorer = Scorer(engine, samples, seed)
        engine.require_room(len(given), BYTES_OF_ONE, "scores")
        scores = new_scores(len(given))
        engine.in_chunks(len(given), lambda piece: scorer.score_into(scores, given, piece))
        return scores

    def score_stream(
        self,
        images: npt.NDArray[Any] | Iterable[npt.ArrayLike],
        *,
        samples: int = 1,
        seed: int | None = 0,
        batch: int | None = None,
    ) -> Iterator[Score]:
        """Give the scores of images batch by batch, any number of them in bounded memory.

        Args:
            images: as `encode_stream`.
            samples: as `score`.
            seed: as `score`; None draws once, for all batches.
            batch: as `sample_stream`.

        Yields:
            total, reconstruction and kl, each (batch,) float64.

        Raises:
            InputError, NonFiniteError, ClosedError, ResourceLimitError: as `encode_stream`.
            BundleError: as `score`, at once.
        """
        batches = self._batches
        scorer = Scorer(self._engine, samples, seed)
        pieces = batches.of_images(images, batches.size(batch, "float32"))
        return batches.stream(batches.scoring(piece, scorer) for piece in pieces)

    def percentiles(self, totals: npt.ArrayLike) -> Numbers:
        """Return how many percent of images that the model was not trained on score lower.

        Args:
            totals: of `score`, of any shape.

        Returns:
            0 to 100, float64, of the totals' shape.

        Raises:
            BundleError: the card tells of no such images.
            InputError: no numbers.
        """
        if self.card.scores is None:
            raise BundleError(
                f"{self._engine.source}: its card does not say what held-out images score; expected a bundle that "
                "vae-export wrote from a run whose images it found"
            )
        return percentiles(totals, self.card.scores)

    def close(self) -> None:
        """Release the sessions. Later calls raise `ClosedError`; calls under way in other threads end."""
        self._engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[Bundle, str, int | None, bool]]:
        # The graphs' bytes travel along, so that a worker needs no path to the bundle.
        return _open_again, (self._bundle, self._provider, self._threads, self._engine.check_finite)

    def __repr__(self) -> str:
        channels, height, width = self.card.image_shape
        return (
            f"<vae_runtime.Model {self.card.name!r}: {channels}x{height}x{width} images, "
            f"{self.card.latent_size} latents, {self.card.precision}, on {', '.join(self.providers)}>"
        )


def _open_again(bundle: Bundle, provider: str, threads: int | None, check_finite: bool) -> Model:
    return Model(bundle, provider, threads, check_finite=check_finite)
