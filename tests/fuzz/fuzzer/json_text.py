"""Mutations of JSON by its values: other types, huge numbers, deep nesting, keys that stand twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

_DEEP = 100_000
_STRANGE_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 2**31, 2**53 + 1, 2**63, -(2**63), 10**18, 10**400, 0.0, -0.0, 1.5, 1e-320,
    1e308, "", "0", "null", "..", "../canary", "/etc/passwd", "\x00", "\ud800", "é" * 300, "x" * 70_000, [], {}, [[]],
    [0], [1, 1, 1], [3, 8, 8], [1, 10**9, 10**9], {"": {}}, {"a": [1, {"b": None}]},
)  # fmt: skip
# Texts that no value gives: Python's json reads some of them, others it must refuse.
_STRANGE_TEXTS = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "01", "1.", "'a'", "tru", '"\\ud800"', '"\\u0000"', "9" * 5_000,
    "[" * _DEEP, '{"a":' * _DEEP, "[" * 500 + "]" * 500, '{"a":1,"a":2}', "/**/1", '"', "\ufeff{}",
)  # fmt: skip
_MARK = "\u2603 this stands where a strange text goes"

Path = tuple[Any, ...]


def mutate_record(record: Any, draw: Random) -> Any:
    """Return a copy of parsed JSON with one to three of its values changed, moved, added or taken away."""
    changed = json.loads(json.dumps(record))
    for _ in range(draw.choice((1, 1, 2, 3))):
        changed = _change_one(changed, draw)
    return changed


def mutate_text(text: str, draw: Random) -> str:
    """Return JSON like `text` but for some values; at times no longer JSON."""
    record = json.loads(text)
    if draw.random() < 0.7:
        return json.dumps(mutate_record(record, draw), ensure_ascii=draw.random() < 0.5)
    path = draw.choice(_paths(record))
    written = json.dumps(_replaced(record, path, lambda _: _MARK))
    strange = draw.choice((*_STRANGE_TEXTS, *_twice(record, path)))
    return written.replace(json.dumps(_MARK), strange)


def _change_one(record: Any, draw: Random) -> Any:
    path = draw.choice(_paths(record))
    kind = draw.random()
    if kind < 0.5:
        return _replaced(record, path, lambda _: draw.choice(_STRANGE_VALUES))
    if kind < 0.65:
        return _replaced(record, path, lambda value: _nudged(value, draw))
    if kind < 0.8:
        source = draw.choice(_paths(record))
        return _replaced(record, path, lambda _: json.loads(json.dumps(_at(record, source))))
    if kind < 0.9:
        return _replaced(record, path, lambda value: _grown(value, draw))
    return _replaced(record, path, lambda value: _shrunk(value, draw))


def _nudged(value: Any, draw: Random) -> Any:
    """Nearly the same: the hardest mistakes to see."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return draw.choice((value + 1, value - 1, -value, value * 2, float(min(value, 2**1000)), str(value)))
    if isinstance(value, str):
        return draw.choice((value.upper(), value + " ", value[1:], value[::-1], [value]))
    return [value]


def _grown(value: Any, draw: Random) -> Any:
    if isinstance(value, list):
        return (value * draw.choice((2, 3, 1000)))[:2_000] or [0]
    if isinstance(value, dict):
        return {**value, draw.choice(("", "extra", "__class__", "role", "sha256")): 1}
    if isinstance(value, str):
        return (value * draw.choice((2, 1000)))[:100_000]
    return value


def _shrunk(value: Any, draw: Random) -> Any:
    if isinstance(value, list) and value:
        return value[:-1]
    if isinstance(value, dict) and value:
        gone = draw.choice(list(value))
        return {key: item for key, item in value.items() if key != gone}
    return "" if isinstance(value, str) else value


def _twice(record: Any, path: Path) -> tuple[str, ...]:
    value = json.dumps(_at(record, path))
    return (value + value, f'{value}, "name": 1' if path else value)


def _paths(record: Any, here: Path = ()) -> list[Path]:
    found = [here]
    if isinstance(record, dict):
        for key, value in record.items():
            found += _paths(value, (*here, key))
    elif isinstance(record, list):
        for index, value in enumerate(record[:20]):
            found += _paths(value, (*here, index))
    return found


def _at(record: Any, path: Path) -> Any:
    for key in path:
        record = record[key]
    return record


def _replaced(record: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(record)
    first, rest = path[0], path[1:]
    copy = dict(record) if isinstance(record, dict) else list(record)
    copy[first] = _replaced(record[first], rest, change)
    return copy
