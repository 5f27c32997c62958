"""Run a command, wait for it, and write its wall time and peak memory as one line of JSON.

It imports next to nothing on purpose: what this process holds would count as the command's own.
"""

import json
import os
import subprocess
import sys
import time

_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


def main() -> int:
    """Measure the command that the arguments are."""
    started = time.perf_counter()
    child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    sys.stdout.write(json.dumps({"seconds": seconds, "peak_bytes": usage.ru_maxrss * _UNIT}) + "\n")
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
