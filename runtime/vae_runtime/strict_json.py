"""JSON as its standard has it, and nothing that Python's reader takes beyond that.

Python keeps the last of two values under one key, takes NaN and Infinity, and turns millions of digits into a
number as long as it takes. Two readers of one file could see two different things in it.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

_LONGEST_NUMBER = 32  # characters: enough for any float64 and any 64-bit integer
_LONGEST_SHOWN = 60  # characters of a key in a message


def parse_json(data: str | bytes) -> Any:
    """Read JSON, in UTF-8 if it comes as bytes.

    Raises:
        ValueError: not JSON, a key that stands twice, NaN, a number beyond float64 or of too many characters, or
            nesting without end.
    """
    try:
        return json.loads(
            data.decode("utf-8") if isinstance(data, bytes) else data,
            object_pairs_hook=_refuse_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_short_integer,
            parse_float=_finite_number,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for key, value in pairs:
        if key in record:
            raise ValueError(f"the key {key[:_LONGEST_SHOWN]!r} stands twice")
        record[key] = value
    return record


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _short_integer(text: str) -> int:
    return int(_short(text))


def _finite_number(text: str) -> float:
    value = float(_short(text))
    if not math.isfinite(value):
        raise ValueError(f"{text} is beyond all numbers")
    return value


def _short(text: str) -> str:
    # Turning a million digits into a number would take seconds.
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text)} characters; expected at most {_LONGEST_NUMBER}")
    return text
