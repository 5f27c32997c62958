"""Measuring several calls in turns, so that a slow moment of the machine meets all of them alike."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping

from pytest_benchmark.fixture import BenchmarkFixture

Call = Callable[[], object]

# All in seconds. PyTorch's and onnxruntime's threads go on spinning for some milliseconds after a call, and would take
# the processors from whoever comes next.
_REST = 0.03
# A turn repeats a short call this long; shorter ones would measure the clock.
_SHORTEST_TURN = 0.004
_FEWEST_TURNS = 3
_LONG, _VERY_LONG = 0.1, 1.0


def measure_in_turns(
    benchmark: BenchmarkFixture, calls: Mapping[str, Call], *, turns: int, budget: float = 4.0
) -> dict[str, list[float]]:
    """Time calls A B C A B C ... with garbage collection off.

    Args:
        benchmark: pytest-benchmark's fixture; each of its rounds is one turn of one call.
        calls: by name.
        turns: how many each call gets at most.
        budget: about how many seconds they may take in all. Fewer turns are taken where that is not
            enough, but never fewer than three.

    Returns:
        Seconds a call, by name, a number for each turn. Empty under `--benchmark-disable`: every call is
        made once then.
    """
    if not benchmark.enabled:
        benchmark(lambda: [call() for call in calls.values()])
        return {}
    blocks = {name: _Block(call) for name, call in calls.items()}
    round_takes = sum(block.seconds + _REST for block in blocks.values())
    turns = max(_FEWEST_TURNS, min(turns, int(budget / round_takes)))
    order = itertools.cycle(blocks.values())

    def prepare() -> tuple[tuple[_Block], dict[str, object]]:
        block = next(order)
        time.sleep(_REST)
        block.warm_up()
        return (block,), {}

    rounds = turns * len(blocks)
    benchmark.pedantic(lambda block: block(), setup=prepare, rounds=rounds)  # type: ignore[no-untyped-call]  # pytest-benchmark leaves it untyped
    assert benchmark.stats is not None
    seconds = benchmark.stats.stats.data
    return {
        name: [second / block.repeats for second in seconds[place :: len(blocks)]]
        for place, (name, block) in enumerate(blocks.items())
    }


def time_of(call: Call) -> float:
    """Return the seconds that one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


class _Block:
    """A call, repeated as often as makes one turn."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.repeats = 1
        self.seconds = self._time()
        if self.seconds < _VERY_LONG:  # the first call of a library is slower than those that follow
            self.seconds = self._time()
        while self.seconds < _SHORTEST_TURN:
            self.repeats = 1 + int(_SHORTEST_TURN * self.repeats / self.seconds)
            self.seconds = self._time()

    def __call__(self) -> None:
        for _ in range(self.repeats):
            self.call()

    def warm_up(self) -> None:
        """Get caches and threads ready, where they are what counts: long calls do it by themselves."""
        if self.seconds < _LONG:
            self()

    def _time(self) -> float:
        return time_of(self)
