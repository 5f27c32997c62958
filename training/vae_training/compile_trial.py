"""Whether compiled steps pay, found out by the clock while a run goes on."""

from __future__ import annotations

from statistics import median

# What compiling a step is taken to last: twice what it took on two CPU cores for the classic model, half a minute.
# No GPU has been measured yet.
SECONDS_TO_COMPILE = 60.0
# What is taken to be saved of a step: in PyTorch's own benchmarks of torch.compile (163 models trained in float32 on
# an A100, pytorch.org/get-started/pytorch-2.0) compiled ones were 21 % faster on average.
SHARE_SAVED = 1 - 1 / 1.21

# Steps of either kind that are not measured: the first ones pick kernels, take memory, or compile.
WARM_UP = 10
# Steps of either kind whose median is what a step takes, whatever else delays some of them.
MEASURED = 20


class Trial:
    """Begins uncompiled, compiles where the steps left will repay it, and goes back where that made it no faster.

    It is told what every step took and looks at no clock of its own.
    """

    def __init__(self) -> None:
        self.compiled = False
        """Whether the next step is to be a compiled one."""
        self.is_over = False
        """Whether nothing will change any more: steps need not be timed."""
        self._seconds: list[float] = []  # of the steps of this kind
        self._uncompiled = 0.0  # what one of them took

    def took(self, seconds: float, steps_left: int) -> str:
        """Take note of a step; return in words what has been decided by it, if anything.

        Args:
            seconds: what the step took, until the device was done with it.
            steps_left: how many could be compiled from here on.
        """
        self._seconds.append(seconds)
        if self.is_over or len(self._seconds) < WARM_UP + MEASURED:
            return ""
        step = median(self._seconds[WARM_UP:])
        return self._judge(step) if self.compiled else self._consider(step, steps_left)

    def fail(self) -> None:
        """Go on without: the step cannot be compiled."""
        self.compiled, self.is_over = False, True

    def _consider(self, step: float, steps_left: int) -> str:
        if SHARE_SAVED * step * steps_left <= SECONDS_TO_COMPILE:
            self.is_over = True
            return ""
        self.compiled, self._uncompiled, self._seconds = True, step, []
        return f"compiling: {steps_left:,} steps of {_milliseconds(step)} are left"

    def _judge(self, step: float) -> str:
        self.is_over = True
        change = f"{_milliseconds(step)} a step instead of {_milliseconds(self._uncompiled)}"
        if step < self._uncompiled:
            return f"compiled in {self._seconds[0]:.0f} s: {change}"
        self.compiled = False
        return f"compiled to no avail, and given up: {change}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"
