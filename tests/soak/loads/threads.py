"""Several threads on one model."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import vae_runtime
from loads.machine import held_now
from loads.row import Figure, at_least, at_most, exactly, told

MODEL, LARGER_MODEL = "faces24", "faces64"
_REQUESTS = 32


class _Requests:
    """Batches of latents of a model, each with the bytes of the images that belong to it."""

    def __init__(self, batch: int, name: str = MODEL) -> None:
        self.name, self.batch = name, batch
        draws = np.random.default_rng(0)
        with vae_runtime.load(name, threads=1) as model:
            size = model.card.latent_size
            self._latents = [draws.standard_normal((batch, size), np.float32) for _ in range(_REQUESTS)]
            self._expected = [model.decode(latents).tobytes() for latents in self._latents]

    def __str__(self) -> str:
        return f"{self.name}, {self.batch} images a call"

    def latents(self, number: int) -> npt.NDArray[np.float32]:
        """Return the batch of a number."""
        return self._latents[number % _REQUESTS]

    def is_right(self, model: vae_runtime.Model, number: int) -> bool:
        """Decode a batch; tell whether every bit is as it was when one thread did it."""
        index = number % _REQUESTS
        return bool(model.decode(self._latents[index]).tobytes() == self._expected[index])


def eight_threads_on_one_model(seconds: float = 60, turns: int = 10) -> list[Figure]:
    """Results are bitwise those of one thread, and eight threads get about as much done.

    A call for four images of 24x24 takes no longer than Python needs to hand its lock from thread to thread a few
    times: what that costs is told, beside what it costs onnxruntime by itself, which lets go of the lock once a call.
    """
    promised = (_Requests(4, LARGER_MODEL), _Requests(16))
    smallest = _Requests(4)
    with ExitStack() as stack:
        models = {
            name: stack.enter_context(vae_runtime.load(name, threads=1)) for name in (MODEL, LARGER_MODEL)
        }
        bare = models[MODEL]._engine._graphs["decoder"]._session

        def of_bare(number: int) -> bool:
            return len(bare.run(["image"], {"latent": smallest.latents(number)})) == 1

        calls = {
            str(requests): partial(requests.is_right, models[requests.name])
            for requests in (*promised, smallest)
        }
        calls["bare onnxruntime, the same"] = of_bare
        rates: dict[tuple[str, int], list[float]] = {(name, n): [] for name in calls for n in (1, 8)}
        wrong, each = 0, seconds / turns / len(rates)
        for _ in range(turns):
            for (name, threads), found in rates.items():
                done, bad = _in_threads(threads, each, calls[name])
                found.append(done / each)
                wrong += bad
    ratios = {
        f"8 threads over one, {name}": statistics.median(rates[name, 8]) / statistics.median(rates[name, 1])
        for name in calls
    }
    names = tuple(ratios)
    return [
        exactly("results that differ from serial ones", wrong, 0),
        *(at_least(name, ratios[name], 0.9, of_time=True) for name in names[: len(promised)]),
        *(told(name, ratios[name]) for name in names[len(promised) :]),
        at_least("calls", int(sum(map(sum, rates.values())) * each), 8),
        told("calls a second, 8 threads, 4 images", statistics.median(rates[str(smallest), 8])),
    ]


def threads_within_threads(seconds: float = 20) -> list[Figure]:
    """Requests of several chunks from eight threads, each request on several threads of its own."""
    requests = _Requests(batch=200)
    figures = []
    for threads, name in ((2, "threads=2"), (None, "threads by default")):
        with vae_runtime.load(MODEL, threads=threads) as model:
            done, bad = _in_threads(8, seconds / 2, lambda number: requests.is_right(model, number))
        figures += [exactly(f"{name}: results that differ", bad, 0), at_least(f"{name}: calls", done, 8)]
    return figures


def threads_that_load_and_unload(seconds: float = 10) -> list[Figure]:
    """Eight threads each open a model, use it and close it, again and again."""
    requests = _Requests(batch=4)

    def cycle(number: int) -> bool:
        with vae_runtime.load(MODEL, threads=1) as model:
            return requests.is_right(model, number)

    _in_threads(8, min(1.0, seconds / 4), cycle)
    before = held_now()
    done, bad = _in_threads(8, seconds, cycle)
    after = held_now()
    return [
        exactly("results that differ", bad, 0),
        at_most("memory at the end over that at the start", after.megabytes - before.megabytes, 20, "MB"),
        exactly("descriptors more than at the start", after.descriptors - before.descriptors, 0),
        exactly("threads more than at the start", after.threads - before.threads, 0),
        at_least("cycles", done, 8),
    ]


def closed_while_threads_run(times: int = 200) -> list[Figure]:
    """`close()` under the hands of four threads: right results until then, `ClosedError` after."""
    requests = _Requests(batch=70)
    ends: dict[str, int] = {"right": 0, "closed": 0, "other": 0}
    lock = threading.Lock()

    def use(model: vae_runtime.Model, started: threading.Barrier, answered: threading.Event) -> None:
        started.wait()
        for number in range(1_000_000):
            try:
                end = "right" if requests.is_right(model, number) else "other"
            except vae_runtime.ClosedError:
                end = "closed"
            except BaseException:  # noqa: BLE001 - counted, whatever it is
                end = "other"
            with lock:
                ends[end] += 1
            if end != "right":
                return
            answered.set()

    for index in range(times):
        model = vae_runtime.load(MODEL)
        started, answered = threading.Barrier(5), threading.Event()
        threads = [threading.Thread(target=use, args=(model, started, answered)) for _ in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        if index % 2:
            answered.wait(timeout=60)
        time.sleep(0.0005 * (index % 40))
        model.close()
        for thread in threads:
            thread.join(timeout=60)
            ends["other"] += thread.is_alive()
    return [
        exactly("threads that ended with ClosedError", ends["closed"], 4 * times),
        exactly("wrong results and other errors", ends["other"], 0),
        at_least("right results before", ends["right"], 1),
    ]


def _in_threads(count: int, seconds: float, work: Callable[[int], bool]) -> tuple[int, int]:
    """Call `work` with numbers from so many threads for so long; return how many calls, and how many were wrong."""
    stop = threading.Event()
    done, wrong = [0] * count, [0] * count
    failed: list[BaseException] = []

    def repeat(thread: int) -> None:
        try:
            while not stop.is_set():
                wrong[thread] += not work(thread + count * done[thread])
                done[thread] += 1
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    threads: list[Any] = [threading.Thread(target=repeat, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return sum(done), sum(wrong)
