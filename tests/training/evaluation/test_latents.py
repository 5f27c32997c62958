"""The use of latents, and the warning where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from vae_training.evaluation.latents import measure_latents, warn_of_collapse


def posteriors(spread: list[float], count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Means of these standard deviations over images, one a latent."""
    draws = np.random.default_rng(0).standard_normal((count, len(spread)))
    draws = (draws - draws.mean(0)) / draws.std(0)
    return (draws * spread).astype(np.float32), np.full((count, len(spread)), -0.5, np.float32)


def test_the_divergence_of_each_latent_is_that_of_its_normal_distributions() -> None:
    mean, logvar = posteriors([0.0, 1.0, 2.0])
    expected = kl_divergence(
        Normal(torch.from_numpy(mean), torch.from_numpy(logvar).mul(0.5).exp()), Normal(0.0, 1.0)
    ).mean(0)
    use = measure_latents(mean, logvar)
    assert use.kl_per_latent == pytest.approx(expected.tolist(), rel=1e-4)
    assert use.kl == pytest.approx(float(expected.sum()), rel=1e-4)


def test_a_latent_is_active_where_the_variance_of_its_mean_is_above_a_hundredth() -> None:
    assert measure_latents(*posteriors([0.0, 0.099, 0.101, 3.0])).active == 2


def test_a_mean_that_is_the_same_for_all_images_is_not_active_however_large() -> None:
    mean, logvar = posteriors([0.0, 0.0])
    assert measure_latents(mean + 5, logvar).active == 0


@pytest.mark.parametrize(
    ("spread", "words"),
    [
        ([0.0, 0.0, 0.0, 0.0], "posterior collapse: no latent of faces says anything"),
        ([1.0, 0.0, 0.0, 0.0], "posterior collapse in part: 3 of 4 latents of faces say nothing"),
        ([1.0, 1.0, 0.0, 0.0], None),
        ([1.0, 1.0, 1.0, 1.0], None),
    ],
)
def test_collapse_is_told_in_plain_words_and_nothing_where_there_is_none(
    spread: list[float], words: str | None
) -> None:
    warning = warn_of_collapse("faces", measure_latents(*posteriors(spread)))
    assert (warning or "").startswith(words or "")
    assert (warning is None) == (words is None)
