"""Learning rates, against PyTorch's own scheduler over whole runs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vae_training.schedule import learning_rate


@pytest.mark.parametrize("total", [2, 3, 4, 5, 7, 10, 33, 100, 855])
@pytest.mark.parametrize("peak", [1e-3, 0.05])
def test_onecycle_is_that_of_pytorch_at_every_step(total: int, peak: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peak, total_steps=total)
    for step in range(total):
        expected = optimizer.param_groups[0]["lr"]
        assert learning_rate("onecycle", peak, step, total) == pytest.approx(expected, rel=1e-9), step
        optimizer.step()
        if step < total - 1:
            theirs.step()


@pytest.mark.parametrize("total", [2, 3, 5, 10, 855])
@pytest.mark.parametrize("peak", [1e-3, 0.05])
def test_cosine_is_that_of_pytorch_at_every_step(total: int, peak: float) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    end = peak / 25 / 1e4  # where OneCycleLR ends, too
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total - 1, eta_min=end)
    for step in range(total):
        expected = optimizer.param_groups[0]["lr"]
        assert learning_rate("cosine", peak, step, total) == pytest.approx(expected, rel=1e-6), step
        optimizer.step()
        theirs.step()


def test_a_run_of_one_step_takes_it_at_the_peak_but_for_onecycle() -> None:
    assert learning_rate("constant", 0.1, 0, 1) == learning_rate("cosine", 0.1, 0, 1) == 0.1
    assert 0.0 < learning_rate("onecycle", 0.1, 0, 1) <= 0.1


@given(st.floats(1e-9, 999), st.integers(0, 10_000), st.integers(1, 10_000))
def test_constant_is_the_peak_throughout(peak: float, step: int, total: int) -> None:
    assert learning_rate("constant", peak, step, total) == peak


@given(total=st.integers(1, 2000), data=st.data())
def test_onecycle_stays_between_zero_and_the_peak(total: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, total - 1))
    assert 0.0 < learning_rate("onecycle", 1e-3, step, total) <= 1e-3 * (1 + 1e-12)
