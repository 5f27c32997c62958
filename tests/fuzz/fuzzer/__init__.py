"""A mutation fuzzer for everything that reads a stranger's bytes."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# It runs from a checkout, whether or not the project is installed.
for _package in ("training", "export", "runtime", "tests/runtime/support"):
    sys.path.insert(0, str(ROOT / _package))
