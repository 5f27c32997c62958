"""`make mutants ONLY=wire.py`, or `python tests/mutation --help`."""

from __future__ import annotations

import sys
from pathlib import Path

from mutants.command import main
from mutants.cosmic import mutations
from mutants.targets import LIBRARIES, TARGETS

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    sys.exit(main(TARGETS, mutations, LIBRARIES, root=HERE.parents[1], known=HERE / "README.md"))
