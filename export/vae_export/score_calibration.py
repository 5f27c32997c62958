"""What the card says of scores: where those of images that were held out of the training lie."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vae_runtime.card import ScoreCalibration
from vae_runtime.errors import NonFiniteError
from vae_runtime.model import Model

PERCENTAGES = (0.0, 0.1, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.9, 100.0)
FEWEST = 10
"""Images; of fewer, percentiles would say nothing."""

# As `Model.score` has them by default: a score and its percentile belong to the same points.
_SAMPLES, _SEED = 1, 0


def calibrate_scores(model: Model, held_out: npt.NDArray[np.uint8]) -> ScoreCalibration | None:
    """Return the quantiles of the scores that held-out images reach.

    Args:
        model: the opened bundle, or a first draft of it: a lower precision is calibrated with its own graphs.
        held_out: (N, H, W) or (N, H, W, C) uint8.

    Returns:
        None of fewer than `FEWEST` images, and where posteriors are so wide that nothing can be scored.
    """
    if len(held_out) < FEWEST:
        return None
    try:
        totals = model.score(held_out, samples=_SAMPLES, seed=_SEED).total
    except NonFiniteError:  # whether such a model may be written is for parity to say
        return None
    quantiles = np.quantile(totals, np.divide(PERCENTAGES, 100.0))
    # Rounded, since the last digits are those of one processor; that keeps their order.
    rounded = tuple(round(float(quantile), 4) for quantile in quantiles)
    return ScoreCalibration(len(held_out), _SAMPLES, _SEED, PERCENTAGES, rounded)
