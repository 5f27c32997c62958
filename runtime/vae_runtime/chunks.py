"""Large requests in pieces: bounded memory, and several threads where that is faster.

A graph this small runs fastest as several calls at once of a session with one thread each: onnxruntime
releases Python's lock while it works, and no thread waits for another inside a call.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable

from vae_runtime.helpers import Helpers, raise_first

# Images per call at most. On two AVX-512 cores the rate is flat from 32 to 256 and this keeps the activations
# (8 MB for the classic decoder) within the processors' cache.
CHUNK = 64

# Pixels per call, which say how much work an image is: so many take a millisecond or more, a few times what it
# takes to start a thread for the next ones.
_PIXELS = CHUNK * 24 * 24

# An encoder, which has no layers that can be folded, takes a few times as long as a decoder: a thread is worth its
# start for fewer images.
_SHARE_OF_AN_ENCODER = 2

# On a GPU a call costs more than the work of a small chunk, and the calls queue on one stream anyway.
_TIMES_ON_A_GPU = 64


def chunk_size(image_shape: tuple[int, int, int], *, on_gpu: bool) -> int:
    """Return how many images of (C, H, W) go through a graph at once.

    It is the same for any number of threads, so that these change no bit of what is made, and a power of 2, so that
    a stream's batches of a multiple of 64 are cut where one large request is.
    """
    times = _TIMES_ON_A_GPU if on_gpu else 1
    most = min(CHUNK * times, _PIXELS * times // math.prod(image_shape))
    return 1 << max(0, most.bit_length() - 1)


def encoder_chunk_size(chunk: int, *, on_gpu: bool) -> int:
    """Return how many images go through an encoder at once, where `chunk` go through a decoder: a power of 2, too."""
    return chunk if on_gpu else max(1, chunk // _SHARE_OF_AN_ENCODER)


def for_each_chunk(total: int, work: Callable[[slice], None], *, chunk: int, threads: int) -> None:
    """Call `work` on consecutive slices that cover `range(total)`, from up to `threads` threads at once.

    The calling thread is one of them, and the only one where no other can be started: at the interpreter's
    end, or at a limit of threads. The first error, in the order of the slices, is raised; slices not yet begun
    are left out then, as they are after an interruption.
    """
    waiting = deque(slice(start, min(start + chunk, total)) for start in range(0, total, chunk))
    failed: dict[int, BaseException] = {}

    def work_off() -> None:
        while True:
            try:
                piece = waiting.popleft()
            except IndexError:
                return
            try:
                work(piece)
            except BaseException as error:  # noqa: BLE001 - raised below, in the thread that called
                failed[piece.start] = error
                waiting.clear()

    helpers = Helpers()
    try:
        # At the interpreter's end whoever works, works alone.
        if threading.main_thread().is_alive():
            for _ in range(min(threads, len(waiting)) - 1):
                if not helpers.begin(work_off):
                    break
        work_off()
    finally:
        waiting.clear()
        helpers.wait()
    if failed:
        raise_first(failed)
