"""What is said of an error stays on one line, of a bearable length, and commands no terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_runtime import errors
from vae_runtime.errors import EnvironmentProblem, VaeError, one_line, printable


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("plain", "plain"),
        ("two\n lines\r\n\tand a tab", "two lines and a tab"),
        ("clear \x1b[2J", "clear \\x1b[2J"),
        ("half \ud800", "half \\ud800"),
        ("backwards \u202e", "backwards \\u202e"),
        ("snow \N{SNOWMAN} and \N{GRINNING FACE}", "snow \N{SNOWMAN} and \N{GRINNING FACE}"),
        ("", "ValueError"),
        (" \n ", "ValueError"),
        ("x" * 5000, "x" * 1000 + "..."),
    ],
)
def test_a_message_is_one_line_that_can_be_shown(message: str, said: str) -> None:
    assert one_line(ValueError(message)) == said


@given(st.text(max_size=50))
def test_whatever_is_shown_is_printable_and_what_is_printable_is_shown_as_it_is(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode("utf-8").decode("utf-8") == shown
    if text.isprintable():
        assert shown == text


def test_each_kind_of_error_has_the_exit_code_of_its_kind() -> None:
    codes = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, VaeError)
    }
    assert codes == {
        "VaeError": 1, "ClosedError": 1,
        "InputError": 3, "NumbersError": 3, "OutputExistsError": 3, "BundleError": 3, "UnsafeBundleError": 3,
        "EnvironmentProblem": 4, "ProviderError": 4, "ResourceLimitError": 4,
        "NonFiniteError": 5,
    }  # fmt: skip
    assert issubclass(errors.ResourceLimitError, EnvironmentProblem)
