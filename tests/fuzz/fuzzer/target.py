"""What the fuzzer asks of something to be fuzzed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NamedTuple

Files = dict[str, bytes]

# What may come of a mutant. The first is the worker's word for any error of ours.
REFUSED, READ, REFUSED_BY_ONNXRUNTIME, RAN = "refused", "read", "refused by onnxruntime", "ran"
OUTCOMES = (REFUSED, READ, REFUSED_BY_ONNXRUNTIME, RAN)


class AcceptedError(AssertionError):
    """A reader took what it had to refuse."""


class Reader(NamedTuple):
    """A target that is ready: its imports are done, its seeds are read."""

    seeds: Mapping[str, Files]
    """Unharmed files, each a mutant that changes nothing."""
    mutate: Callable[[Random], Files]
    """Makes the mutant that belongs to the draws."""
    read: Callable[[Path], str]
    """Reads the mutant that lies in a folder, and says what came of it. Errors of ours may come out."""


@dataclass(frozen=True)
class Target:
    """Something that reads strangers' bytes."""

    name: str
    share: float
    """Of all mutants, how many are for it."""
    prepare: Callable[[], Reader]
