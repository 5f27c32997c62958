"""Which images are held out."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_training.data import ImageSet, split
from vae_training.errors import DataError

FRACTIONS = st.floats(0, 1, exclude_max=True)
SEEDS = st.integers(0, 2**63)


def images(count: int, groups: list[int] | None = None) -> ImageSet:
    numbers = None if groups is None else np.array(groups, np.int64)
    return ImageSet(np.zeros((count, 8, 8, 1), np.uint8), numbers, name="some", source="here")


@given(count=st.integers(2, 300), validation=FRACTIONS, seed=SEEDS)
def test_without_groups_the_fraction_is_met_to_half_an_image(
    count: int, validation: float, seed: int
) -> None:
    training, held_out = split(images(count), validation, seed)
    assert sorted([*training, *held_out]) == list(range(count))
    assert (np.diff(training) > 0).all()
    assert (np.diff(held_out) > 0).all()
    if validation == 0:
        assert len(held_out) == 0
    else:
        assert abs(len(held_out) - np.clip(validation * count, 1, count - 1)) <= 0.5
        assert len(training) >= 1


@given(groups=st.lists(st.integers(-5, 5), min_size=2, max_size=60), validation=FRACTIONS, seed=SEEDS)
def test_groups_stay_whole(groups: list[int], validation: float, seed: int) -> None:
    if len(set(groups)) == 1 and validation > 0:
        with pytest.raises(DataError, match="expected at least 2"):
            split(images(len(groups), groups), validation, seed)
        return
    training, held_out = split(images(len(groups), groups), validation, seed)
    assert sorted([*training, *held_out]) == list(range(len(groups)))
    assert not {groups[i] for i in training} & {groups[i] for i in held_out}
    assert len(training) >= 1
    assert (len(held_out) == 0) == (validation == 0)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=7),
    validation=st.floats(0.01, 0.99),
    seed=SEEDS,
)
def test_the_fraction_is_met_as_nearly_as_whole_groups_allow(
    sizes: list[int], validation: float, seed: int
) -> None:
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    possible = {sum(some) for n in range(1, len(sizes)) for some in combinations(sizes, n)}
    wanted = min(max(round(validation * len(groups)), 1), len(groups) - 1)
    _, held_out = split(images(len(groups), groups), validation, seed)
    assert abs(len(held_out) - wanted) == min(abs(total - wanted) for total in possible)


def test_one_seed_gives_one_split_and_another_another() -> None:
    some = images(100, [i // 2 for i in range(100)])
    assert split(some, 0.2, seed=1)[1].tolist() == split(some, 0.2, seed=1)[1].tolist()
    assert split(some, 0.2, seed=1)[1].tolist() != split(some, 0.2, seed=2)[1].tolist()


def test_every_group_is_held_out_by_some_seed() -> None:
    some = images(12, [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5])
    held_out = {int(group) for seed in range(40) for group in split(some, 0.4, seed)[1]}
    assert held_out == set(range(12))


def test_the_indices_are_int64_even_where_there_are_none() -> None:
    for part in (*split(images(4), 0, seed=0), *split(images(4), 0.5, seed=0)):
        assert part.dtype == np.int64


def test_thousands_of_people_are_split_in_no_time() -> None:
    people = np.random.default_rng(0).zipf(2, 20_000).clip(1, 500)
    groups = np.repeat(np.arange(len(people)), people)
    _, held_out = split(images(len(groups), groups.tolist()), 0.1, seed=0)
    assert len(held_out) == round(0.1 * len(groups))


@pytest.mark.parametrize("validation", [-0.1, 1.0, 2.0, float("nan")])
def test_a_fraction_out_of_range_is_refused(validation: float) -> None:
    with pytest.raises(DataError, match="at least 0 and less than 1"):
        split(images(4), validation, seed=0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(DataError, match="seed -1"):
        split(images(4), 0.5, seed=-1)
