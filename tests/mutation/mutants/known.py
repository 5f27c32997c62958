"""The list of survivors that are known, and why: blocks of `diff` in a README."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from mutants.mutant import Change

_BLOCK = re.compile(r"^```diff\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEAD = re.compile(r"@@ (\S+) (\S+) @@")


def known_survivors(file: Path) -> Counter[Change]:
    """Read the list: how often each stands there.

    Raises:
        ValueError: a line that is none of `@@ file function @@`, `-removed` and `+added`.
    """
    known: Counter[Change] = Counter()
    for block in _BLOCK.findall(file.read_text(encoding="utf-8")):
        entries: list[Change] = []
        for line in block.splitlines():
            head = _HEAD.fullmatch(line)
            if head:
                entries.append(Change(head[1], head[2], (), ()))
            elif entries and line[:1] == "-":
                entries[-1] = entries[-1]._replace(removed=(*entries[-1].removed, line[1:]))
            elif entries and line[:1] == "+":
                entries[-1] = entries[-1]._replace(added=(*entries[-1].added, line[1:]))
            else:
                raise ValueError(f"{file}: {line!r}; expected @@ file function @@, -removed or +added")
        known.update(entries)
    return known
