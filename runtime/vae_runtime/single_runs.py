"""Runs of one row, in memory that stays bound to the graph.

Where hardly anything is computed, most of a call is onnxruntime's way from arrays to its own values and back. For a
single latent or image of a small model that is a sixth of the time, and more than copying it in and out of arrays that
were bound once (https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vae_runtime.device_memory import bind

Row = tuple[int, ...]


class SingleRuns:
    """Runs a graph on the CPU, a row at a time. Safe to call from several threads.

    There is no lock: whoever runs takes bound memory from the spare ones, or makes some, and puts it back. What an
    interruption or a fork leaves taken is made anew.
    """

    def __init__(self, given: Mapping[str, Row], made: Mapping[str, Row]) -> None:
        """Keep the names of inputs and outputs, and the shapes of a row of theirs."""
        self._given, self._made = given, made
        self._spare: list[_Bound] = []

    def run(self, session: Any, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Run one row.

        Args:
            session: the graph's `InferenceSession`, the same one at every call.
            batch: (1, ...) float32.

        Returns:
            One (1, ...) float32 array per output, each with memory of its own.

        Raises:
            Exception: onnxruntime's, also where an output has another shape than it should.
        """
        spare = self._spare
        try:
            bound = spare.pop()
        except IndexError:  # of other threads' taking, perhaps, since one looked
            bound = _Bound(session, self._given, self._made)
        bound.given[...] = batch
        session.run_with_iobinding(bound.binding)
        outputs = list(map(np.ndarray.copy, bound.made))
        spare.append(bound)
        return outputs

    def release(self) -> None:
        """Let go of the spare memory, and with it of the session; that of runs under way goes when they end."""
        self._spare = []


class _Bound:
    """Memory for one row of a graph's input and outputs, bound to it."""

    def __init__(self, session: Any, given: Mapping[str, Row], made: Mapping[str, Row]) -> None:
        inputs = {name: np.zeros((1, *row), np.float32) for name, row in given.items()}
        outputs = {name: np.empty((1, *row), np.float32) for name, row in made.items()}
        (self.given,) = inputs.values()
        self.made = tuple(outputs.values())
        self.binding = bind(session, inputs, outputs)
