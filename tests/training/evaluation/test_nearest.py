"""Nearest training images, against a search one by one; and which samples count as copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vae_training.evaluation.nearest import Neighbours, nearest, novelty, pixel_novelty, root_mean_square


def pictures(seed: int, count: int) -> np.ndarray:
    return (np.random.default_rng(seed).integers(0, 256, (count, 1, 8, 8)) / 255).astype(np.float32)


def points(images: np.ndarray) -> torch.Tensor:
    return root_mean_square(torch.from_numpy(images))


@pytest.mark.parametrize("piece", [1, 7, 50, 64])
def test_the_two_nearest_are_those_that_looking_at_all_finds(piece: int) -> None:
    queries, bank = pictures(0, 9), pictures(1, 50)
    found = nearest(points(queries), torch.split(points(bank), piece))
    for query, index, distance in zip(queries, found.index, found.distance, strict=True):
        apart = [np.sqrt(np.square(query.astype(float) - image).mean()) for image in bank]
        assert index == np.argmin(apart)
        assert distance == pytest.approx(sorted(apart)[:2])


def copies(samples: np.ndarray, bank: np.ndarray) -> int:
    return pixel_novelty(nearest(points(samples), [points(bank)])).copies


def test_a_training_image_and_what_cannot_be_told_from_it_are_copies() -> None:
    bank = pictures(0, 40)
    noisy = bank + np.random.default_rng(2).choice([-1, 1], bank.shape).astype(np.float32) / 255
    faded = 0.9 * bank + 0.1 * bank.mean(axis=(1, 2, 3), keepdims=True)
    for made in (bank, noisy, faded):
        assert copies(made[:7], bank) == 7


def test_a_copy_of_an_image_that_is_there_twice_is_one_too() -> None:
    bank = pictures(0, 40)
    twice = np.concatenate([bank, bank])
    noisy = bank + np.random.default_rng(2).choice([-0.7, 0.7], bank.shape).astype(np.float32) / 255
    assert (copies(bank[:3], twice), copies(noisy[:3], twice)) == (3, 3)


def test_other_images_averages_and_mixtures_are_no_copies() -> None:
    bank, others = pictures(0, 40), pictures(1, 20)
    average = bank.mean(0, keepdims=True)
    mixed = 0.5 * (bank[:20] + bank[20:])
    assert [copies(made, bank) for made in (others, average, mixed)] == [0, 0, 0]


@pytest.mark.parametrize(("distances", "expected"), [((1.0, 3.1), 1), ((1.0, 2.9), 0), ((0.0, 0.0), 1)])
def test_a_copy_is_nearer_than_a_third_of_the_way_to_the_next(
    distances: tuple[float, float], expected: int
) -> None:
    assert novelty(Neighbours(np.array([0]), np.array([distances]))).copies == expected


def test_the_figures_are_those_of_the_first_neighbours() -> None:
    bank = points(pictures(0, 30))
    queries = points(pictures(1, 11))
    found = nearest(queries, [bank])
    apart = torch.linalg.vector_norm(queries[:, None] - bank[None], dim=2).min(1).values.numpy()
    figures = novelty(found)
    assert (figures.median, figures.smallest) == pytest.approx((np.median(apart), apart.min()))
