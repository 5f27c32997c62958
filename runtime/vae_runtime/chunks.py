"""Large requests in pieces: bounded memory, and several threads where that is faster.

A graph this small runs fastest as several calls at once of a session with one thread each: onnxruntime
releases Python's lock while it works, and no thread waits for another inside a call.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

# Images per call. On two AVX-512 cores the rate is flat from 32 to 256 and this keeps the activations
# (8 MB for the classic decoder) within the processors' cache.
CHUNK = 64

# On a GPU a call costs more than the work of a small chunk, and the calls queue on one stream anyway.
GPU_CHUNK = 4096


def for_each_chunk(total: int, work: Callable[[slice], None], *, chunk: int, threads: int) -> None:
    """Call `work` on consecutive slices that cover `range(total)`, from up to `threads` threads at once.

    The first error, in the order of the slices, is raised; slices not yet begun are left out then, as they
    are after an interruption.
    """
    slices = [slice(start, min(start + chunk, total)) for start in range(0, total, chunk)]
    if threads == 1 or len(slices) < 2:
        for piece in slices:
            work(piece)
        return
    with ThreadPoolExecutor(min(threads, len(slices)), thread_name_prefix="vae-runtime") as pool:
        try:
            futures = _submit(pool, work, slices)
            for future in futures:
                future.result()
            for piece in slices[len(futures) :]:
                work(piece)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _submit(
    pool: ThreadPoolExecutor, work: Callable[[slice], None], slices: list[slice]
) -> list[Future[None]]:
    """Hand over as many as can be: at the interpreter's end, or at a limit of threads, Python starts no more."""
    futures: list[Future[None]] = []
    for piece in slices:
        try:
            futures.append(pool.submit(work, piece))
        except RuntimeError:
            break
    return futures
