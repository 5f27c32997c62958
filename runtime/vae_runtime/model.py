"""The model: one object that encodes, decodes, samples, reconstructs, interpolates, restores and scores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.attributes import as_direction, require_strength
from vae_runtime.bundle import MOST_MODEL_BYTES, Bundle, read_bundle
from vae_runtime.errors import BundleError, printable
from vae_runtime.generative import GenerativeModel
from vae_runtime.images import as_array, to_uint8
from vae_runtime.likelihoods import Numbers
from vae_runtime.memory import explain_exhaustion
from vae_runtime.requests import FLOAT32, Dtype, ImageArray, image_dtype
from vae_runtime.restoration import STEPS, Restorer, as_mask, require_noise_scale, without_missing
from vae_runtime.score import BYTES_OF_ONE, Score, Scorer, new_scores, percentiles


def load(
    name_or_path: str | os.PathLike[str],
    provider: str = "auto",
    threads: int | None = None,
    *,
    check_finite: bool = True,
    tf32: bool = False,
    expect_sha256: str | None = None,
    allow_links: bool = False,
    max_model_bytes: int = MOST_MODEL_BYTES,
) -> Model:
    """Open a model. Nothing of a bundle is opened but SHA256SUMS and the graphs, each once, and nothing outside.

    The way back from a learned prior, or its density, is read and compared with its sum like all graphs, but scanned
    and opened by onnxruntime only in the first call that needs it.

    Args:
        name_or_path: a shipped model (see `shipped_models`), or the folder of a bundle.
        provider: `auto` (CUDA where it really opens, else the CPU), `cpu`, `cuda`, `tensorrt`, `coreml`,
            `directml` or `openvino`. A provider that is named is used, or the call fails.
        threads: how many threads a large request may use on the CPU. None: every processor that this
            process may use by its affinity and its container's quota.
        check_finite: refuse NaN and infinity in what goes into the model and in what comes out of it. Without
            it neither is checked: an image or a latent with NaN gives NaN or nonsense, for itself alone, and
            pictures (uint8) are 0 there.
        tf32: let CUDA multiply numbers of which it keeps 10 bits of mantissa (TensorFloat-32), which is faster and
            changes pictures by a thousandth. Elsewhere it changes nothing.
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
    return Model(bundle, provider, threads, check_finite=check_finite, tf32=tf32)


class Model(GenerativeModel):
    """An opened bundle. Safe to call from several threads; can be pickled, and is opened again then.

    Images go in as (N, C, H, W) float32 in [0, 1], or as (N, H, W) or (N, H, W, C) uint8 pictures. They
    come out as (N, C, H, W) float32 in [0, 1], or as pictures with `dtype="uint8"`. Latents are (N, D)
    float32. N is any number, 0 included: large requests are worked off in chunks.

    It encodes, decodes and reconstructs (`Autoencoder`), samples, leads from latent to latent and knows how
    probable they are (`GenerativeModel`), and besides changes, restores and scores images.
    """

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
            InputError: as `encode`; a direction other than (D,) finite numbers, or a strength that is no finite number.
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
            steps: the most steps that are taken towards the most probable latent of an image.
            seed: draw from what is probable instead; another seed fills in something else. The draw is approximate:
                from a normal distribution about the most probable latent (Laplace).
            dtype: `float32` for images, `uint8` for pictures.

        Returns:
            As `decode`. Pixels that are not missing are those that were given, to the bit.

        Raises:
            InputError: as `encode`; a mask of another type or shape; steps below 1, or a seed below 0.
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
            InputError: as `encode`; a noise scale that is not above 0 and at most 10, or steps below 1.
            NonFiniteError, ResourceLimitError: as `decode`.
        """
        asked, scale = image_dtype(dtype), require_noise_scale(noise_scale)
        checked = self._engine.checked_images(as_array(images, "images"))
        restored = Restorer(self._engine, steps).denoise(checked, scale)
        return restored if asked is FLOAT32 else to_uint8(restored)

    @explain_exhaustion
    def score(self, images: npt.ArrayLike, *, samples: int = 1, seed: int | None = 0) -> Score:
        """Return how strange images are to the model: their negative ELBO, in nats.

        The prior is the standard normal that the model was trained with, also where another was learned afterwards.

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

        def work(piece: slice) -> None:
            scorer.score_into(scores, given, piece)

        engine.in_chunks(len(given), work, at_most=engine.encoder_chunk)
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
            batch: as `decode_stream`.

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
                "vae-export wrote from a run that held images out, and whose images it found"
            )
        return percentiles(totals, self.card.scores)

    def close(self) -> None:
        """Release the sessions. Later calls raise `ClosedError`; calls under way in other threads end."""
        self._engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[Bundle, str, int | None, bool, bool]]:
        # The graphs' bytes travel along, so that a worker needs no path to the bundle.
        engine = self._engine
        return _open_again, (self._bundle, self._provider, self._threads, engine.check_finite, engine.tf32)

    def __repr__(self) -> str:
        channels, height, width = self.card.image_shape
        return (
            f"<vae_runtime.Model {self.card.name!r}: {channels}x{height}x{width} images, "
            f"{self.card.latent_size} latents, {printable(self.card.precision)}, on {', '.join(self.providers)}>"
        )


def _open_again(bundle: Bundle, provider: str, threads: int | None, check_finite: bool, tf32: bool) -> Model:
    return Model(bundle, provider, threads, check_finite=check_finite, tf32=tf32)
