"""How probable a model takes images to be: the ELBO and the importance-weighted bound, in nats.

    log p(x) >= E log 1/K sum_k p(x given z_k) p(z_k) / q(z_k given x)    (Burda et al., Importance Weighted
                                                                           Autoencoders, 2016)

With K = 1 it is the ELBO of Kingma and Welling (2014); with more it is tighter, and reaches log p(x) in the end.
The prior p(z) is the standard normal, which models are trained with; where another was fitted afterwards and
its density is known, both bounds are also told with that one, which is what samples come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vae_runtime.errors import NonFiniteError
from vae_runtime.images import Images
from vae_runtime.latent import Latents
from vae_training.evaluation.subjects import Subject
from vae_training.kl_shaping import kl_per_latent
from vae_training.likelihood import Likelihood, bernoulli_nll, discretized_logistic_nll, gaussian_nll

_NEAREST = 2.0**-24  # to 0 and 1, of a mean in float32
_PIXELS_AT_ONCE = 1 << 20
_FARTHEST_NOISE = 10.0  # standard deviations, which no draw reaches
_FARTHEST_LATENT = 1e15  # its square, summed over latents, is a number still
_FINE = 2.0 / 255.0  # standard deviation below which a density says little about the values of stored pixels

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bounds:
    """Lower bounds of log p(x), means over images, in nats per image; higher is better."""

    images: int
    importance_samples: int
    elbo: float
    elbo_error: float
    """Standard error of the mean, over images."""
    importance_weighted: float
    importance_weighted_error: float
    elbo_with_learned_prior: float | None
    """The ELBO with the prior that samples come from; None where its density is not known."""
    with_learned_prior: float | None
    """The importance-weighted bound with that prior."""
    kl: float
    """KL(q(z given x) || p(z)), the second part of the ELBO."""
    effective_samples: float
    """How many of the K the weights leave, (sum w)^2 / sum w^2; median over images. Few: the bound is loose."""
    bits_per_dimension: float | None
    """Of 8-bit pixels, by the importance-weighted bound; lower is better. None where the likelihood is no density."""
    unit: str
    """What the nats are of, and how bits per dimension come from them."""


def measure_bounds(
    subject: Subject,
    images: Images,
    samples: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Bounds:
    """Return the bounds of (N, C, H, W) float32 images in [0, 1], with `samples` draws of the posterior each.

    Raises:
        NonFiniteError: posteriors so wide that what is drawn from them is no number.
    """
    mean, logvar = subject.encode(images)
    _require_drawable(subject.name, mean, logvar)
    kl = kl_per_latent(torch.from_numpy(mean).double(), torch.from_numpy(logvar).double()).sum(1).numpy()
    elbo, weighted, own_elbo, learned, effective = (np.empty(len(images)) for _ in range(5))
    for index in range(len(images)):
        draws = np.random.default_rng([seed, index])
        likelihoods, ratios, gains = _draw(subject, images[index], mean[index], logvar[index], samples, draws)
        elbo[index] = likelihoods.mean() - kl[index]
        own_elbo[index] = elbo[index] + gains.mean()
        weighted[index] = _log_mean_exp(likelihoods + ratios)
        learned[index] = _log_mean_exp(likelihoods + ratios + gains)
        effective[index] = _effective(likelihoods + ratios)
        progress(index + 1, len(images))
    bits, unit = bits_per_dimension(subject.likelihood, images, float(weighted.mean()))
    return Bounds(
        images=len(images),
        importance_samples=samples,
        elbo=float(elbo.mean()),
        elbo_error=_standard_error(elbo),
        importance_weighted=float(weighted.mean()),
        importance_weighted_error=_standard_error(weighted),
        elbo_with_learned_prior=_mean_if_known(own_elbo),
        with_learned_prior=_mean_if_known(learned),
        kl=float(kl.mean()),
        effective_samples=float(np.median(effective)),
        bits_per_dimension=bits,
        unit=unit,
    )


def _require_drawable(name: str, mean: Latents, logvar: Latents) -> None:
    farthest = (
        float(np.abs(mean).max()) + float(np.exp(0.5 * logvar.max(), dtype=np.float64)) * _FARTHEST_NOISE
    )
    if not farthest < _FARTHEST_LATENT:
        raise NonFiniteError(
            f"{name}: its encoder gives posteriors that reach out to {farthest:.3g}; expected a few units about 0. "
            "Its weights are broken, or the images are far from what it was trained on"
        )


def _draw(
    subject: Subject, image: Images, mean: Latents, logvar: Latents, samples: int, draws: np.random.Generator
) -> tuple[Numbers, Numbers, Numbers]:
    """Return log p(x given z), log p(z) - log q(z given x) and the prior's gain of draws of q, each (samples,).

    A gain that is not known is NaN.
    """
    likelihoods, ratios, gains = (np.empty(samples) for _ in range(3))
    scale = np.exp(0.5 * logvar)
    pixels = torch.from_numpy(image)[None]
    at_once = max(16, _PIXELS_AT_ONCE // image.size)
    for start in range(0, samples, at_once):
        piece = slice(start, min(start + at_once, samples))
        noise = draws.standard_normal((piece.stop - start, len(mean)), dtype=np.float32)
        latents = mean + noise * scale
        likelihoods[piece] = -nll(subject.likelihood, torch.from_numpy(subject.decode(latents)), pixels)
        gain = subject.prior_gain(latents)
        gains[piece] = np.nan if gain is None else gain
        # Constants of the two normal distributions cancel.
        squares = np.square(noise, dtype=np.float64) - np.square(latents, dtype=np.float64)
        ratios[piece] = 0.5 * squares.sum(1) + 0.5 * logvar.sum(dtype=np.float64)
    return likelihoods, ratios, gains


@torch.inference_mode()
def nll(likelihood: Likelihood, mean: Tensor, image: Tensor) -> Numbers:
    """Return -log p(image given z) in nats where the decoder gives `mean`: (K, C, H, W) and (1, C, H, W) to (K,)."""
    if likelihood.name == "bernoulli":
        # A bundle tells the mean alone; one that has become 0 or 1 in float32 is taken for its neighbour.
        return _doubles(bernoulli_nll(torch.logit(mean, _NEAREST), image.expand_as(mean)))
    if likelihood.name == "gaussian":
        return _doubles(gaussian_nll((mean - image).square().flatten(1), likelihood.log_scale))
    return _doubles(discretized_logistic_nll(mean, image, likelihood.log_scale))


def bits_per_dimension(likelihood: Likelihood, images: Images, nats: float) -> tuple[float | None, str]:
    """Return bits for each 8-bit pixel value where the nats per image are those of a proper likelihood, and why."""
    dimensions = math.prod(images.shape[1:])
    bits = -nats / dimensions / math.log(2.0)
    if likelihood.name == "discretized-logistic":
        return bits, "log-probability of 8-bit pixels; bits per dimension are exact"
    if likelihood.name == "gaussian":
        scale = likelihood.noise_scale or 0.0
        rough = "" if scale >= _FINE else f"; rough here, where pixels spread by {scale:.4f} only"
        return bits + math.log2(255.0), (
            "log-density of pixels in [0, 1]; bits per dimension take a step of 1/255 times the density for the "
            f"probability of an 8-bit value{rough}"
        )
    if np.isin(images, (0.0, 1.0)).all():
        return bits, "log-probability of pixels that are black or white; bits per dimension are exact"
    return None, (
        "bernoulli likelihood on pixels between 0 and 1, which is no density of them: nats compare models of this "
        "likelihood, on these images, and nothing else; there are no bits per dimension"
    )


def _doubles(tensor: Tensor) -> Numbers:
    return tensor.double().numpy()


def _mean_if_known(values: Numbers) -> float | None:
    return float(values.mean()) if np.isfinite(values).all() else None


def _log_mean_exp(values: Numbers) -> float:
    top = float(values.max())
    return top + math.log(float(np.exp(values - top).mean()))


def _effective(log_weights: Numbers) -> float:
    weights = np.exp(log_weights - log_weights.max())
    return float(weights.sum() ** 2 / np.square(weights).sum())


def _standard_error(values: Numbers) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
