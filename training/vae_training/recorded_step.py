"""A step of training that a GPU repeats as a whole, from a recording of it: a CUDA graph.

A step of a small model is some sixty operations of a few microseconds each. Launched one by one they keep the GPU
waiting for the processor; a recording is launched at once
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs). It repeats what was done in the places in memory
where it was done: so inputs are copied to where the recorded ones lay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import shorten
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from vae_runtime.errors import one_line

WARM_UP = 3
"""Steps before the recording: in them libraries take memory and pick kernels, which a recording cannot hold."""

# A recorded step may end beside the step by so much of what the step changed, since sums are taken in any order; it is
# off by all of it where something was left out, or done twice.
_BESIDE = 0.5
_ROUNDING = 1e-6
_LONGEST = 200  # characters of what PyTorch says


class Recording(NamedTuple):
    """What repeats a step, and where its output is then."""

    replay: Callable[[], None]
    output: Tensor


class Recorder(Protocol):
    """What can record a step."""

    def beside(self, take: Callable[[], Tensor]) -> Tensor:
        """Take a step that is not recorded."""

    def record(self, take: Callable[[], Tensor]) -> Recording:
        """Record a step without taking it; a RuntimeError where it cannot be recorded."""


class CudaGraphs:
    """Records on the current GPU, on a stream of its own, as PyTorch asks for it."""

    def __init__(self) -> None:
        """Take the stream."""
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call,unused-ignore]  # newer torch types it

    def beside(self, take: Callable[[], Tensor]) -> Tensor:
        """Take a step on the recording's stream, so that what it leaves behind for the next is not on another."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            output = take()
        torch.cuda.current_stream().wait_stream(self._stream)
        return output

    def record(self, take: Callable[[], Tensor]) -> Recording:
        """Record a step."""
        graph = torch.cuda.CUDAGraph()
        # Other threads of the process may use the GPU meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            output = take()
        return Recording(graph.replay, output)


class RecordedStep:
    """A step that is taken as it is a few times, then recorded, compared once, and repeated from the recording.

    A recording leaves out without a word whatever did not happen on the GPU. So the first time it is taken from the
    same state as the step itself, and given up where it ends elsewhere, as it is where nothing can be recorded.
    """

    def __init__(
        self,
        step: Callable[..., Tensor],
        changed: Callable[[], Sequence[Tensor]],
        tell: Callable[[str], None],
        recorder: Recorder | None = None,
    ) -> None:
        """Take a step; nothing is recorded before it is called.

        Args:
            step: takes tensors, of the same shapes at every call, and returns one; all else that it goes by must stay
                as it is.
            changed: returns all tensors that a step changes in place, once one has been taken.
            tell: hears, as one line, why a step is not recorded.
            recorder: `CudaGraphs` by default.
        """
        self._step, self._changed, self._tell = step, changed, tell
        self._recorder = recorder or CudaGraphs()
        self._inputs: list[Tensor] = []
        self._taken = 0
        self._recording: Recording | None = None
        self._is_given_up = False

    def __call__(self, image: Tensor, *inputs: Tensor | float) -> Tensor:
        """Take the step on images and what else it goes by; numbers become tensors () float32 on the same device.

        Returns:
            The step's output. The next call may overwrite it.
        """
        self._hold(image, *inputs)
        self._taken += 1
        if self._is_given_up or self._taken <= WARM_UP:
            return self._recorder.beside(self._take)
        if self._recording is None:
            return self._first_recorded()
        self._recording.replay()
        return self._recording.output

    def _take(self) -> Tensor:
        return self._step(*self._inputs)

    def _hold(self, image: Tensor, *inputs: Tensor | float) -> None:
        """Copy inputs to where those of the recording lie; nothing waits for the device."""
        if not self._inputs:
            number = torch.empty((), device=image.device)
            self._inputs = [
                torch.empty_like(value if isinstance(value, Tensor) else number) for value in (image, *inputs)
            ]
        for held, value in zip(self._inputs, (image, *inputs), strict=True):
            if isinstance(value, Tensor):
                held.copy_(value)
            else:
                held.fill_(value)

    def _first_recorded(self) -> Tensor:
        try:
            recording = self._recorder.record(self._take)
        except RuntimeError as error:
            return self._give_up(f"failed: {shorten(one_line(error), _LONGEST)}")
        before = self._state()
        output = self._recorder.beside(self._take).clone()
        after = self._state()
        self._put_back(before)
        recording.replay()
        found = torch.allclose(recording.output, output, rtol=1e-3)
        if not (found and _end_together(before, after, self._state())):
            self._put_back(before)
            return self._give_up("ended elsewhere than the step itself")
        self._recording = recording
        return recording.output

    def _state(self) -> list[Tensor]:
        return [value.detach().clone() for value in self._changed()]

    def _put_back(self, state: Sequence[Tensor]) -> None:
        for value, kept in zip(self._changed(), state, strict=True):
            value.detach().copy_(kept)

    def _give_up(self, why: str) -> Tensor:
        self._is_given_up = True
        self._tell(f"steps are launched one operation at a time: a CUDA graph of them {why}")
        return self._recorder.beside(self._take)


def is_recording(tensor: Tensor) -> bool:
    """Tell whether what is done to a tensor now is recorded and not done."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def _end_together(before: Sequence[Tensor], after: Sequence[Tensor], found: Sequence[Tensor]) -> bool:
    """Tell whether two steps from the same state changed every tensor alike, but for rounding."""
    return all(
        bool((there - end).norm() <= _BESIDE * (end - start).norm() + _ROUNDING * end.norm())
        for start, end, there in zip(before, after, found, strict=True)
    )
