"""Requests that no memory holds: an error of ours at once, and the model goes on working."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_bytes import constant, copy_bundle, decoder_of, graph, message, node, read_card, tensor_type

from vae_runtime import Model, control_groups, memory
from vae_runtime.errors import EnvironmentProblem, ResourceLimitError
from vae_runtime.memory import explain_exhaustion, is_exhaustion, memory_left, require_memory

TOO_MANY = 10**14  # of anything: no machine has a petabyte

REQUESTS: dict[str, Callable[[Model], Any]] = {
    "samples": lambda model: model.sample(TOO_MANY),
    "samples as pictures": lambda model: model.sample(TOO_MANY, dtype="uint8"),
    "more samples than an array can have": lambda model: model.sample(10**30),
    "latents": lambda model: model.sample_latents(TOO_MANY),
    "latents to decode": lambda model: model.decode(np.broadcast_to(np.float32(0), (TOO_MANY, 3))),
    "pictures to encode": lambda model: model.encode(np.broadcast_to(np.uint8(0), (TOO_MANY, 8, 12))),
    "images to encode": lambda model: model.encode(np.broadcast_to(np.float64(0), (TOO_MANY, 1, 8, 12))),
    "pictures to reconstruct": lambda model: model.reconstruct(
        np.broadcast_to(np.uint8(0), (TOO_MANY, 8, 12))
    ),
    "images on a way": lambda model: model.interpolate(np.zeros(3), np.ones(3), TOO_MANY),
    "images on a way, by numpy's number": lambda model: model.interpolate(
        np.zeros(3), np.ones(3), np.int64(TOO_MANY)
    ),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_what_no_memory_holds_is_refused_and_the_model_goes_on(
    gray: Model, request_: Callable[[Model], Any]
) -> None:
    before = gray.sample(3, seed=7)
    with pytest.raises(
        ResourceLimitError, match=r"^not enough memory \(.*(TB|TiB|PiB).*\); ask for fewer at a time$"
    ) as refused:
        request_(gray)
    assert isinstance(refused.value, EnvironmentProblem)
    assert refused.value.exit_code == 4
    assert "\n" not in str(refused.value)
    np.testing.assert_array_equal(gray.sample(3, seed=7), before)


def test_it_says_how_much_is_wanted_and_how_much_is_left(gray: Model) -> None:
    # A latent of 3 numbers and an image of 96, of four bytes each.
    with pytest.raises(
        ResourceLimitError,
        match=r"\(100000000000000 images and their latents would take 39,600\.0 TB; .* are left\);",
    ):
        gray.sample(TOO_MANY)


def test_memory_that_runs_out_in_onnxruntime_is_told_and_the_model_goes_on(
    run_python: Any, gray_bundle: Path, tmp_path: Path
) -> None:
    """A decoder that goes by 12 MB of each latent to a small image, in a process that may have 600 MB more."""
    twice = (5, message((1, "axis"), (3, 1), (20, 2)))
    names = ["latent", *(f"twice{number}" for number in range(20))]
    doubling = [
        message((1, before), (1, before), (2, after), (4, "Concat"), twice)
        for before, after in itertools.pairwise(names)
    ]
    card = read_card((gray_bundle / "decoder.onnx").read_bytes())
    decoder = graph(
        inputs=[tensor_type("latent", ["batch", 3])],
        outputs=[tensor_type("image", ["batch", *card["image_shape"]])],
        nodes=[
            *doubling,
            node("Slice", [names[-1], "begin", "end", "axis"], ["pixels"]),
            node("Reshape", ["pixels", "shape"], ["image"]),
        ],
        constants=[
            constant("begin", np.array([0], np.int64)),
            constant("end", np.array([math.prod(card["image_shape"])], np.int64)),
            constant("axis", np.array([1], np.int64)),
            constant("shape", np.array([-1, *card["image_shape"]], np.int64)),
        ],
        card=card,
    )
    bundle = copy_bundle(gray_bundle, tmp_path / "b", {"decoder.onnx": decoder})
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 30)
    finished = run_python(
        """
import re, resource, sys
from pathlib import Path
import numpy as np, vae_runtime
from vae_runtime.errors import ResourceLimitError
from vae_runtime.members import Members
with vae_runtime.load(sys.argv[1], provider="cpu", threads=1) as model:
    assert model.decode(np.ones((1, 3), np.float32)).min() == 1
    taken = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (taken + (600 << 20),) * 2)
    for attempt in (
        lambda: model.decode(np.ones((40, 3), np.float32)),
        lambda: model.sample(100, dtype="uint8"),
        lambda: Members(Path(sys.argv[2])).read("large", 1 << 40),
    ):
        try:
            attempt()
        except ResourceLimitError as error:
            print(error)
    assert model.decode(np.ones((1, 3), np.float32)).min() == 1
""",
        bundle,
        tmp_path,
    )
    assert finished.returncode == 0, finished.stderr
    run, sample, file_ = finished.stdout.splitlines()
    assert f"{bundle}/decoder.onnx: failed on a batch of shape (40, 3) on provider 'cpu': " in run
    assert f"{bundle}/decoder.onnx: failed on a batch of shape (64, 3) on provider 'cpu': " in sample
    assert file_ == f"{tmp_path}/large: its 1073741824 bytes do not fit into memory"


def test_a_graph_for_which_there_is_no_room_is_not_opened_and_told(
    run_python: Any, gray_bundle: Path, tmp_path: Path
) -> None:
    weights = constant("weights", np.zeros((1 << 23,), np.float32))
    data = decoder_of(
        (gray_bundle / "decoder.onnx").read_bytes(),
        lambda before, after: [
            node("ReduceSum", ["weights"], ["sum"]),
            node("Add", [before, "sum"], [after]),
        ],
        [weights],
    )
    (tmp_path / "decoder.onnx").write_bytes(data)
    finished = run_python(
        """
import re, resource, sys
from pathlib import Path
from vae_runtime.errors import ResourceLimitError
from vae_runtime.installation import import_onnxruntime
from vae_runtime.session import Graph
import_onnxruntime()
data = Path(sys.argv[1]).read_bytes()
taken = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (taken + (24 << 20), -1))
try:
    Graph("decoder", data, source="b", provider="cpu")
except ResourceLimitError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
Graph("decoder", data, source="b", provider="cpu")
""",
        tmp_path / "decoder.onnx",
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("b/decoder.onnx: not enough memory to open it: "), finished.stdout
    assert finished.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "exhausted"),
    [
        (MemoryError(), True),
        (RuntimeError("Failed to allocate memory for requested buffer of size 805306368"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("bad allocation"), True),
        (RuntimeError("CUDA error 2: out of memory"), True),
        (RuntimeError("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("Invalid rank for input: latent"), False),
        (ValueError("badly allocated"), False),
    ],
)
def test_it_is_told_by_the_words_of_those_who_allocate(error: Exception, exhausted: bool) -> None:
    assert is_exhaustion(error) is exhausted


def test_small_requests_are_not_compared_with_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_left", lambda: 0)
    require_memory(256 << 20, "a little")
    with pytest.raises(ResourceLimitError, match=r"\(more would take 268 MB; 0 MB are left\)"):
        require_memory((256 << 20) + 1, "more")


def test_where_nothing_is_known_everything_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "memory_left", lambda: None)
    require_memory(1 << 80, "anything")


GIGABYTE = 1 << 30

V2, V1, GROUPS = "sys/fs/cgroup/", "sys/fs/cgroup/memory/", "proc/self/cgroup"
HALF = f"{GIGABYTE // 2}\n"


@pytest.mark.parametrize(
    ("machine", "groups", "left"),
    [
        ("MemTotal: 9 kB\nMemAvailable: 1048576 kB\nSwapFree: 1048576 kB\n", {}, 2 * GIGABYTE),
        ("MemAvailable: 1048576 kB\nSwapFree: 0 kB\n", {V2 + "memory.max": "max\n"}, GIGABYTE),
        ("MemAvailable: 1048576 kB\nSwapFree: 0 kB\n", {V2 + "memory.max": HALF}, GIGABYTE // 2),
        ("MemAvailable: 1048576 kB\nSwapFree: 0 kB\n", {V2 + "memory.max": f"{2 * GIGABYTE}\n"}, GIGABYTE),
        ("MemAvailable: 1048576 kB\nSwapFree: 0 kB\n", {V1 + "memory.limit_in_bytes": HALF}, GIGABYTE // 2),
    ],
)
def test_what_is_left_is_the_machines_or_the_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, groups: dict[str, str], left: int
) -> None:
    (tmp_path / "machine").write_text(machine)
    monkeypatch.setattr(memory, "_MEMORY", tmp_path / "machine")
    write_groups(tmp_path, monkeypatch, groups)
    assert memory_left() == left


@pytest.mark.parametrize(
    ("groups", "left"),
    [
        # What the group has is not left, but for files, which can be read again; shared memory cannot.
        ({V2 + "memory.max": "900\n", V2 + "memory.current": "300\n"}, 600),
        ({V2 + "memory.max": "900\n", V2 + "memory.current": "300\n",
          V2 + "memory.stat": "anon 150\nfile 200\nshmem 50\n"}, 750),
        ({V2 + "memory.max": "900\n", V2 + "memory.current": "300\n", V2 + "memory.stat": "file 400\n"}, 900),
        ({V2 + "memory.max": "900\n", V2 + "memory.current": "950\n"}, 0),
        ({V2 + "memory.max": "900\n", V2 + "memory.current": "?\n", V2 + "memory.stat": "file\n\nfile x"}, 900),
        ({V1 + "memory.limit_in_bytes": "900\n", V1 + "memory.usage_in_bytes": "300\n",
          V1 + "memory.stat": "cache 1\ntotal_cache 200\ntotal_shmem 50\n"}, 750),
        # A service of systemd: the process is told which group it is in, and a group above may allow less.
        ({GROUPS: "0::/user.slice/a.service\n", V2 + "user.slice/a.service/memory.max": "900\n"}, 900),
        ({GROUPS: "0::/user.slice/a.service\n", V2 + "user.slice/a.service/memory.max": "900\n",
          V2 + "user.slice/memory.max": "1000\n", V2 + "user.slice/memory.current": "300\n"}, 700),
        ({GROUPS: "4:memory:/a/b\n1:cpu:/\n0::/\n", V1 + "a/b/memory.limit_in_bytes": "900\n"}, 900),
        # A container that is told its path outside, which does not exist within.
        ({GROUPS: "4:memory:/docker/abc\n0::/\n", V1 + "memory.limit_in_bytes": "900\n"}, 900),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_left_of_a_group_is_what_it_and_those_above_have_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: dict[str, str], left: int
) -> None:
    write_groups(tmp_path, monkeypatch, groups)
    assert memory_left() == left


def write_groups(root: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    """Let a folder with these files be the root of the system."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(control_groups, "ROOT", root)


@pytest.mark.parametrize("listing", ["", "MemAvailable\n", "MemAvailable: many kB\nSwapFree: 0 kB\n", None])
def test_where_the_system_lists_nothing_it_is_what_is_built_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listing: str | None
) -> None:
    if listing is not None:
        (tmp_path / "machine").write_text(listing)
    monkeypatch.setattr(memory, "_MEMORY", tmp_path / "machine")
    write_groups(tmp_path, monkeypatch, {})
    left = memory_left()
    assert left is not None
    assert left > 64 << 20


def test_an_exhausted_function_says_what_python_says() -> None:
    @explain_exhaustion
    def ask(message: str) -> None:
        raise MemoryError(message)

    with pytest.raises(
        ResourceLimitError, match=r"^not enough memory \(Unable to allocate 9 PiB\); ask for fewer"
    ):
        ask("Unable to allocate 9 PiB")
    with pytest.raises(ResourceLimitError, match=r"^not enough memory \(an allocation failed\); ask"):
        ask("")
