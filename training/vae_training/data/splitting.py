"""Holding images out of training, whole groups at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vae_training.errors import DataError

if TYPE_CHECKING:
    from vae_training.data.image_set import ImageSet

Indices = npt.NDArray[np.int64]


def split(images: ImageSet, validation: float, seed: int) -> tuple[Indices, Indices]:
    """Choose at random which images are trained on and which are held out.

    Args:
        images: the N images; those of one group all go to one side.
        validation: the fraction to hold out, at least 0 and less than 1. The held-out part comes as near
            to it as whole groups allow, with at least one image on each side; 0 holds out nothing.
        seed: at least 0; one seed gives one split.

    Returns:
        The indices of the training part and of the held-out part, int64, sorted; together 0 to N - 1.

    Raises:
        DataError: a fraction out of range, a negative seed, or everything in one group.
    """
    if not 0 <= validation < 1:
        raise DataError(f"validation fraction {validation}; expected at least 0 and less than 1")
    if seed < 0:
        raise DataError(f"seed {seed}; expected at least 0")
    count = len(images.images)
    everything = np.arange(count, dtype=np.int64)
    if validation == 0:
        return everything, everything[:0]
    group_of = everything if images.groups is None else np.unique(images.groups, return_inverse=True)[1]
    sizes = np.bincount(group_of)
    if len(sizes) < 2:
        raise DataError(f"{images.name}: {len(sizes)} group; expected at least 2 to hold one out")
    wanted = min(max(round(validation * count), 1), count - 1)
    order = np.random.default_rng(seed).permutation(len(sizes))
    held_out = np.isin(group_of, order[_nearest_subset(sizes[order], wanted)])
    return everything[~held_out], everything[held_out]


def _nearest_subset(sizes: Indices, wanted: int) -> Indices:
    """Say which sizes add up nearest to `wanted`, and to neither nothing nor everything; early ones first."""
    if (sizes == 1).all():
        return np.arange(wanted)
    # The subset-sum problem, by the textbook: completed_by[s] is the first size with which some of those
    # before it add up to s. Following it downwards from a sum names that sum's parts.
    completed_by = np.full(sizes.sum(), -1, np.int64)
    reached = np.zeros(len(completed_by), np.bool_)
    reached[0] = True
    for index, size in enumerate(sizes):
        new = reached[:-size] & ~reached[size:]
        completed_by[size:][new] = index
        reached[size:] |= new
        if reached[wanted]:
            break
    sums = np.flatnonzero(reached)[1:]
    remaining = int(sums[np.argmin(np.abs(sums - wanted))])
    parts: list[int] = []
    while remaining:
        parts.append(int(completed_by[remaining]))
        remaining -= int(sizes[parts[-1]])
    return np.array(parts, np.int64)
