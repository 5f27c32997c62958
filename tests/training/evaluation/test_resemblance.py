"""Distances of sets: closed forms for normal distributions, and neighbours counted one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vae_training.evaluation.resemblance import NEIGHBOURS, frechet_distance, measure_resemblance


def drawn(seed: int, count: int = 80, features: int = 3, *, spread: float = 1.0, at: float = 0.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(at, spread, (count, features)))


def with_moments(features: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Move and turn points until their sample mean and covariance are these exactly."""
    centred = features - features.mean(0)
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(centred.T.cov()), centred.T, upper=False)
    return (torch.linalg.cholesky(covariance) @ whitened).T + mean


def brute_force(real: np.ndarray, others: np.ndarray, k: int) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage by their definitions, point by point."""

    def reach(points: np.ndarray) -> list[float]:
        return [sorted(np.linalg.norm(p - q) for j, q in enumerate(points) if j != i)[k - 1]
                for i, p in enumerate(points)]  # fmt: skip

    of_real, of_others = reach(real), reach(others)
    precision = np.mean(
        [any(np.linalg.norm(y - x) <= r for x, r in zip(real, of_real, strict=True)) for y in others]
    )
    recall = np.mean(
        [any(np.linalg.norm(y - x) <= r for y, r in zip(others, of_others, strict=True)) for x in real]
    )
    density = (
        np.mean([sum(np.linalg.norm(y - x) <= r for x, r in zip(real, of_real, strict=True)) for y in others])
        / k
    )
    coverage = np.mean(
        [any(np.linalg.norm(y - x) <= r for y in others) for x, r in zip(real, of_real, strict=True)]
    )
    return float(precision), float(recall), float(density), float(coverage)


@pytest.mark.parametrize("at", [0.0, 1.0, 4.0])
def test_neighbours_are_those_that_counting_finds(at: float) -> None:
    real, others = drawn(0, 60), drawn(1, 45, spread=0.7, at=at)
    found = measure_resemblance(real, others)
    expected = brute_force(real.numpy(), others.numpy(), NEIGHBOURS)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected)


def test_a_set_is_like_itself() -> None:
    real = drawn(0)
    found = measure_resemblance(real, real)
    assert found.frechet == pytest.approx(0.0, abs=1e-9)
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)


def test_no_distance_is_below_nothing() -> None:
    sets = [drawn(seed, 40, 12) for seed in range(20)]
    assert all(0.0 <= frechet_distance(one, one) < 1e-9 for one in sets)


def test_order_does_not_matter() -> None:
    real, others = drawn(0), drawn(1, spread=0.5)
    turned = others[torch.randperm(len(others), generator=torch.Generator().manual_seed(0))]
    assert measure_resemblance(real, others).coverage == measure_resemblance(real, turned).coverage
    assert frechet_distance(real, others) == pytest.approx(frechet_distance(real, turned))


def test_one_good_image_repeated_is_precise_and_covers_nothing() -> None:
    real = drawn(0, 100)
    found = measure_resemblance(real, real[:1] + 1e-3 * drawn(1, 100))
    assert found.precision == 1.0
    assert found.recall < 0.1
    assert found.coverage < 0.2


def test_a_set_elsewhere_has_nothing_in_common() -> None:
    found = measure_resemblance(drawn(0), drawn(1, at=100.0))
    assert (found.precision, found.recall, found.density, found.coverage) == (0.0, 0.0, 0.0, 0.0)


def test_the_distance_of_normal_sets_is_the_closed_form() -> None:
    shift = torch.tensor([3.0, 0.0, 4.0], dtype=torch.float64)
    variances = [torch.tensor(v, dtype=torch.float64) for v in ([1.0, 4.0, 9.0], [4.0, 1.0, 9.0])]
    zero = torch.zeros(3, dtype=torch.float64)
    first = with_moments(drawn(0), zero, torch.diag(variances[0]))
    second = with_moments(drawn(1), shift, torch.diag(variances[1]))
    expected = 25.0 + float((variances[0].sqrt() - variances[1].sqrt()).square().sum())
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_the_distance_sees_correlation_where_means_and_variances_agree() -> None:
    zero = torch.zeros(2, dtype=torch.float64)
    plain = torch.eye(2, dtype=torch.float64)
    tied = torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    first = with_moments(drawn(0, features=2), zero, plain)
    second = with_moments(drawn(1, features=2), zero, tied)
    # tr(I + T - 2 T^1/2), and the eigenvalues of T are 1.6 and 0.4
    assert frechet_distance(first, second) == pytest.approx(4 - 2 * (1.6**0.5 + 0.4**0.5), rel=1e-9)
