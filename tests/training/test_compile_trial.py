"""Whether to compile, of runs whose steps take what the tests say: against what the whole run would have taken."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vae_training.compile_trial import MEASURED, SECONDS_TO_COMPILE, WARM_UP, Trial

ONE_KIND = WARM_UP + MEASURED  # steps after which something is decided
milliseconds = st.floats(0.1, 1000)


@dataclass
class Simulated:
    """A run that was simulated: which steps were compiled, what was said after which, and what all took."""

    compiled: list[bool] = field(default_factory=list)
    said: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    timed: int = 0


def simulate(steps: int, seconds: Callable[[int, bool], float]) -> Simulated:
    """Let a trial decide on a run; `seconds(step, is_compiled)` is what a step takes besides compiling."""
    run, trial = Simulated(), Trial()
    for step in range(steps):
        is_compiled = trial.compiled
        taken = seconds(step, is_compiled)
        if is_compiled and not (run.compiled and run.compiled[-1]):
            taken += SECONDS_TO_COMPILE
        run.compiled.append(is_compiled)
        run.seconds += taken
        if not trial.is_over:
            run.timed += 1
            if said := trial.took(taken, steps - step - 1):
                run.said[step] = said
    return run


def steady(uncompiled: float, compiled: float) -> Callable[[int, bool], float]:
    return lambda _, is_compiled: (compiled if is_compiled else uncompiled) / 1000


@given(uncompiled=milliseconds, thousands=st.integers(1, 200))
def test_a_run_is_compiled_where_its_rest_would_end_sooner_even_with_the_compiling(
    uncompiled: float, thousands: int
) -> None:
    steps = thousands * 1000
    rest = uncompiled / 1000 * (steps - ONE_KIND)
    sooner = rest - (rest / 1.21 + 60)  # PyTorch's own figure, and a minute
    assume(abs(sooner) > 1e-6)
    # Enough steps to see what is decided; those behind them count without being taken.
    trial = Trial()
    for step in range(ONE_KIND):
        assert not trial.compiled
        trial.took(uncompiled / 1000, steps - step - 1)
    assert trial.compiled == (sooner > 0)
    assert trial.is_over == (sooner < 0)


@given(uncompiled=milliseconds, compiled=milliseconds, steps=st.integers(1, 3000))
def test_compiled_code_stays_where_it_is_faster_and_never_else(
    uncompiled: float, compiled: float, steps: int
) -> None:
    run = simulate(steps, steady(uncompiled, compiled))
    switches = [step for step in range(1, steps) if run.compiled[step] != run.compiled[step - 1]]
    assert switches in ([], [ONE_KIND], [ONE_KIND, 2 * ONE_KIND])
    if steps > 2 * ONE_KIND and any(run.compiled):
        assert run.compiled[-1] == (compiled < uncompiled)
    # At the worst it costs the compiling, and some slower steps.
    worst = SECONDS_TO_COMPILE + ONE_KIND * max(0.0, compiled - uncompiled) / 1000
    assert run.seconds <= steps * uncompiled / 1000 + worst + 1e-9
    assert run.timed <= 2 * ONE_KIND


@given(
    uncompiled=st.floats(1, 100),
    speedup=st.sampled_from([0.5, 0.9, 1.1, 3.0]),
    slow=st.sets(st.integers(WARM_UP, ONE_KIND - 1), max_size=MEASURED // 2 - 1),
    kind=st.booleans(),
    delay=st.floats(0, 10),
)
def test_what_delays_some_steps_and_all_that_warm_up_changes_nothing(
    uncompiled: float, speedup: float, slow: set[int], kind: bool, delay: float
) -> None:
    undisturbed = steady(uncompiled, uncompiled / speedup)

    def disturbed(step: int, is_compiled: bool) -> float:
        is_late = is_compiled == kind and step % ONE_KIND in slow | set(range(WARM_UP))
        return undisturbed(step, is_compiled) + is_late * delay

    assert simulate(5_000, disturbed).compiled == simulate(5_000, undisturbed).compiled


@pytest.mark.parametrize(
    ("compiled", "verdict"),
    [
        (80.0, "compiled in 60 s: 80.00 ms a step instead of 100.00 ms"),
        (100.0, "compiled to no avail, and given up: 100.00 ms a step instead of 100.00 ms"),
        (120.0, "compiled to no avail, and given up: 120.00 ms a step instead of 100.00 ms"),
    ],
)
def test_what_is_decided_is_said_once(compiled: float, verdict: str) -> None:
    run = simulate(10_000, steady(100.0, compiled))
    first, second = itertools.accumulate([ONE_KIND - 1, ONE_KIND])
    assert run.said == {first: "compiling: 9,970 steps of 100.00 ms are left", second: verdict}
    assert simulate(100, steady(100.0, compiled)).said == {}


def test_what_cannot_be_compiled_is_not_tried_again() -> None:
    trial = Trial()
    for left in range(10_000, 10_000 - ONE_KIND, -1):
        trial.took(1.0, left)
    assert trial.compiled
    trial.fail()
    assert not trial.compiled
    assert trial.is_over
    assert [trial.took(1.0, left) for left in range(9_000, 9_000 - ONE_KIND, -1)] == [""] * ONE_KIND
    assert not trial.compiled
