"""Smoothness of paths whose shape is known."""

from __future__ import annotations

import math

import pytest
import torch

from vae_training.evaluation.paths import measure_smoothness


def test_a_straight_even_path_is_one_in_both() -> None:
    path = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None] * torch.tensor([3.0, 4.0])
    found = measure_smoothness(path[None])
    assert (found.mean_step, found.largest_step, found.detour) == pytest.approx((5 / 8, 1.0, 1.0))


def test_a_jump_is_as_large_as_the_path_has_steps() -> None:
    path = torch.cat([torch.zeros(4, 2), torch.ones(5, 2)]).double()
    found = measure_smoothness(path[None])
    assert (found.largest_step, found.detour) == pytest.approx((8.0, 1.0))


def test_half_a_circle_is_longer_than_its_diameter_and_even() -> None:
    angle = torch.linspace(0, math.pi, 200, dtype=torch.float64)
    found = measure_smoothness(torch.stack([angle.cos(), angle.sin()], 1)[None])
    assert found.largest_step == pytest.approx(1.0)
    assert found.detour == pytest.approx(math.pi / 2, rel=1e-3)


def test_paths_are_averaged_and_one_that_stands_still_spoils_nothing() -> None:
    line = torch.linspace(0, 1, 5, dtype=torch.float64)[None, :, None]
    jump = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64)[None, :, None]
    found = measure_smoothness(torch.cat([line, jump, torch.zeros_like(line)]))
    assert found.largest_step == pytest.approx((1 + 4) / 2)
    still = measure_smoothness(torch.zeros(2, 5, 1, dtype=torch.float64))
    assert (still.mean_step, still.largest_step, still.detour) == (0.0, 1.0, 1.0)
