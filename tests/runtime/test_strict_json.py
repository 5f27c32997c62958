"""JSON, and nothing that only Python takes for it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_runtime.strict_json import parse_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.text()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_json_is_read(value: object) -> None:
    written = json.dumps(value)
    assert repr(parse_json(written)) == repr(parse_json(written.encode())) == repr(value)


@pytest.mark.parametrize("number", ["1" * 32, "-" + "1" * 31, "0." + "1" * 30])
def test_a_number_may_have_32_characters(number: str) -> None:
    assert parse_json(number) == pytest.approx(float(number), rel=1e-15)
    with pytest.raises(ValueError, match=r"^a number of 33 characters; expected at most 32$"):
        parse_json(number + "1")


def test_a_long_key_that_stands_twice_is_not_shown_whole() -> None:
    key = "k" * 100_000
    with pytest.raises(ValueError, match=f"^the key '{'k' * 60}' stands twice$"):
        parse_json(f'{{"{key}": 1, "{key}": 2}}')


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a": 1, "a": 1}', "'a' stands twice"),
        (b'[{"a": {"b": 1, "\\u0062": 1}}]', "'b' stands twice"),
        (b"[NaN]", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"[1e999]", "1e999 is beyond all numbers"),
        (b"[-1e999]", "beyond all numbers"),
        (b"9" * 5000, "a number of 5000 characters"),
        (b"[" * 100_000, "^nested too deeply$"),
        (b'{"a":' * 100_000, "^nested too deeply$"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"\xff", "utf-8"),
        (b"", "Expecting value"),
        (b"{'a': 1}", "Expecting"),
        (b"{} {}", "Extra data"),
    ],
)
def test_what_is_not_json_is_refused_with_the_reason(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(data)
