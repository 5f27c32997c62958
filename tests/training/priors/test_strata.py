"""One normal number chooses a component exactly, and what is left of it is normal again."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import Tensor

from vae_training.priors.strata import Strata, normal_quantile

NORMAL = NormalDist()
WEIGHTS = {
    "halves": [0.5, 0.5],
    "very unlike": [0.001, 0.9, 0.09, 0.009],
    "many": [1 / 40] * 40,
    "nearly all in one": [0.9995, 0.0005],
}


@pytest.fixture(params=list(WEIGHTS))
def weights(request: pytest.FixtureRequest) -> Tensor:
    return torch.tensor(WEIGHTS[request.param]).double()


def normal_numbers(n: int) -> Tensor:
    return torch.randn(n, 1, generator=torch.Generator().manual_seed(7))


def test_components_are_chosen_as_often_as_they_weigh(weights: Tensor) -> None:
    chosen, _ = Strata.of(weights)(normal_numbers(200_000))
    assert torch.equal(chosen.sum(1), torch.ones(200_000))
    assert set(chosen.unique().tolist()) == {0.0, 1.0}
    expected, error = 200_000 * weights, (200_000 * weights * (1 - weights)).sqrt()
    assert ((chosen.double().sum(0) - expected).abs() < 4 * error).all()


def test_what_is_left_is_standard_normal_within_every_component(weights: Tensor) -> None:
    chosen, left = Strata.of(weights)(normal_numbers(200_000))
    for component in range(len(weights)):
        numbers = np.sort(left[chosen[:, component] == 1, 0].double().numpy())
        if len(numbers) < 50:
            continue
        ranks = np.arange(1, len(numbers) + 1) / len(numbers)
        distance = np.abs(np.array([NORMAL.cdf(number) for number in numbers]) - ranks).max()
        assert distance < 1.95 / np.sqrt(len(numbers))  # Kolmogorov and Smirnov: one in a thousand is farther


def test_numbers_are_where_the_definition_puts_them_to_float32(weights: Tensor) -> None:
    strata = Strata.of(weights)
    edges = [0.0, *(NORMAL.cdf(t) for t in strata.thresholds.double().tolist()), 1.0]
    for number in np.float32([-4.2, -3.0, -1.7, -0.6, -0.01, 0.02, 0.3, 0.9, 2.1, 3.4]):
        chosen, left = strata(torch.tensor([[number]]))
        place = NORMAL.cdf(float(number))
        stratum = int(np.searchsorted(edges, place)) - 1
        within = (place - edges[stratum]) / (edges[stratum + 1] - edges[stratum])
        assert int(chosen.argmax()) == stratum
        assert float(left) == pytest.approx(NORMAL.inv_cdf(within), abs=3e-5)


def test_a_threshold_and_its_neighbours_in_float32_are_told_apart() -> None:
    strata = Strata.of(torch.tensor([0.25, 0.25, 0.1, 0.4]).double())
    for index, threshold in enumerate(strata.thresholds.numpy()):
        above, below = np.nextafter(threshold, np.float32(9)), np.nextafter(threshold, np.float32(-9))
        chosen, left = strata(torch.tensor([[below], [threshold], [above]]))
        assert chosen.argmax(1).tolist() == [index, index, index + 1]
        # At the end of one stratum, and at the beginning of the next: far out on the one side, and on the other.
        assert left[0] > 4 > -4 > left[2]


def test_tails_are_not_cut_where_float32_would_round_probabilities_to_one() -> None:
    _, left = Strata.of(torch.tensor([0.5, 0.5]).double())(
        torch.tensor([[5.5], [6.2], [-6.2], [8.5], [1e30]])
    )
    # A probability of q beyond a number in half of the line is one of 2 q beyond what is left of it.
    for number, found in zip((5.5, 6.2), left[:2, 0].tolist(), strict=True):
        assert found == pytest.approx(-NORMAL.inv_cdf(2 * NORMAL.cdf(-number)), abs=2e-5)
    assert float(left[2]) == -float(left[1])
    assert 6.6 < float(left[3]) == float(left[4]) < 6.7


def test_the_quantile_function_is_that_of_the_standard_library() -> None:
    probabilities = torch.logspace(np.log10(1.5e-11), np.log10(0.5), 3001, dtype=torch.float64).float()
    expected = [NORMAL.inv_cdf(float(p)) for p in probabilities]
    np.testing.assert_allclose(
        normal_quantile(probabilities[:, None])[:, 0].numpy(), expected, rtol=0, atol=5e-6
    )


def test_weights_are_those_that_it_was_made_of(weights: Tensor) -> None:
    torch.testing.assert_close(Strata.of(weights).weights(), weights, rtol=1e-4, atol=1e-7)
    assert float(Strata.of(weights).weights().sum()) == pytest.approx(1.0, abs=1e-12)
