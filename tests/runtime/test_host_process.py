"""A guest in other people's processes: it takes nothing, changes nothing, and works in whatever way it is run.

Each test is a host of its own: a process that uses the library and then looks at itself.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from systems import needs_affinity, needs_fork

import vae_runtime

Host = Callable[..., str]


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
vae_runtime.helpers.start_new_thread = lambda *_: print("a thread was started")
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
until = time.monotonic() + 30
while len(sys._current_frames()) > 1 and time.monotonic() < until:
    time.sleep(0.001)
print(len(sys._current_frames()))
""",
    )
    assert printed == 3 * "True\n" + "1\n"


@needs_fork
def test_what_a_signal_handler_of_the_host_raises_comes_through_as_it_is(host: Host) -> None:
    printed = host(
        """
import signal, sys
import vae_runtime

class TooLong(Exception):  # as task queues have it
    pass

def end(*_):
    raise raised("after a while")

signal.signal(signal.SIGALRM, end)
model, works = vae_runtime.load(sys.argv[1], threads=1), 0
for raised in (TooLong, TimeoutError, RuntimeError) * 20:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        while True:
            model.sample(200)  # as good as always onnxruntime is at work
    except raised as error:
        works += str(error) == "after a while"
assert model.sample(3).shape == (3, 1, 8, 12)
print(works)
""",
    )
    assert printed == "60\n"


@needs_fork  # as all systems that bound what a process may have
def test_where_the_host_has_too_many_files_open_or_calls_too_deep_it_is_told_so(host: Host) -> None:
    printed = host(
        """
import resource, sys
import vae_runtime
model = vae_runtime.load(sys.argv[1])

def deep():
    try:
        deep()
    except RecursionError:
        model.sample(3)

try:
    deep()
    print("deep enough")
except RecursionError:
    print("too deep")
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
for call in (vae_runtime.shipped_models, lambda: vae_runtime.load(sys.argv[1])):
    try:
        call()
    except vae_runtime.EnvironmentProblem as error:
        print(str(error).rpartition(":")[2])
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
print(model.sample(3).shape)
""",
    )
    refused = " cannot be read (Too many open files)\n"
    assert printed in [f"{depth}\n{2 * refused}(3, 1, 8, 12)\n" for depth in ("too deep", "deep enough")]


def test_a_sub_interpreter_is_told_so_and_does_not_hang(host: Host) -> None:
    printed = host(
        """
import importlib, sys
import vae_runtime
new = sys.version_info >= (3, 13)
interpreters = importlib.import_module("_interpreters" if new else "_xxsubinterpreters")
# As hosts of old make them, which share one lock.
inside = interpreters.create("legacy") if new else interpreters.create(isolated=False)
lines = (
    f"import sys; sys.path[:] = {sys.path!r}",
    "from vae_runtime.errors import EnvironmentProblem",
    "from vae_runtime.installation import import_onnxruntime",
    "try: import_onnxruntime()",
    "except EnvironmentProblem as error: print(error, flush=True)",
)
interpreters.run_string(inside, chr(10).join(lines))
print(vae_runtime.load(sys.argv[1]).sample(1).shape)
""",
    )
    said, shape = printed.splitlines()
    assert said.startswith("onnxruntime hangs when a sub-interpreter imports it; expected the process's main")
    assert shape == "(1, 1, 8, 12)"
