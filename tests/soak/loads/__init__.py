"""Long runs, heavy loads and rough handling of the project's own code, with the figures that they have to reach."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from processes import PACKAGES

# It runs from a checkout, whether or not the project is installed.
sys.path[:0] = PACKAGES
