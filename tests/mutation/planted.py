"""Mutants of which the end is known, to see what is made of them. Run like the mutation tests themselves.

The first word says who makes them: `by-hand`, or `cosmic-ray` where that is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from mutants.command import main
from mutants.targets import Target

HERE = Path(__file__).resolve().parent / "planted"

CHANGES = (
    ("number > most", "number >= most"),  # does the same
    ("number > most", "number < most"),  # is killed
    ("while number > 0", "while number != 0"),  # does the same for what is counted
    ("number -= 1", "number += 1"),  # has no end
    ("steps += 1", "steps -= 1"),  # is killed
    ("-> int | None", "-> int & None"),  # an annotation: no mutant
    ("steps = 0", "steps = = 0"),  # no Python: no mutant
    ("2 * number", "2 ** number"),  # survives: the test is missing
    ("2 * number", "2 / number"),  # is killed
)
TARGETS = {
    name: Target(f"source/{name}", ((f"checks/checks_of_{name}",),))
    for name in ("clamp.py", "double.py", "broken.py", "apart.py")
}


def by_hand(source: str) -> Iterator[str]:
    for before, after in CHANGES:
        if before in source:
            yield source.replace(before, after, 1)


if __name__ == "__main__":
    if sys.argv[1] == "cosmic-ray":
        from mutants.cosmic import mutations as made
    else:
        made = by_hand
    sys.exit(main(TARGETS, made, (), root=HERE, known=HERE / "README.md", arguments=sys.argv[2:]))
