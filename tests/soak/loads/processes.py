"""Models in other processes: pools of every kind, forks, the interpreter's end, and signals."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time

from processes import environment, run_to_its_end

import vae_runtime
from loads.row import Figure, at_most, exactly
from loads.threads import MODEL

_MODEL: vae_runtime.Model | None = None

# Children that inherit a model, use it and end as programs do, finalizers and all.
_FORKS = """
import json, os, signal, sys, time, vae_runtime
model = vae_runtime.load(sys.argv[1])
expected = model.sample(70, seed=0).tobytes()
codes, slowest = [], 0.0
for _ in range(int(sys.argv[2])):
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        sys.exit(0 if model.sample(70, seed=0).tobytes() == expected else 3)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    slowest = max(slowest, time.monotonic() - started)
assert model.sample(70, seed=0).tobytes() == expected
print(json.dumps([codes, slowest]))
"""

# Requests of a loaded model, each interrupted at some moment; the next one has to be right.
_INTERRUPTED = """
import faulthandler, random, signal, sys, vae_runtime
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
moments = random.Random(0)
model = vae_runtime.load(sys.argv[1], threads=2)
expected = model.sample(200, seed=1).tobytes()
latents = model.sample_latents(200_000, seed=1)  # hundreds of megabytes of pictures: none is ever finished
interrupted = 0
for _ in range(int(sys.argv[2])):
    faulthandler.dump_traceback_later(20, exit=True)
    try:
        signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.001, 0.04))
        model.decode(latents, dtype="uint8")
    except KeyboardInterrupt:
        interrupted += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
assert model.sample(200, seed=1).tobytes() == expected
print(interrupted)
"""

_EXIT = """
import sys, threading, time, vae_runtime
model = vae_runtime.load(sys.argv[1])
def work():
    while True:
        model.sample(200, seed=1)
for _ in range(int(sys.argv[2])):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
sys.exit(0)
"""


def pools_and_forks(
    forks: int = 20, methods: tuple[str, ...] = ("spawn", "forkserver", "fork")
) -> list[Figure]:
    """A model sent to workers, inherited by workers, and inherited by raw forks that end as programs do."""
    global _MODEL
    figures = []
    with vae_runtime.load(MODEL) as model:
        _MODEL = model
        expected = [model.sample(70, seed=seed).tobytes() for seed in range(4)]
        for method in methods:
            started = time.monotonic()
            with multiprocessing.get_context(method).Pool(2) as pool:
                sent = pool.starmap(_sample, [(model, seed) for seed in range(4)])
                inherited = pool.map(_sample_inherited, range(4)) if method == "fork" else expected
            figures += [
                exactly(f"pool by {method}: results equal", sent == expected == inherited, True),
                at_most(f"pool by {method}", time.monotonic() - started, 30, "s"),
            ]
    ended = _python(_FORKS, MODEL, forks, timeout=60 + 10 * forks)
    codes, slowest = json.loads(ended.stdout or "[[], Infinity]")
    return [
        *figures,
        exactly("forks that ended with 0", codes.count(0), forks),
        at_most("slowest fork", slowest, 5, "s"),
        exactly("their parent ended with", ended.returncode, 0),
    ]


def exits_during_calls(times: int = 20, threads: tuple[int, ...] = (1, 4)) -> list[Figure]:
    """The interpreter ends while daemon threads are inside the model."""
    figures = []
    for count in threads:
        ends = [_python(_EXIT, MODEL, count, timeout=60) for _ in range(times)]
        quiet = sum(ended.returncode == 0 and not ended.stderr for ended in ends)
        figures.append(exactly(f"ends with 0 and no word, {count} threads inside", quiet, times))
    return figures


def interrupted(commands: int = 5, requests: int = 300) -> list[Figure]:
    """Ctrl-C during `vae-run sample` of very many pictures, and during very many requests to one model."""
    return [*_interrupted_commands(commands), *_interrupted_requests(requests)]


def _interrupted_commands(times: int, count: int = 1_000_000) -> list[Figure]:
    # A shell starts what runs in the background with SIGINT ignored, and so would be what is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    codes, waits, words, strays = [], [], set(), 0
    for index in range(times):
        with tempfile.TemporaryDirectory() as folder:
            process = _start_vae_run(
                "-v", "sample", "-n", count, "--seed", 1, "-o", "faces.npy", folder=folder
            )
            assert process.stderr is not None
            while "prior.onnx runs on" not in process.stderr.readline():  # the last graph that it opens
                if process.poll() is not None:
                    raise RuntimeError(f"vae-run left with {process.returncode} before it began")
            time.sleep(0.3 + 0.2 * index)
            process.send_signal(signal.SIGINT)
            started = time.monotonic()
            try:
                words.add(process.communicate(timeout=30)[1].strip())
            except subprocess.TimeoutExpired:
                words.add("hung")
                process.kill()
                process.wait()
            waits.append(time.monotonic() - started)
            codes.append(process.returncode)
            strays += len(os.listdir(folder))  # noqa: PTH208 - a count
    return [
        exactly("commands that left with 130", codes.count(130), times),
        at_most("slowest to leave", max(waits), 1, "s"),
        exactly("their only words", " or ".join(words), "vae-run: error: interrupted"),
        exactly("files left", strays, 0),
    ]


def _interrupted_requests(times: int) -> list[Figure]:
    ended = _python(_INTERRUPTED, MODEL, times, timeout=120 + times)
    words = (ended.stderr.strip().splitlines() or ["none"])[0]
    return [
        exactly("requests interrupted at any moment", ended.stdout.strip(), str(times)),
        exactly("hangs and other ends", words, "none"),
    ]


def _python(code: str, *arguments: object, timeout: float) -> subprocess.CompletedProcess[str]:
    try:
        no_warning = ("-W", "ignore::DeprecationWarning")
        return run_to_its_end(*no_warning, "-c", code, *arguments, timeout=timeout, env=environment())
    except subprocess.TimeoutExpired as error:
        return subprocess.CompletedProcess(error.cmd, -signal.SIGKILL, "", "hung")


def _start_vae_run(*arguments: object, folder: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from vae_runtime.cli import main; main()", *map(str, arguments)],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def _sample(model: vae_runtime.Model, seed: int) -> bytes:
    return bytes(model.sample(70, seed=seed).tobytes())


def _sample_inherited(seed: int) -> bytes:
    assert _MODEL is not None
    return _sample(_MODEL, seed)
