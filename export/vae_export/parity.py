"""The proof: PyTorch against the written files, opened as an application opens them.

Pixels in to pixels out, at several batch sizes, on real images and on latents from the prior and from
its tails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vae_export.errors import ParityError
from vae_runtime.images import to_float
from vae_runtime.latent import noise
from vae_runtime.model import Model
from vae_training.model import VAE

BATCH_SIZES = (1, 2, 7, 64)

# Where the prior puts about one latent in a thousand million, and beyond.
_TAIL = 6.0
_SEED = 20_140_416

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tolerances:
    """Largest absolute difference that is let through."""

    image: float = 1e-5
    """Of a pixel in [0, 1]."""
    latent: float = 1e-4
    """Of a mean or log-variance."""


@dataclass(frozen=True)
class Difference:
    """How far two implementations are apart in one output, over all batch sizes."""

    output: str
    inputs: str
    maximum: float
    mean: float
    limit: float
    worst_batch: int

    @property
    def passed(self) -> bool:
        """Whether the largest difference is within the limit; NaN never is."""
        return self.maximum <= self.limit


def compare(
    reference: VAE, model: Model, pictures: npt.NDArray[np.uint8], tolerances: Tolerances
) -> list[Difference]:
    """Compare PyTorch with an opened bundle.

    Args:
        reference: in evaluation mode, float32, on the CPU.
        model: the bundle, opened through the runtime.
        pictures: (N, H, W) or (N, H, W, C) uint8, real images; batches are cut from it, N at least 1.
        tolerances: the limits.

    Returns:
        One row per output and kind of input.
    """
    images = [to_float(_rows(pictures, size)) for size in BATCH_SIZES]
    size = reference.config.latent_size
    prior = [noise(n, size, _SEED + n) for n in BATCH_SIZES]
    tails = [(_TAIL * np.sign(z) + z).astype(np.float32) for z in prior]

    def encode(x: Array) -> tuple[Array, ...]:
        return tuple(output.numpy() for output in reference.encoder(torch.from_numpy(x)))

    def decode(z: Array) -> Array:
        decoded: Array = reference.decoder(torch.from_numpy(z)).numpy()
        return decoded

    rows = (
        ("mean", "images", images, lambda x: encode(x)[0], lambda x: model.encode(x).mean, tolerances.latent),
        (
            "logvar",
            "images",
            images,
            lambda x: encode(x)[1],
            lambda x: model.encode(x).logvar,
            tolerances.latent,
        ),
        ("image", "latents of the prior", prior, decode, model.decode, tolerances.image),
        ("image", "latents of its tails", tails, decode, model.decode, tolerances.image),
        (
            "image",
            "images, through both",
            images,
            lambda x: decode(encode(x)[0]),
            model.reconstruct,
            tolerances.image,
        ),
    )
    return [_difference(*row) for row in rows]


def require_parity(differences: Iterable[Difference]) -> None:
    """Raise `ParityError` with the worst case unless every difference is within its limit."""
    failed = [row for row in differences if not row.passed]
    if failed:
        worst = max(failed, key=lambda row: row.maximum / row.limit if row.maximum == row.maximum else np.inf)
        raise ParityError(
            f"PyTorch and the ONNX graphs disagree: {worst.output} on {worst.inputs} differs by "
            f"{worst.maximum:.3g} at batch size {worst.worst_batch}; expected at most {worst.limit:g}. "
            "Nothing was written"
        )


def _difference(
    output: str,
    inputs: str,
    batches: list[Array],
    expected: Callable[[Array], Any],
    found: Callable[[Array], Any],
    limit: float,
) -> Difference:
    with torch.no_grad():
        gaps = [np.abs(expected(batch).astype(np.float64) - found(batch)) for batch in batches]
    largest = [float(gap.max()) for gap in gaps]
    worst = int(np.argmax(largest))  # NaN counts as the largest
    mean = float(np.mean([gap.mean() for gap in gaps]))
    return Difference(output, inputs, largest[worst], mean, limit, len(batches[worst]))


def _rows(pictures: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
    """Return `count` pictures spread over the set, repeated where it holds fewer."""
    picked: npt.NDArray[np.uint8] = pictures[np.linspace(0, len(pictures) - 1, count).astype(int)]
    return picked
