"""`make soak ONLY=L3,L7`, or `python tests/soak --help`."""

from __future__ import annotations

import sys

from loads.command import main
from loads.rows import ROWS

if __name__ == "__main__":
    sys.exit(main(ROWS))
