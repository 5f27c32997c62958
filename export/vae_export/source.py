"""What is exported: a trained model, and what is known of its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vae_export.coders import Coders
from vae_runtime.card import Likelihood, ScoreCalibration
from vae_training.config import Config
from vae_training.priors import Prior


@dataclass(frozen=True)
class Source:
    """A trained model, and what is known of its training."""

    model: Coders
    """In evaluation mode, on the CPU, in float32."""
    name: str
    config: Config | None = None
    """None for weights alone: nothing says how they were trained."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """The row of the run's metrics that was measured on these weights, if one was."""
    prior: Prior | None = None
    """Noise (N, D) to latents (N, D), as the model; None for the standard normal."""
    likelihood: Likelihood = field(default_factory=lambda: Likelihood("bernoulli"))
    """What the card says of it."""
    data_fingerprint: str = ""
    """Of the images that it was trained on; empty where nobody knows."""
    bundle: str = ""
    """The name and the SHA-256 of the bundle that it was read from, if it was."""
    license: str = ""
    """As that bundle says."""
    scores: ScoreCalibration | None = None
    """As that bundle says: of graphs that compute the same."""
    data: str = ""
    """What it was trained on, as that bundle says."""
