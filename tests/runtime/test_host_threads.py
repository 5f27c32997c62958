"""Threads, forks and pools of other people's processes, and their ends: nothing crashes, hangs or stays behind.

Each test is a host of its own: a process that uses the library and then looks at itself.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from systems import needs_fork, needs_proc

Host = Callable[..., str]


# Threads and processes


def test_threads_that_load_use_and_close_models_of_their_own_do_not_disturb_each_other(host: Host) -> None:
    printed = host(
        """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np, vae_runtime
right = [vae_runtime.load(sys.argv[1]).sample(70, seed) for seed in range(5)]
def work(number):
    for _ in range(15):
        with vae_runtime.load(sys.argv[1], threads=1 + number % 2) as model:
            if not np.array_equal(model.sample(70, number % 5), right[number % 5]):
                return False
    return True
with ThreadPoolExecutor(8) as pool:
    print(all(pool.map(work, range(8))))
""",
    )
    assert printed == "True\n"


def test_close_during_calls_gives_right_results_or_says_so(host: Host) -> None:
    printed = host(
        """
import sys, threading, time
import numpy as np, vae_runtime
right = vae_runtime.load(sys.argv[1]).sample(130, 7)
answers = set()
for round in range(200):
    model, begun = vae_runtime.load(sys.argv[1], threads=1 + round % 2), threading.Barrier(4)
    def work():
        begun.wait()
        while True:
            try:
                answers.add(np.array_equal(model.sample(130, 7), right))
            except vae_runtime.ClosedError:
                return answers.add("closed")
    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    begun.wait()
    model.close()
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive()
until = time.monotonic() + 30
while len(sys._current_frames()) > 1 and time.monotonic() < until:
    time.sleep(0.001)
print(answers <= {True, "closed"}, "closed" in answers, len(sys._current_frames()))
""",
    )
    assert printed == "True True 1\n"


@needs_proc
def test_two_hundred_models_opened_used_and_dropped_leave_nothing_behind(host: Host) -> None:
    printed = host(
        """
import gc, os, sys, time
import numpy  # its matrix library may have threads of its own
import vae_runtime
def count(name):
    return len(os.listdir(f"/proc/self/{name}"))
def threads(expected):
    until = time.monotonic() + 10  # one that has ended is listed for a moment
    while count("task") != expected and time.monotonic() < until:
        time.sleep(0.01)
    return count("task")
alone = count("task")
def megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
def cycle(close):
    model = vae_runtime.load(sys.argv[1], threads=2)
    model.encode(model.sample(130))
    if close:
        model.close()
import warnings
warnings.simplefilter("ignore", ResourceWarning)
for number in range(int(sys.argv[2])):
    if number == 20:
        before = count("fd"), megabytes()
    cycle(close=number % 2)
gc.collect()
print(count("fd") - before[0], threads(alone) - alone, megabytes() - before[1] <= 5)
""",
        200,
    )
    assert printed == "0 0 True\n"


@needs_fork
def test_children_forked_in_the_midst_of_other_threads_calls_end_in_order(host: Host) -> None:
    printed = host(
        """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks beside threads
import numpy as np, vae_runtime
model = vae_runtime.load(sys.argv[1], threads=1)
# What numpy imports when first used is imported now: a child inherits a half-done import as half-done for ever.
right, stop = model.sample(70, 7), threading.Event()
def work():
    while not stop.is_set():
        model.sample(70)
workers = [threading.Thread(target=work) for _ in range(3)]
for worker in workers:
    worker.start()
codes = set()
for number in range(6):
    child = os.fork()
    if child == 0:
        if number % 3 == 0:
            sys.exit(0)
        sound = np.array_equal(model.sample(70, 7), right)
        if number % 3 == 1:
            sound = sound and np.array_equal(vae_runtime.load(sys.argv[1]).sample(200, 7)[:64], right[:64])
        sys.exit(0 if sound else 1)
    codes.add(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
for worker in workers:
    worker.join()
print(codes)
""",
    )
    assert printed == "{0}\n"


@needs_fork
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_children_forked_after_loading_work_and_so_does_their_parent(host: Host, threads: int) -> None:
    """One child closes its model, the other leaves that to its end. A bare session hangs or crashes there."""
    printed = host(
        """
import os, sys
import numpy as np, vae_runtime
model = vae_runtime.load(sys.argv[1], threads=int(sys.argv[2]))
right = model.sample(300, 7)
for closes in (True, False):
    child = os.fork()
    if child == 0:
        same = np.array_equal(model.sample(300, 7), right)
        again = np.array_equal(vae_runtime.load(sys.argv[1]).sample(300, 7), right)
        if closes:
            model.close()
        sys.exit(not (same and again))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), np.array_equal(model.sample(300, 7), right),
          flush=True)  # or the next child would print it as well
""",
        threads,
    )
    assert printed == "0 True\n0 True\n"


@pytest.mark.parametrize(
    "method", [pytest.param("fork", marks=needs_fork), pytest.param("forkserver", marks=needs_fork), "spawn"]
)
def test_pools_of_processes_get_the_model(host: Host, method: str) -> None:
    printed = host(
        """
import multiprocessing, sys
import numpy as np, vae_runtime
if __name__ == "__main__":
    model = vae_runtime.load(sys.argv[1])
    right = [model.sample(70, seed) for seed in range(4)]
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        found = pool.starmap(model.sample, [(70, seed) for seed in range(4)])
    print(np.array_equal(found, right))
""",
        method,
    )
    assert printed == "True\n"


# Leaving


@pytest.mark.parametrize("n", [3, 200])
@pytest.mark.parametrize("workers", [1, 4])
def test_leaving_while_other_threads_work_is_no_crash(host: Host, workers: int, n: int) -> None:
    """A bare session aborts the process here: "terminate called without an active exception"."""
    for _ in range(3):
        host(
            """
import sys, threading, time, vae_runtime
model = vae_runtime.load(sys.argv[1])
def work():
    while True:
        model.sample(int(sys.argv[3]))
for _ in range(int(sys.argv[2])):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
sys.exit(0)
""",
            workers,
            n,
        )


def test_leaving_while_other_threads_open_models_is_no_crash(host: Host) -> None:
    for _ in range(3):
        host(
            """
import sys, threading, time, vae_runtime
def work():
    while True:
        vae_runtime.load(sys.argv[1])
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
sys.exit(0)
"""
        )


def test_what_leaves_last_may_still_use_the_model(host: Host) -> None:
    printed = host(
        """
import atexit, sys
atexit.register(lambda: print(model.sample(200).shape))
import vae_runtime
model = vae_runtime.load(sys.argv[1])
"""
    )
    assert printed == "(200, 1, 8, 12)\n"
