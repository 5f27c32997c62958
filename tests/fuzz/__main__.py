"""`make fuzz SECONDS=60`, or `python tests/fuzz --help`."""

from __future__ import annotations

import sys

from fuzzer.command import main
from fuzzer.targets import TARGETS

if __name__ == "__main__":
    sys.exit(main(TARGETS))
