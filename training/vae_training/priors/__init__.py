"""What a learned prior can be, and how it is built from its weights; `fitting` finds these."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vae_training.priors.flow import Flow
from vae_training.priors.mixture import GaussianMixture

Prior = Flow | GaussianMixture
"""A module that sends noise (N, D) to latents (N, D), with `log_prob` of latents; see the classes."""

_THRESHOLDS, _MEANS, _FACTORS = "strata.thresholds", "means", "factors"


def expected_shapes(latent_size: int, names: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a prior's weights: a mixture's where these names are those of one, else a flow's."""
    if _THRESHOLDS not in names:
        return {name: tuple(tensor.shape) for name, tensor in Flow(latent_size).state_dict().items()}
    count = names[_THRESHOLDS].numel() + 1
    return {
        _THRESHOLDS: (count - 1,),
        _MEANS: (count, latent_size),
        _FACTORS: (latent_size, count * latent_size),
    }


def build_prior(latent_size: int, weights: Mapping[str, Tensor]) -> Prior:
    """Build a prior from finite weights of the expected shapes.

    Raises:
        ValueError: thresholds that do not ascend, or factors that are not those of covariances.
    """
    if _THRESHOLDS not in weights:
        flow = Flow(latent_size)
        flow.load_state_dict(dict(weights))
        return flow
    thresholds, means, factors = (weights[name].float() for name in (_THRESHOLDS, _MEANS, _FACTORS))
    scales = factors.reshape(latent_size, len(means), latent_size).diagonal(dim1=0, dim2=2)
    if len(means) < 2 or not bool((thresholds.diff() > 0).all()):
        raise ValueError(f"its {len(thresholds)} thresholds do not ascend")
    if not bool((scales > 0).all()):
        raise ValueError("a factor of its covariances has a diagonal that is not positive")
    return GaussianMixture(thresholds, means, factors)
