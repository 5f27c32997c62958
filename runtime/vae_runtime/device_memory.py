"""A graph run on a GPU with one copy each way: in goes what is new, out comes what is wanted, to where it is wanted.

onnxruntime's own way brings every output to memory of its own, from where it would be copied once more, and sends what
one graph hands to the next out and in again. Bound memory spares both
(https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vae_runtime.installation import import_onnxruntime

DEVICES: Mapping[str, str] = {"cuda": "cuda"}
"""By provider, onnxruntime's name of the memory that it computes in, where that is not the processor's."""

OnDevice: TypeAlias = Any
"""An array of onnxruntime's in a device's memory (`OrtValue`)."""


def run_bound(
    session: Any,
    given: Mapping[str, npt.NDArray[Any] | OnDevice],
    wanted: Mapping[str, npt.NDArray[Any]],
    kept: Sequence[str],
    device: str,
) -> list[OnDevice]:
    """Run one batch.

    Args:
        session: an `InferenceSession`.
        given: the inputs by name: C-contiguous arrays, or what an earlier run kept.
        wanted: the outputs by name, and the C-contiguous arrays of their types and shapes to write them into.
        kept: the outputs that stay on the device.
        device: the name of that device's memory.

    Returns:
        The outputs that are kept.

    Raises:
        Exception: onnxruntime's, also where an output has another shape than the array for it.
    """
    binding = bind(session, given, wanted, kept, device)
    session.run_with_iobinding(binding)
    values: list[OnDevice] = binding.get_outputs()  # in the order in which they were bound
    return values[: len(kept)]


def bind(
    session: Any,
    given: Mapping[str, npt.NDArray[Any] | OnDevice],
    wanted: Mapping[str, npt.NDArray[Any]],
    kept: Sequence[str] = (),
    device: str = "cpu",
) -> Any:
    """Return what binds a session's inputs and outputs to memory (`IOBinding`), which it keeps alive.

    Arguments as those of `run_bound`.
    """
    as_value = import_onnxruntime().OrtValue.ortvalue_from_numpy  # of an array in memory it makes no copy
    binding = session.io_binding()
    for name, batch in given.items():
        if isinstance(batch, np.ndarray):
            binding.bind_cpu_input(name, batch)
        else:
            binding.bind_ortvalue_input(name, batch)
    for name in kept:
        binding.bind_output(name, device)
    for name, array in wanted.items():
        binding.bind_ortvalue_output(name, as_value(array))
    return binding
