"""`sample_stream` and `decode_stream`: what `sample` and `decode` give, batch by batch and without end."""

from __future__ import annotations

import itertools
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from counted_threads import thread_count, wait_until
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_bytes import constant, copy_bundle, decoder_of, graph, node, read_card, tensor_type
from systems import needs_fork

import vae_runtime
from vae_runtime import ClosedError, InputError, Model, NonFiniteError, noise
from vae_runtime.chunks import CHUNK
from vae_runtime.errors import ResourceLimitError

Array = npt.NDArray[Any]


@pytest.fixture(scope="module", params=[1, 3])
def model(request: pytest.FixtureRequest, gray_bundle: Path) -> Iterator[Model]:
    with vae_runtime.load(gray_bundle, provider="cpu", threads=request.param) as opened:
        yield opened


def joined(stream: Iterator[Array]) -> Array:
    return np.concatenate(list(stream))


def sizes(stream: Iterator[Array]) -> list[int]:
    return [len(batch) for batch in stream]


# What comes


@pytest.mark.parametrize("name", ["tiny-gray", "tiny-colour"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_batches_are_what_sample_gives_bit_for_bit(assets: Path, name: str, threads: int) -> None:
    with vae_runtime.load(assets / name, provider="cpu", threads=threads) as model:
        for dtype in ("float32", "uint8"):
            whole = model.decode(noise(1100, model.card.latent_size, 7), dtype=dtype)
            np.testing.assert_array_equal(model.sample(1100, 7, dtype=dtype), whole)
            for batch in (CHUNK, 5 * CHUNK, None):
                stream = model.sample_stream(1100, 7, batch=batch, dtype=dtype)
                np.testing.assert_array_equal(joined(stream), whole)


@given(n=st.integers(1, 300), batch=st.integers(1, 310), seed=st.integers(0, 2**70))
@settings(max_examples=20)
def test_in_batches_of_any_size_the_latents_are_the_same(model: Model, n: int, batch: int, seed: int) -> None:
    """The images differ by rounding where a batch ends in the midst of 64."""
    given_back = list(model.sample_stream(n, seed, batch=batch))
    assert [len(images) for images in given_back] == [
        *itertools.repeat(batch, n // batch),
        *([n % batch] if n % batch else []),
    ]
    np.testing.assert_allclose(np.concatenate(given_back), model.sample(n, seed), atol=1e-6)


def test_the_noise_of_large_requests_is_one_draw(model: Model, gray: Model) -> None:
    """Drawn in pieces, it is what numpy's generator draws at once."""
    drawn = np.random.Generator(np.random.PCG64(5)).standard_normal((3000, 3), dtype=np.float32)
    np.testing.assert_array_equal(gray.sample_latents(3000, 5), drawn)
    np.testing.assert_array_equal(model.sample(3000, 5), gray.decode(drawn))
    hot = gray.decode(drawn * np.float32(0.5))
    np.testing.assert_array_equal(model.sample(3000, 5, 0.5), hot)
    np.testing.assert_array_equal(joined(model.sample_stream(3000, 5, 0.5)), hot)


def test_noise_goes_through_the_prior_where_there_is_one(tmp_path: Path, gray_bundle: Path) -> None:
    card = {**read_card((gray_bundle / "decoder.onnx").read_bytes()), "role": "prior"}
    prior = graph(
        inputs=[tensor_type("noise", ["batch", 3])],
        outputs=[tensor_type("latent", ["batch", 3])],
        nodes=[node("Mul", ["noise", "two"], ["latent"])],
        constants=[constant("two", np.full(1, 2, np.float32))],
        card=card,
    )
    with vae_runtime.load(copy_bundle(gray_bundle, tmp_path / "b", {"prior.onnx": prior})) as model:
        whole = model.decode(2 * noise(1100, 3, 7))
        np.testing.assert_array_equal(model.sample(1100, 7), whole)
        np.testing.assert_array_equal(joined(model.sample_stream(1100, 7)), whole)
        # Latents that are given are past the prior.
        np.testing.assert_array_equal(
            joined(model.decode_stream([noise(70, 3, 7)])), model.decode(noise(70, 3, 7))
        )


def test_without_a_number_it_never_ends(model: Model) -> None:
    first = list(itertools.islice(model.sample_stream(seed=7, batch=CHUNK, dtype="uint8"), 30))
    np.testing.assert_array_equal(np.concatenate(first), model.sample(30 * CHUNK, 7, dtype="uint8"))
    one, other = model.sample_stream(batch=1), model.sample_stream(batch=1)
    assert not np.array_equal(next(one), next(other))


def test_nothing_is_no_batch(model: Model) -> None:
    assert list(model.sample_stream(0)) == []
    assert list(model.decode_stream(np.zeros((0, 3)))) == []
    assert list(model.decode_stream([])) == []


LATENTS: dict[str, Callable[[Array, Path], Any]] = {
    "an array": lambda latents, _: latents,
    "a memory-mapped array": lambda latents, folder: mapped(latents, folder),
    "an array of the other byte order": lambda latents, _: latents.astype(">f4"),
    "an array of every second row": lambda latents, _: np.repeat(latents, 2, axis=0)[::2],
    "a list of arrays": lambda latents, _: [latents[:100], latents[100:]],
    "a generator": lambda latents, _: (latents[start : start + 7] for start in range(0, len(latents), 7)),
}


def mapped(latents: Array, folder: Path) -> Any:
    np.save(folder / "latents.npy", latents)
    return np.load(folder / "latents.npy", mmap_mode="r")


@pytest.mark.parametrize("make", LATENTS.values(), ids=LATENTS)
def test_latents_come_in_many_ways(model: Model, tmp_path: Path, make: Callable[[Array, Path], Any]) -> None:
    latents = noise(300, 3, seed=1)
    stream = model.decode_stream(make(latents, tmp_path), batch=CHUNK, dtype="uint8")
    np.testing.assert_array_equal(joined(stream), model.decode(latents, dtype="uint8"))


def test_for_each_array_of_latents_comes_one_of_images_unless_it_is_too_large(model: Model) -> None:
    arrays = [noise(count, 3, seed=1) for count in (5, 1, 0, 30, 10)]
    assert sizes(model.decode_stream(arrays, batch=12)) == [5, 1, 12, 12, 6, 10]
    assert sizes(model.decode_stream(noise(30, 3, 1), batch=12)) == [12, 12, 6]
    assert sizes(model.decode_stream(noise(2000, 3, 1))) == [1024, 976]


def test_what_is_given_may_be_changed_when_the_next_is_asked_for(model: Model) -> None:
    """As a program does that reads into one and the same buffer."""
    latents = noise(500, 3, seed=1)
    buffer = np.empty((50, 3), np.float32)

    def through_one_buffer() -> Iterator[Array]:
        for start in range(0, 500, 50):
            buffer[:] = latents[start : start + 50]
            yield buffer

    np.testing.assert_allclose(
        joined(model.decode_stream(through_one_buffer())), model.decode(latents), atol=1e-6
    )


@pytest.mark.parametrize("kind", ["uint8", "float32", "uint8 with its axis"])
@pytest.mark.parametrize("as_one", [True, False])
def test_images_are_encoded_and_reconstructed_as_by_encode_and_reconstruct(
    model: Model, kind: str, as_one: bool
) -> None:
    images = model.sample(2100, 7, dtype="float32" if kind == "float32" else "uint8")
    if kind.endswith("axis"):
        images = images[..., None]
    posteriors = list(
        model.encode_stream(
            images if as_one else (images[start : start + 640] for start in range(0, 2100, 640))
        )
    )
    expected_sizes = [1024, 1024, 52] if as_one else [640, 640, 640, 180]
    assert [len(posterior.mean) for posterior in posteriors] == expected_sizes
    for name, whole in model.encode(images)._asdict().items():
        np.testing.assert_array_equal(np.concatenate([getattr(each, name) for each in posteriors]), whole)
    stream = model.reconstruct_stream(images, batch=128, dtype="uint8")
    np.testing.assert_array_equal(joined(stream), model.reconstruct(images, dtype="uint8"))
    np.testing.assert_array_equal(joined(model.reconstruct_stream(images)), model.reconstruct(images))


def test_images_that_are_none_are_refused_in_their_turn_with_their_place_in_the_whole(model: Model) -> None:
    for call in (model.encode_stream, model.reconstruct_stream):
        with pytest.raises(InputError, match=r"shape \(3, 12, 8\); expected \(N, 8, 12\)"):
            call(np.zeros((3, 12, 8), np.uint8))
        images = np.full((100, 1, 8, 12), 0.5, np.float32)
        images[57, 0, 1, 2] = np.inf
        stream = call([images[:20], images[20:]])
        next(stream)
        with pytest.raises(InputError, match=r"images hold inf at index \(57, 0, 1, 2\)"):
            next(stream)
        with pytest.raises(InputError, match=r"images range from 0\.5 to 255; expected \[0, 1\]"):
            next(call([np.minimum(images[40:], 255)]))


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": -1}, "n is -1; expected a whole number of at least 0"),
        ({"n": 2.0}, "n is 2.0"),
        ({"seed": -1}, "seed is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"batch": 0}, "batch is 0; expected a whole number of at least 1, or None"),
        ({"batch": True}, "batch is True"),
        ({"batch": 1.5}, "batch is 1.5"),
        ({"dtype": "float64"}, "dtype float64; expected float32 or uint8"),
    ],
)
def test_what_cannot_be_streamed_is_refused_at_once(
    model: Model, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        model.sample_stream(**arguments)


def test_one_array_of_another_shape_or_type_is_refused_at_once(model: Model) -> None:
    with pytest.raises(InputError, match=r"latents of shape \(3,\); expected \(N, 3\); add the batch axis"):
        model.decode_stream(np.zeros(3))
    with pytest.raises(InputError, match="latents of type bool"):
        model.decode_stream(np.zeros((2, 3), bool))


@pytest.mark.parametrize("as_one", [True, False])
def test_what_is_no_latent_is_refused_in_its_turn_with_its_place_in_the_whole(
    model: Model, as_one: bool
) -> None:
    latents = noise(100, 3, seed=1)
    latents[57, 2] = np.nan
    stream = model.decode_stream(latents if as_one else [latents[:20], latents[20:]], batch=20)
    assert sizes(itertools.islice(stream, 2)) == [20, 20]
    with pytest.raises(InputError, match=r"latents hold nan at index \(57, 2\)"):
        next(stream)
    assert next(stream, None) is None
    stream = model.decode_stream([latents[:20], latents[20:, :2]])
    assert len(next(stream)) == 20
    with pytest.raises(InputError, match=r"latents of shape \(80, 2\); expected \(N, 3\)"):
        next(stream)


def test_too_large_a_batch_is_refused_at_once(model: Model) -> None:
    for batch in (10**12, 10**30):
        with pytest.raises(ResourceLimitError, match="images at a time, several times over, would take"):
            model.sample_stream(batch=batch)
        with pytest.raises(ResourceLimitError, match="several times over"):
            model.decode_stream([], batch=batch)
    assert len(next(model.sample_stream(batch=3))) == 3


def test_memory_that_runs_out_later_is_told_as_an_error_of_ours(model: Model) -> None:
    def latents() -> Iterator[Array]:
        yield np.zeros((1, 3))
        raise MemoryError("Unable to allocate 9 PiB")

    stream = model.decode_stream(latents())
    next(stream)
    with pytest.raises(ResourceLimitError, match=r"not enough memory \(Unable to allocate 9 PiB\)"):
        next(stream)


def test_a_model_that_makes_nan_is_told_on_after_what_came_before(tmp_path: Path, gray_bundle: Path) -> None:
    decoder = decoder_of(
        (gray_bundle / "decoder.onnx").read_bytes(), lambda before, after: [node("Log", [before], [after])]
    )
    latents = np.ones((100, 3), np.float32)
    latents[45] = -1
    bundle = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})
    with vae_runtime.load(bundle, threads=3) as model:
        stream = model.decode_stream(latents, batch=20)
        assert sizes(itertools.islice(stream, 2)) == [20, 20]
        with pytest.raises(NonFiniteError, match="the decoder produced 96 NaN or infinite values"):
            next(stream)
        with pytest.raises(NonFiniteError, match=r"the decoder produced \d+ NaN"):
            model.sample(10_000, seed=0)
    with vae_runtime.load(bundle, threads=3, check_finite=False) as model:
        assert np.isnan(joined(model.decode_stream(latents, batch=20))).any(axis=(1, 2, 3)).sum() == 1


# Bounds


def test_a_batch_that_its_taker_lets_go_of_is_held_by_nobody_while_the_next_is_made(model: Model) -> None:
    given_out: list[weakref.ref[Array]] = []

    def latents() -> Iterator[Array]:
        while True:
            assert not any(reference() is not None for reference in given_out)
            yield np.zeros((50, 3))

    stream = model.decode_stream(latents())
    while len(given_out) < 20:
        given_out.append(weakref.ref(next(stream)))


def test_an_iterable_is_not_asked_for_more_than_one_array_ahead(model: Model) -> None:
    asked = 0

    def latents() -> Iterator[Array]:
        nonlocal asked
        while True:
            asked += 1
            yield np.zeros((10, 3))

    for taken, _ in enumerate(itertools.islice(model.decode_stream(latents()), 20), start=1):
        time.sleep(0.001)
        assert taken <= asked <= taken + 1


def test_who_takes_slowly_finds_the_threads_at_rest(model: Model) -> None:
    before = thread_count()
    stream = model.sample_stream()
    next(stream)
    wait_until(lambda: thread_count() == before)


# One model, many who use it


def test_streams_may_run_beside_each_other_and_beside_calls(model: Model) -> None:
    right = model.sample(640, 7)
    streams = [model.sample_stream(640, 7, batch=CHUNK) for _ in range(3)]
    for index, batches in enumerate(zip(*streams, strict=True)):
        for images in batches:
            np.testing.assert_array_equal(images, right[CHUNK * index : CHUNK * (index + 1)])
        np.testing.assert_array_equal(model.sample(10, 3), model.sample(10, 3))
    with ThreadPoolExecutor(4) as pool:
        for images in pool.map(lambda _: joined(model.sample_stream(640, 7, batch=CHUNK)), range(8)):
            np.testing.assert_array_equal(images, right)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_closed_model_ends_its_streams(gray_bundle: Path, threads: int) -> None:
    model = vae_runtime.load(gray_bundle, threads=threads)
    begun, untouched = model.sample_stream(batch=10), model.decode_stream(np.zeros((30, 3)))
    next(begun)
    model.close()
    for stream in (begun, untouched):
        with pytest.raises(ClosedError, match="the model is closed; load it again"):
            next(stream)
    for call in (model.sample_stream, lambda: model.decode_stream([])):
        with pytest.raises(ClosedError):
            call()


# Processes


@needs_fork
@pytest.mark.parametrize("threads", [1, 3])
def test_a_forked_child_goes_on_where_its_parent_was(
    run_python: Any, gray_bundle: Path, threads: int
) -> None:
    finished = run_python(
        """
import os, sys
import numpy as np, vae_runtime
model = vae_runtime.load(sys.argv[1], threads=int(sys.argv[2]))
whole = model.sample(64 * 300, 7)
for cut in (1, 4, 11):
    stream = model.sample_stream(64 * 300, 7, batch=64 * 25)
    begun = [next(stream) for _ in range(cut)]
    child = os.fork()
    rest = list(stream)
    same = np.array_equal(np.concatenate(begun + rest), whole)
    if child == 0:
        sys.exit(0 if same else 1)
    assert same
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
""",
        gray_bundle,
        threads,
        flags=("-W", "ignore"),  # from 3.12 on Python advises against forks beside threads
    )
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize("held", ["held", "dropped", "by a daemon"])
def test_the_interpreter_ends_in_the_midst_of_a_stream(run_python: Any, gray_bundle: Path, held: str) -> None:
    """Without doing first what was ahead: that would be a minute of work here."""
    finished = run_python(
        """
import sys, threading, time
import numpy as np, vae_runtime
model = vae_runtime.load(sys.argv[1], threads=3)
run = model._engine.run
def run_slowly(role, batch):
    time.sleep(0.05)
    return run(role, batch)
model._engine.run = run_slowly
stream = model.decode_stream([[[0.0, 0, 0]], np.zeros((64 * 3000, 3), np.float32)], batch=64 * 3000)
if sys.argv[2] == "by a daemon":
    threading.Thread(target=lambda: list(stream), daemon=True).start()
    time.sleep(0.2)
else:
    next(stream)
    if sys.argv[2] == "dropped":
        del stream
""",
        gray_bundle,
        held,
        flags=("-W", "error"),
        timeout=20,
    )
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize(
    ("end", "printed"),
    [("", ""), ("print(*map(len, (next(self.stream), next(self.stream))))", "1000 1000\n")],
)
def test_a_stream_that_is_forgotten_when_threads_are_no_more_waits_for_none(
    run_python: Any, gray_bundle: Path, end: str, printed: str
) -> None:
    """What is held to the interpreter's very end is let go of when it has stopped all other threads."""
    finished = run_python(
        """
import builtins, sys, time
import vae_runtime
model = vae_runtime.load(sys.argv[1], threads=3)
run = model._engine.run
def run_slowly(role, batch):
    time.sleep(0.02)
    return run(role, batch)
model._engine.run = run_slowly
class Holder:
    def __del__(self):
        exec(self.end)
builtins.holder = Holder()
holder.end, holder.stream = sys.argv[2], model.sample_stream(10_000, batch=1000)
next(holder.stream)
""",
        gray_bundle,
        end,
        flags=("-W", "error"),
        timeout=20,
    )
    assert (finished.returncode, finished.stderr, finished.stdout) == (0, "", printed)


def test_who_leaves_last_may_still_stream(run_python: Any, gray_bundle: Path) -> None:
    """When no thread may begin a call any more but the one that ends the interpreter."""
    finished = run_python(
        """
import atexit, sys
atexit.register(lambda: print(sum(map(len, model.sample_stream(5000, batch=1000)))))
import vae_runtime
model = vae_runtime.load(sys.argv[1], threads=3)
""",
        gray_bundle,
    )
    assert (finished.returncode, finished.stderr, finished.stdout) == (0, "", "5000\n")


@pytest.mark.parametrize("what", [None, 5], ids=str)
def test_what_gives_no_arrays_is_refused_at_once(gray: Model, what: Any) -> None:
    for stream in (gray.decode_stream, gray.encode_stream, gray.reconstruct_stream, gray.score_stream):
        with pytest.raises(InputError, match="given; expected an array, or an iterable of arrays"):
            stream(what)
