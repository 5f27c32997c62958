"""Memory, descriptors and threads over many calls."""

from __future__ import annotations

import time

import numpy as np

import vae_runtime
from loads.machine import held_now, peak_megabytes
from loads.row import Figure, at_most, exactly, told
from loads.threads import MODEL


def many_sizes_for_long(seconds: float = 60) -> list[Figure]:
    """Batches of random sizes through every way of using a model."""
    draws = np.random.default_rng(0)
    with vae_runtime.load(MODEL) as model:
        calls, started, settled = 0, time.monotonic(), None
        while (elapsed := time.monotonic() - started) < seconds:
            if settled is None and elapsed > seconds / 5:
                settled = held_now()
            n = int(draws.integers(1, 65))
            pictures = model.sample(n, seed=calls, dtype="uint8")
            mean, _ = model.encode(pictures)
            model.reconstruct(pictures)
            model.interpolate(mean[0], mean[-1], steps=n + 1)
            vae_runtime.grid(pictures)
            if calls % 50 == 0:
                model.sample(n * 10)  # over several threads
            calls += 5
        assert settled is not None
        end = held_now()
    return [
        at_most("memory growth over the last four fifths", end.megabytes - settled.megabytes, 5, "MB"),
        exactly("descriptors more", end.descriptors - settled.descriptors, 0),
        exactly("threads more", end.threads - settled.threads, 0),
        told("calls", calls),
        told("memory at the end", end.megabytes, "MB"),
    ]


def many_loads(cycles: int = 1_000, settle: int = 20) -> list[Figure]:
    """Open, use and close a model, again and again."""
    with vae_runtime.load(MODEL) as model:
        expected = model.sample(4, seed=1).tobytes()
    wrong, settled, started = 0, held_now(), time.monotonic()
    for cycle in range(cycles):
        if cycle == settle:
            settled, started = held_now(), time.monotonic()
        with vae_runtime.load(MODEL) as model:
            wrong += model.sample(4, seed=1).tobytes() != expected
    seconds = time.monotonic() - started
    end = held_now()
    return [
        exactly("wrong results", wrong, 0),
        at_most(f"memory growth after {settle} cycles", end.megabytes - settled.megabytes, 5, "MB"),
        at_most("time of a cycle", 1000 * seconds / max(1, cycles - settle), 20, "ms"),
        exactly("descriptors more", end.descriptors - settled.descriptors, 0),
        exactly("threads more", end.threads - settled.threads, 0),
        told("cycles", cycles),
    ]


def requests_beyond_memory() -> list[Figure]:
    """Requests that no memory holds: refused at once, and the model as good as before."""
    figures = []
    with vae_runtime.load(MODEL) as model:
        expected = model.sample(4, seed=1).tobytes()
        ends = np.zeros(model.card.latent_size), np.ones(model.card.latent_size)
        few = np.zeros((1, model.card.latent_size), np.float32)
        requests = {
            "sample(10**9)": lambda: model.sample(10**9),
            "sample(10**9, uint8)": lambda: model.sample(10**9, dtype="uint8"),
            "sample(10**15)": lambda: model.sample(10**15),
            "sample(10**30)": lambda: model.sample(10**30),
            "interpolate(steps=10**12)": lambda: model.interpolate(*ends, steps=10**12),
            "decode(10**9 latents)": lambda: model.decode(np.broadcast_to(few, (10**9, few.shape[1]))),
        }
        slowest = 0.0
        for name, request in requests.items():
            started = time.monotonic()
            try:
                request()
                end = "an answer"
            except Exception as error:  # noqa: BLE001 - its type is the figure
                end = type(error).__name__
            slowest = max(slowest, time.monotonic() - started)
            figures.append(exactly(name, end, "ResourceLimitError"))
        again = model.sample(4, seed=1).tobytes()
    return [
        *figures,
        at_most("slowest answer", slowest, 1, "s"),
        at_most("most memory held", peak_megabytes(), 300, "MB"),
        exactly("the next call is right", again == expected, True),
    ]
