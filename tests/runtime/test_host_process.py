"""A guest in other people's processes: it takes nothing, changes nothing, and leaves nothing behind.

Each test is a host of its own: a process that uses the library and then looks at itself.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vae_runtime

Host = Callable[..., str]

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system has no /proc")
needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no affinity"
)


@pytest.fixture
def host(run_python: Any, gray_bundle: Path) -> Host:
    """Run a host whose first argument is a bundle; give back what it printed. It must end in order and in silence."""

    def run(code: str, *arguments: object, flags: tuple[str, ...] = (), **environment: str) -> str:
        finished = run_python(code, gray_bundle, *arguments, flags=("-W", "error", *flags), **environment)
        assert (finished.returncode, finished.stderr) == (0, "")
        printed: str = finished.stdout
        return printed

    return run


# What it touches


def test_no_file_appears_anywhere_in_the_hosts_folders(host: Host, gray_bundle: Path, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("home", "work", "temporary", "cache")}
    for folder in folders.values():
        folder.mkdir()
    before = {path: path.stat().st_mtime_ns for path in [gray_bundle, *gray_bundle.iterdir()]}
    host(
        """
import os, sys
os.chdir(sys.argv[2])
os.environ.pop("ORT_DISABLE_TELEMETRY", None)
import numpy as np, vae_runtime
with vae_runtime.load(sys.argv[1]) as model:
    model.encode(model.sample(200))
""",
        folders["work"],
        HOME=str(folders["home"]),
        TMPDIR=str(folders["temporary"]),
        XDG_CACHE_HOME=str(folders["cache"]),
    )
    assert [path for folder in folders.values() for path in folder.rglob("*")] == []
    assert {path: path.stat().st_mtime_ns for path in [gray_bundle, *gray_bundle.iterdir()]} == before


def test_loading_opens_the_graphs_and_sums_and_calls_open_nothing_at_all(
    host: Host, gray_bundle: Path
) -> None:
    printed = host(
        """
import sys
import numpy as np, vae_runtime, vae_runtime.model, vae_runtime.tiling
from vae_runtime.installation import import_onnxruntime
import_onnxruntime()  # what importing it opens is its own
vae_runtime.load(sys.argv[1]).sample(1)  # and so are the modules that Python and numpy import when first used
events, watching = [], True
def listen(event, arguments):
    if watching:
        events.append((event, *map(str, arguments[:2])))
sys.addaudithook(listen)
model = vae_runtime.load(sys.argv[1])
watching = False
paths = [arguments[0] for event, *arguments in events if event == "open"]
opened = {path for path in paths if not path.startswith(("/proc/", "/sys/", sys.base_prefix)) and not path.isdecimal()}
dangerous = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "ctypes.", "pickle.",
             "exec", "compile", "marshal.", "code.", "os.remove", "os.rename", "os.mkdir", "os.chmod", "os.putenv",
             "signal.", "shutil.", "tempfile.", "urllib.")
print(*{path.removeprefix(sys.argv[1] + "/") for path in opened} - {sys.argv[1]})
print([event for event in events if event[0].startswith(dangerous)])
print([event for event in events if event[0] == "open" and set(event[2]) & set("wax+")])
model.sample(1)
events.clear()
watching = True
model.reconstruct(model.sample(70, seed=7, dtype="uint8"))
model.interpolate(np.zeros(3), np.ones(3), 5)
model.encode(model.sample(3))
watching = False
harmless = {"_thread.start_new_thread", "_thread.start_joinable_thread", "array.__new__"}
print(sorted({event for event, *_ in events} - harmless))
""",
    )
    opened, dangerous, written, during_calls = printed.splitlines()
    assert set(opened.split()) <= {"SHA256SUMS", "encoder.onnx", "decoder.onnx"}
    assert {"encoder.onnx", "decoder.onnx"} <= set(opened.split())
    assert (dangerous, written, during_calls) == ("[]", "[]", "[]")


def test_what_belongs_to_the_host_stays_as_it_was(host: Host) -> None:
    printed = host(
        """
import sys
import gc, locale, logging, os, random, signal, threading, warnings
import numpy as np
locale.setlocale(locale.LC_ALL, "C")
signal.signal(signal.SIGTERM, lambda *_: None)
np.seterr(divide="raise", under="ignore")
warnings.filterwarnings("ignore", "nothing in particular")
logging.getLogger().setLevel(logging.ERROR)
def state():
    umask = os.umask(0o022)
    os.umask(umask)
    return {
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "log handlers": (list(logging.getLogger().handlers), list(logging.getLogger("vae_runtime").handlers)),
        "log levels": (logging.getLogger().level, logging.getLogger("vae_runtime").level, logging.root.disabled),
        "locale": locale.setlocale(locale.LC_ALL),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "numpy errors": (np.geterr(), np.geterrcall()),
        "numpy printing": np.get_printoptions(),
        "numpy chance": [str(part) for part in np.random.get_state()],
        "chance": random.getstate(),
        "environment": {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"},
        "folder": (os.getcwd(), umask),
        "path": (list(sys.path), len(sys.meta_path), list(sys.path_hooks)),
        "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook, threading.excepthook, sys.gettrace()),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "interpreter": (gc.get_threshold(), gc.isenabled(), sys.getrecursionlimit(), sys.getswitchinterval(),
                        threading.stack_size()),
        "threads": threading.enumerate(),
        "processors": hasattr(os, "sched_getaffinity") and os.sched_getaffinity(0),
    }
before = state()
import vae_runtime
model = vae_runtime.load(sys.argv[1])
model.encode(model.sample(200, seed=3))
try:
    model.decode([[float("nan")] * 3])
except vae_runtime.InputError:
    pass
vae_runtime.grid(model.sample(4, dtype="uint8"))
model.close()
after = state()
print([name for name in before if before[name] != after[name]])
""",
    )
    assert printed == "[]\n"


def test_the_one_change_to_the_environment_is_telemetry_switched_off(host: Host) -> None:
    printed = host(
        """
import os, sys
os.environ.pop("ORT_DISABLE_TELEMETRY", None)
before = dict(os.environ)
import vae_runtime
vae_runtime.load(sys.argv[1]).sample(1)
print({*os.environ.items()} ^ {*before.items()})
""",
    )
    assert printed == "{('ORT_DISABLE_TELEMETRY', '1')}\n"


# How the host runs it


@pytest.mark.parametrize(
    "flags", [("-O",), ("-OO",), ("-I", "-S"), ("-X", "dev"), ("-b", "-b"), ("-X", "utf8=0")]
)
def test_any_way_to_start_python_will_do(host: Host, flags: tuple[str, ...]) -> None:
    paths = [
        Path(vae_runtime.__file__).parents[1],
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
    ]
    printed = host(
        f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}"
        """
import vae_runtime
with vae_runtime.load(sys.argv[1]) as model:
    print(model.encode(model.sample(70, seed=7)).mean.shape)
""",
        flags=flags,
    )
    assert printed == "(70, 3)\n"


def test_an_event_loop_hands_calls_to_threads(host: Host) -> None:
    printed = host(
        """
import asyncio, sys
import numpy as np, vae_runtime
model = vae_runtime.load(sys.argv[1])
async def serve():
    calls = [asyncio.to_thread(model.sample, 70, seed) for seed in range(12)]
    gone = asyncio.create_task(asyncio.to_thread(model.sample, 100_000))
    await asyncio.sleep(0.01)
    gone.cancel()
    return await asyncio.gather(*calls)
served = asyncio.run(serve())
print(all(np.array_equal(images, model.sample(70, seed)) for seed, images in enumerate(served)))
""",
    )
    assert printed == "True\n"


@needs_affinity
def test_on_one_processor_one_thread_works(host: Host) -> None:
    printed = host(
        """
import os, sys, threading
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import vae_runtime
model = vae_runtime.load(sys.argv[1])
threading.Thread.start = lambda _: print("a thread was started")
print(model.sample(1000).shape)
""",
    )
    assert printed == "(1000, 1, 8, 12)\n"


@needs_fork
def test_an_interruption_ends_a_long_request_and_the_model_goes_on(host: Host) -> None:
    printed = host(
        """
import os, signal, sys, threading, time
import numpy as np, vae_runtime
model = vae_runtime.load(sys.argv[1], threads=2)
right = model.sample(70, 7)
for _ in range(3):
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        model.sample(5_000_000, 7, dtype="uint8")  # more than a minute's work
        print("not interrupted")
    except KeyboardInterrupt:
        print(np.array_equal(model.sample(70, 7), right))
    timer.join()
print(threading.active_count())
""",
    )
    assert printed == 3 * "True\n" + "1\n"


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
import sys, threading
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
print(answers <= {True, "closed"}, "closed" in answers, threading.active_count())
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
