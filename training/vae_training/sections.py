"""Settings from plain values, as TOML holds them: every name known, every value of its type."""

from __future__ import annotations

import os
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from vae_runtime.errors import one_line
from vae_training.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Section = TypeVar("Section")

_LARGEST_FILE = 1 << 16  # bytes of TOML; ours are about 700, and two paths
_MOST_DOTS = 100  # of a line: for a key of thousands of parts the reader takes minutes, and gigabytes
_KINDS = {str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false"}


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: unreadable or not TOML.
    """
    try:
        # Asked before opening: reading a pipe would wait for ever.
        if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where the name is too long
            problem = "not a file" if os.path.exists(path) else "there is none"  # noqa: PTH110 - the same
            raise ConfigError(f"{path}: not a readable TOML file ({problem})")
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise ConfigError(f"{path}: not a readable TOML file (larger than {_LARGEST_FILE} bytes)")
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        if any(line.count(".") > _MOST_DOTS for line in text.split("\n")):
            raise ConfigError(f"{path}: not a readable TOML file (a line of more than {_MOST_DOTS} dots)")
        settings: dict[str, Any] = tomllib.loads(text)
    except ConfigError:
        raise
    except (OSError, ValueError, RecursionError) as error:  # a ValueError is bad UTF-8, TOML or a huge number
        raise ConfigError(f"{path}: not a readable TOML file ({one_line(error)})") from error
    return settings


def read_section(kind: type[Section], values: object, source: str) -> Section:
    """Build a dataclass of settings from a table of plain values; what is not named keeps its default.

    Raises:
        ConfigError: no table, an unknown setting, or a wrong type or value.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: {values!r}; expected a table of settings")
    hints = typing.get_type_hints(kind)
    refuse_unknown(values, hints, source, "setting")
    return kind(**{key: _as_type(value, hints[key], f"{source}.{key}") for key, value in values.items()})


def _as_type(value: object, hint: Any, source: str) -> object:
    """Check a plain value against a field's type; TOML knows no tuples, and 1 is a fine float."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{source} is {value!r}; expected a list")
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        require(len(value) == len(kinds), source, value, f"{len(kinds)} values")
        return tuple(_as_type(item, kind, source) for item, kind in zip(value, kinds, strict=True))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ConfigError(f"{source} is larger than any floating point number; expected less") from error
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{source} is {value!r}; expected {_KINDS[hint]}")
    return value


def refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Any], source: str, what: str) -> None:
    """Raise `ConfigError` for names that are not known."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigError(f"{source}: unknown {what} {', '.join(unknown)}; expected {', '.join(known)}")


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise `ConfigError` unless a setting may have its value."""
    if not condition:
        raise ConfigError(f"{name} is {value!r}; expected {expected}")


def plain(value: object) -> object:
    """Return a setting's value as TOML holds it."""
    return list(value) if isinstance(value, tuple) else value
