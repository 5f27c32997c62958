"""No file outside of a bundle is opened, whichever way a stranger's bundle names it.

Seen from outside: Linux tells of each opening and reading of the canary files, by Python or by onnxruntime.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_bytes as onnx
import pytest

SECRET = np.arange(96, dtype=np.float32).tobytes()
SHAPE = [1, 1, 8, 12]

_IN_ACCESS, _IN_OPEN = 0x1, 0x20


class Watch:
    """What happens to some files, as the kernel tells it."""

    def __init__(self, paths: Sequence[Path]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            pytest.skip("this system does not tell of openings")
        self._names = {
            libc.inotify_add_watch(self._descriptor, os.fsencode(path), _IN_ACCESS | _IN_OPEN): path.name
            for path in paths
        }

    def events(self) -> list[str]:
        """Return what has happened since the last question."""
        found = []
        try:
            data = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return []
        while data:
            watched, mask, _, length = struct.unpack_from("iIII", data)
            found.append(f"{self._names[watched]} {'opened' if mask & _IN_OPEN else 'read'}")
            data = data[16 + length :]
        return found

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def canaries(tmp_path: Path) -> Iterator[Watch]:
    """Files with a secret: in the current folder of the process, above it, and at an absolute path."""
    if sys.platform != "linux":
        pytest.skip("only Linux tells of openings so")
    (tmp_path / "cwd" / "b").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    paths = [tmp_path / name for name in ("cwd/canary", "canary", "elsewhere/canary", "elsewhere/model.onnx")]
    for path in paths:
        path.write_bytes(SECRET)
    (tmp_path / "cwd" / "link").symlink_to(tmp_path / "elsewhere" / "canary")
    watch = Watch(paths)
    yield watch
    watch.close()


LOAD = """
import json, os, sys
from pathlib import Path
import vae_runtime
from vae_runtime.errors import VaeError
for folder in map(Path, sys.argv[2:]):
    os.chdir(sys.argv[1])
    try:
        with vae_runtime.load(folder, provider="cpu") as model:
            model.sample(1)
            print(json.dumps([folder.name, "opened"]))
    except VaeError as error:
        print(json.dumps([folder.name, type(error).__name__]))
"""


def outside(location: str, *more: tuple[str, str]) -> bytes:
    """A tensor whose numbers are in another file."""
    entries = [onnx.message((1, key), (2, value)) for key, value in (("location", location), *more)]
    return onnx.message(
        *((1, size) for size in SHAPE),
        (2, onnx.FLOAT),
        (8, "outside"),
        *((13, entry) for entry in entries),
        (14, 1),
    )


def attribute(name: str, number: int, value: bytes, kind: int) -> tuple[int, bytes]:
    return 5, onnx.message((1, name), (number, value), (20, kind))


def adding(*nodes: bytes, constants: Sequence[bytes] = ()) -> Any:
    """A decoder whose image has the outside numbers added."""

    def build(card_source: bytes) -> bytes:
        return onnx.decoder_of(
            card_source,
            lambda before, after: [*nodes, onnx.node("Add", [before, "outside"], [after])],
            constants,
        )

    return build


def in_a_branch(location: str) -> Any:
    """An If whose two branches hold the tensor: from bytes, onnxruntime looks for it in the current folder."""
    branch = onnx.message(
        (1, onnx.node("Identity", ["inside"], ["given"])),
        (2, "branch"),
        (5, _renamed(outside(location))),
        (12, onnx.tensor_type("given", SHAPE)),
    )
    choose = onnx.message(
        (1, "truth"), (2, "outside"), (4, "If"),
        attribute("then_branch", 6, branch, 5), attribute("else_branch", 6, branch, 5),
    )  # fmt: skip
    truth = onnx.message((2, 9), (8, "truth"), (9, b"\x01"))
    return adding(choose, constants=[truth])


def _renamed(tensor: bytes) -> bytes:
    return onnx.message(*((n, b"inside" if n == 8 else value) for n, value in onnx.fields(tensor)))


def sparse(location: str) -> Any:
    def build(card_source: bytes) -> bytes:
        values = onnx.message(
            (1, 96),
            (2, onnx.FLOAT),
            (8, "outside"),
            (13, onnx.message((1, "location"), (2, location))),
            (14, 1),
        )
        indices = onnx.constant("indices", np.arange(96, dtype=np.int64))
        initializer = onnx.message((1, values), (2, indices), *((3, size) for size in SHAPE))
        data = adding()(card_source)
        return onnx.message(
            *(
                (n, value + onnx.message((15, initializer)) if n == 7 else value)
                for n, value in onnx.fields(data)
            )
        )

    return build


def as_constant(location: str) -> Any:
    return adding(onnx.message((2, "outside"), (4, "Constant"), attribute("value", 5, outside(location), 4)))


def routes(folder: Path) -> dict[str, Any]:
    """Every way in which a graph may name a file: how it names it, and where in the graph."""
    names = {
        "beside": "canary",
        "above": "../canary",
        "absolute": str(folder / "elsewhere" / "canary"),
        "link": "link",
        "dotted": "./b/../canary",
    }
    found = {}
    for how, location in names.items():
        found[f"initializer {how}"] = adding(constants=[outside(location)])
        found[f"branch {how}"] = in_a_branch(location)
        found[f"sparse {how}"] = sparse(location)
        found[f"constant {how}"] = as_constant(location)
    found["offset"] = adding(constants=[outside("canary", ("offset", "0"), ("length", str(len(SECRET))))])
    found["memory"] = adding(constants=[outside("*/_ORT_MEM_ADDR_/*", ("offset", "4096"), ("length", "384"))])
    return found


def test_opening_a_canary_is_noticed(canaries: Watch, tmp_path: Path) -> None:
    """Or the tests below could not fail."""
    assert canaries.events() == []
    subprocess.run([sys.executable, "-c", "open('canary').read()"], cwd=tmp_path / "cwd", check=False)
    assert canaries.events() == ["canary opened", "canary read"]


def test_no_way_of_naming_a_file_in_a_graph_opens_it(
    canaries: Watch, tmp_path: Path, gray_bundle: Path, run_python: Any
) -> None:
    decoder = (gray_bundle / "decoder.onnx").read_bytes()
    folders = []
    for name, build in routes(tmp_path).items():
        target = tmp_path / "cwd" / name.replace(" ", "-")
        folders.append(onnx.copy_bundle(gray_bundle, target, {"decoder.onnx": build(decoder)}))
        (target / "canary").write_bytes(SECRET)  # not in the bundle's folder either
    finished = run_python(LOAD, tmp_path / "cwd", *folders)
    assert finished.returncode == 0, finished.stderr
    assert [json.loads(line) for line in finished.stdout.splitlines()] == [
        [folder.name, "UnsafeBundleError"] for folder in folders
    ]
    assert len(folders) == 22
    assert canaries.events() == []


def test_no_member_that_leads_out_of_the_bundle_is_read(
    canaries: Watch, tmp_path: Path, gray_bundle: Path, run_python: Any
) -> None:
    folders = []
    for name in ("SHA256SUMS", "decoder.onnx"):
        for target in ("../../canary", str(tmp_path / "elsewhere" / "canary"), "../canary"):
            folder = onnx.copy_bundle(gray_bundle, tmp_path / "cwd" / f"link{len(folders)}")
            (folder / name).unlink()
            (folder / name).symlink_to(target)
            folders.append(folder)
    listed = onnx.copy_bundle(gray_bundle, tmp_path / "cwd" / "listed")
    with (listed / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  ../canary\n")
    finished = run_python(LOAD, tmp_path / "cwd", *folders, listed)
    assert [json.loads(line)[1] for line in finished.stdout.splitlines()] == ["UnsafeBundleError"] * 7
    assert canaries.events() == []


def test_a_member_that_is_somebody_elses_file_by_a_hard_link_is_not_read(
    canaries: Watch, tmp_path: Path, gray_bundle: Path, run_python: Any
) -> None:
    folder = onnx.copy_bundle(gray_bundle, tmp_path / "cwd" / "hard", {"decoder.onnx": SECRET})
    (folder / "decoder.onnx").unlink()
    os.link(tmp_path / "elsewhere" / "canary", folder / "decoder.onnx")
    finished = run_python(LOAD, tmp_path / "cwd", folder)
    assert json.loads(finished.stdout) == ["hard", "UnsafeBundleError"]
    # Opened to be asked how many names it has, and not read.
    assert set(canaries.events()) <= {"canary opened"}


def test_in_a_bundle_nothing_is_opened_but_the_sums_and_the_graphs(
    tmp_path: Path, gray_bundle: Path, run_python: Any
) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells of openings so")
    folder = onnx.copy_bundle(gray_bundle, tmp_path / "b", {"prior.onnx": SECRET}, sums=False)
    watch = Watch(sorted(folder.iterdir()))
    finished = run_python(LOAD, tmp_path, folder)
    assert json.loads(finished.stdout) == ["b", "opened"]
    opened = [event for event in watch.events() if event.endswith("opened")]
    watch.close()
    assert opened == ["SHA256SUMS opened", "encoder.onnx opened", "decoder.onnx opened"]


def test_check_opens_each_file_once(tmp_path: Path, gray_bundle: Path, vae_run: Any) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells of openings so")
    folder = onnx.copy_bundle(gray_bundle, tmp_path / "b", {"stranger": SECRET}, sums=False)
    watch = Watch(sorted(folder.iterdir()))
    assert vae_run("check", folder).code == 0
    opened = sorted(event for event in watch.events() if event.endswith("opened"))
    watch.close()
    assert opened == [
        f"{name} opened"
        for name in ("README.md", "SHA256SUMS", "decoder.onnx", "encoder.onnx", "preview.png", "recipe.toml")
    ]
