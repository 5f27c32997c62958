"""The proof: PyTorch against the written files, opened as an application opens them.

Pixels in to pixels out, at several batch sizes, on real images and on latents from the prior and from
its tails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from vae_export.coders import Coders
from vae_export.errors import ParityError, SettingError
from vae_export.quality import mean_psnr
from vae_runtime.images import to_float
from vae_runtime.latent import noise
from vae_runtime.model import Model

BATCH_SIZES = (1, 2, 7, 64)

# Standard deviations: the standard normal puts one number in 500 million so far out.
_TAIL = 6.0
_SEED = 20_140_416

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tolerances:
    """How far the graphs may be from PyTorch."""

    image: float = 1e-5
    """Largest absolute difference of a pixel in [0, 1]."""
    latent: float = 1e-4
    """Largest absolute difference of a mean or log-variance."""
    prior: float = 1e-4
    """Largest absolute difference of a latent that a learned prior makes of noise."""
    psnr: float | None = None
    """Least PSNR of pictures in dB, the mean of each batch, in place of `image`."""
    tail_psnr: float | None = None
    """The same for latents of the prior's tails, where 8 bits made for the prior are cut off."""


# By precision. In int8 single pixels at sharp edges are off by much where the picture as a whole is right: pictures
# are held to their PSNR.
TOLERANCES = {
    "fp32": Tolerances(),
    "fp16": Tolerances(image=1e-2, latent=2e-2),
    "int8": Tolerances(image=1.0, latent=0.25, psnr=38.0, tail_psnr=10.0),
}


def choose_tolerances(
    precision: str, image: float | None, latent: float | None, psnr: float | None
) -> Tolerances:
    """Return the tolerances of a precision with those in their place that are given.

    Raises:
        SettingError: one that does not count in this precision.
    """
    chosen = TOLERANCES[precision]
    by_psnr = chosen.psnr is not None
    if image is not None and by_psnr:
        raise SettingError(f"--image-tolerance does not count in {precision}; give --least-psnr")
    if psnr is not None and not by_psnr:
        raise SettingError(f"--least-psnr counts in int8 alone, not in {precision}; give --image-tolerance")
    given = {"image": image, "latent": latent, "psnr": psnr}
    return replace(chosen, **{name: limit for name, limit in given.items() if limit is not None})


@dataclass(frozen=True)
class Difference:
    """How far two implementations are apart in one output, over all batch sizes."""

    output: str
    inputs: str
    maximum: float
    mean: float
    limit: float
    """Of `maximum`; or of `psnr`, where `by_psnr`."""
    worst_batch: int
    psnr: float | None = None
    """In dB, of the batch size where it is the least; None where the output is no picture."""
    by_psnr: bool = False

    @property
    def passed(self) -> bool:
        """Whether the figure that counts is within the limit; NaN never is."""
        if self.by_psnr:
            return self.psnr is not None and self.psnr >= self.limit
        return self.maximum <= self.limit

    @property
    def excess(self) -> float:
        """How far beyond the limit it is, to compare failures; infinite for NaN."""
        below = self.limit - (self.psnr or 0.0)
        ratio = 10 ** (below / 20) if self.by_psnr else self.maximum / self.limit
        return ratio if ratio == ratio else np.inf

    def __str__(self) -> str:
        """Return what is wrong, in words."""
        figure, bound = f"differs by {self.maximum:.3g}", f"at most {self.limit:g}"
        if self.by_psnr:
            figure, bound = f"has a PSNR of {self.psnr:.1f} dB", f"at least {self.limit:g}"
        return f"{self.output} on {self.inputs} {figure} at batch size {self.worst_batch}; expected {bound}"


def compare(
    reference: Coders,
    model: Model,
    pictures: npt.NDArray[np.uint8],
    tolerances: Tolerances,
    learned_prior: nn.Module | None = None,
) -> list[Difference]:
    """Compare PyTorch with an opened bundle.

    Args:
        reference: in evaluation mode, float32, on the CPU.
        model: the bundle, opened through the runtime.
        pictures: (N, H, W) or (N, H, W, C) uint8, real images; batches are cut from it, N at least 1.
        tolerances: the limits.
        learned_prior: noise to latents, where there is one; its graph is compared, too, and its latents decoded.

    Returns:
        One row per output and kind of input.
    """
    images = image_batches(pictures)
    size = reference.config.latent_size
    normal = noise_batches(size)
    tails = [(_TAIL * np.sign(z) + z).astype(np.float32) for z in normal]

    def to_latents(drawn: Array) -> Array:
        """Send noise through PyTorch's prior."""
        if learned_prior is None:
            return drawn
        latents: Array = learned_prior(torch.from_numpy(drawn)).detach().numpy()
        return latents

    drawn = [to_latents(batch) for batch in normal]

    def encode(x: Array) -> tuple[Array, ...]:
        return tuple(output.numpy() for output in reference.encoder(torch.from_numpy(x)))

    def decode(z: Array) -> Array:
        decoded: Array = reference.decoder(torch.from_numpy(z)).numpy()
        return decoded

    def latent(index: int) -> Difference:
        name = ("mean", "logvar")[index]
        return difference(
            name,
            "images",
            images,
            lambda x: encode(x)[index],
            lambda x: model.encode(x)[index],
            tolerances.latent,
        )

    def image(
        inputs: str,
        batches: list[Array],
        expected: Callable[[Array], Array],
        found: Callable[[Array], Array],
        psnr: float | None,
    ) -> Difference:
        return difference("image", inputs, batches, expected, found, tolerances.image, psnr)

    def sample_latents(drawn: Array) -> Array:
        """Let the runtime draw the same noise, and send it through the prior as applications do."""
        return model.sample_latents(len(drawn), seed=_SEED + len(drawn))

    def latents() -> Difference:
        return difference("latent", "noise", normal, to_latents, sample_latents, tolerances.prior)

    return [
        latent(0),
        latent(1),
        *([latents()] if learned_prior else []),
        image("latents of the prior", drawn, decode, model.decode, tolerances.psnr),
        image("latents of its tails", tails, decode, model.decode, tolerances.tail_psnr),
        image(
            "images, through both", images, lambda x: decode(encode(x)[0]), model.reconstruct, tolerances.psnr
        ),
    ]


def require_parity(differences: Iterable[Difference]) -> None:
    """Raise `ParityError` with the worst case unless every difference is within its limit."""
    failed = [row for row in differences if not row.passed]
    if failed:
        worst = max(failed, key=lambda row: row.excess)
        raise ParityError(f"PyTorch and the ONNX graphs disagree: {worst}. Nothing was written")


def difference(
    output: str,
    inputs: str,
    batches: list[Array],
    expected: Callable[[Array], npt.NDArray[np.floating[Any]]],
    found: Callable[[Array], npt.NDArray[np.floating[Any]]],
    limit: float,
    least_psnr: float | None = None,
) -> Difference:
    """Return how far what is found is from what is expected, both made of batches.

    Args:
        output: what it is; `image` is told by its PSNR as well.
        inputs: what the batches are.
        batches: one of each size.
        expected: makes the right output of a batch.
        found: makes the output that is to be looked at.
        limit: the largest absolute difference.
        least_psnr: in its place, the least PSNR in dB.
    """
    with torch.no_grad():
        pairs = [(expected(batch), found(batch)) for batch in batches]
    gaps = [np.abs(ours.astype(np.float64) - theirs) for ours, theirs in pairs]
    largest = [float(gap.max()) for gap in gaps]
    mean = float(np.mean([gap.mean() for gap in gaps]))
    worst = int(np.argmax(largest))  # NaN counts as the largest
    if output != "image":
        return Difference(output, inputs, largest[worst], mean, limit, len(batches[worst]))
    psnrs = [mean_psnr(*pair) for pair in pairs]
    lowest = int(np.argmin(psnrs))  # NaN counts as the lowest
    if least_psnr is None:
        return Difference(output, inputs, largest[worst], mean, limit, len(batches[worst]), psnrs[lowest])
    return Difference(
        output, inputs, largest[worst], mean, least_psnr, len(batches[lowest]), psnrs[lowest], by_psnr=True
    )


def noise_batches(latent_size: int) -> list[Array]:
    """Return standard normal noise, (n, D) for each batch size."""
    return [noise(n, latent_size, _SEED + n) for n in BATCH_SIZES]


def image_batches(pictures: npt.NDArray[np.uint8]) -> list[Array]:
    """Return images (n, C, H, W) for each batch size, spread over the set, repeated where it holds fewer."""
    picked = [np.linspace(0, len(pictures) - 1, n).astype(int) for n in BATCH_SIZES]
    return [to_float(pictures[rows]) for rows in picked]
