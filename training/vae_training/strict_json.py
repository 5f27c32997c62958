"""JSON as it is written here, and nothing that Python's reader takes beyond that."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

_LONGEST_INTEGER = 20  # characters: enough for any 64-bit integer


def parse_json(data: bytes) -> Any:
    """Read JSON in UTF-8.

    Raises:
        ValueError: not JSON, a key that stands twice, NaN or a number beyond what its type holds, or nesting
            without end.
    """
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_short,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for key, value in pairs:
        if key in record:
            raise ValueError(f"the key {key[:60]!r} stands twice")
        record[key] = value
    return record


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:30]} is beyond all numbers")
    return value


def _short(text: str) -> int:
    if len(text) > _LONGEST_INTEGER:
        raise ValueError(f"an integer of {len(text)} digits")
    return int(text)
