"""Fast and wrong is not fast: what is measured must agree first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from measuring.turns import Call

_TOLERANCE = {"cpu": 1e-5, "cuda": 1e-4}
_ONE_STEP = 1  # of 255: two roundings of nearly the same number


def require_agreement(calls: Mapping[str, Call], device: str) -> None:
    """Assert that all calls give the same arrays."""
    results = {name: _as_arrays(call()) for name, call in calls.items()}
    first_name, first = next(iter(results.items()))
    for name, arrays in results.items():
        for expected, found in zip(first, arrays, strict=True):
            assert expected.shape == found.shape, f"{name} and {first_name}"
            tolerance = _ONE_STEP if expected.dtype == np.uint8 else _TOLERANCE[device]
            difference = float(np.abs(expected.astype(np.float64) - found).max())
            assert difference <= tolerance, f"{name} differs from {first_name} by {difference:.1e}"


def _as_arrays(result: object) -> list[npt.NDArray[Any]]:
    return [np.asarray(array) for array in (result if isinstance(result, tuple) else (result,))]
