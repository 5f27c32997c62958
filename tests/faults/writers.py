"""Everything that writes an output, in two versions each: what the tests of faults kill, starve and interrupt.

Run as a program it is a server: it imports what is slow to import, and then forks a process for every write
that is asked for, which may kill itself at the n-th call of the file system.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import torch

import vae_export.bundle
from vae_export import readback
from vae_export.source import Source
from vae_runtime import renaming, session
from vae_runtime.cli.exits import run_command
from vae_runtime.cli.main import vae_run
from vae_runtime.installation import import_onnxruntime
from vae_runtime.scan import Scan, scan
from vae_training import loop
from vae_training.checkpoint import Position, save_checkpoint
from vae_training.cli import vae_train
from vae_training.config import Config, ModelConfig
from vae_training.data import ImageSet
from vae_training.model import VAE
from vae_training.run_folder import RunFolder

BUNDLE = Path(__file__).resolve().parents[1] / "assets" / "tiny-gray"
TINY = ModelConfig(8, 12, 1, (2, 3), 3)


@dataclass(frozen=True)
class Writer:
    """One kind of output."""

    target: str
    """What it writes, in the folder that it is given."""
    write: Callable[[Path, int], None]
    """Writes version 0 or 1, over what is there."""


def model(version: int) -> VAE:
    torch.manual_seed(version)
    return VAE(TINY).eval().requires_grad_(False)


def write_checkpoint(folder: Path, version: int) -> None:
    save_checkpoint(
        folder / "checkpoints",
        config=Config(model=TINY),
        position=Position(epoch=0, step=5, total_steps=5),
        data_fingerprint="abc",
        weights=model(version).state_dict(),
        training={"losses": torch.full((5, 3), float(version))},
    )


def write_metrics(folder: Path, version: int) -> None:
    row = {"loss": version + 0.5, "reconstruction": 1.0, "kl": 2.0}
    RunFolder(folder).write_metrics([{"epoch": epoch, **row} for epoch in range(1, 200)])


def write_settings(folder: Path, version: int) -> None:
    RunFolder(folder).write_config(Config(model=ModelConfig(latent_size=version + 1)))


def _graphs(*_: object) -> dict[str, onnx.ModelProto]:
    """Return graphs for the tiny model that were traced long ago."""
    graphs = {role: onnx.load(BUNDLE / f"{role}.onnx") for role in ("encoder", "decoder")}
    for graph in graphs.values():
        del graph.metadata_props[:]
    return graphs


@functools.cache
def _scanned(data: bytes) -> Scan:
    return scan(data, "a graph of the bundle")


@contextlib.contextmanager
def _without_what_writes_nothing() -> Iterator[None]:
    """Leave out of an export what takes a second and touches no file, or do it once for the same bytes."""
    bundle = vae_export.bundle
    check_graph = bundle.check_graph
    stand_ins = {
        "build_graphs": _graphs,
        "require_supported": lambda _: None,
        "check_graph": lambda data, role, opset: _once(check_graph, data, role, opset),
        "measure_quality": lambda *_: {},
        "compare": lambda *_: [],
    }
    with (
        mock.patch.multiple(bundle, **stand_ins),
        mock.patch.object(readback, "scan", lambda data, *_: _scanned(data)),
        mock.patch.object(session, "scan", lambda data, *_: _scanned(data)),
    ):
        yield


@functools.cache
def _once(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def write_bundle(folder: Path, version: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 12, 1), np.uint8)
    with _without_what_writes_nothing():
        vae_export.bundle.export_bundle(
            Source(model(0), "tiny"),
            ImageSet(pixels, None, "noise", "drawn for a test"),
            folder / "bundle",
            vae_export.bundle.Settings(opset=17, name=f"version {version}"),
            overwrite=True,
        )


def run_sample(name: str, count: int = 20) -> Callable[[Path, int], None]:
    """Return the function that lets `vae-run sample` write an output of this name."""

    def write(folder: Path, version: int) -> None:
        arguments = [
            "sample",
            "-n",
            str(count),
            "--seed",
            str(version),
            "--model",
            str(BUNDLE),
            "--provider",
            "cpu",
        ]
        vae_run.main([*arguments, "--overwrite", "-o", str(folder / name)], standalone_mode=False)

    return write


def without_exchange(write: Callable[[Path, int], None]) -> Callable[[Path, int], None]:
    """Return the writer as it is on a system that cannot exchange two folders."""

    def write_without(folder: Path, version: int) -> None:
        before, renaming._renameat2 = renaming._renameat2, lambda: None
        try:
            write(folder, version)
        finally:
            renaming._renameat2 = before

    return write_without


WRITERS = {
    "checkpoint": Writer("checkpoints/step-00000005", write_checkpoint),
    "metrics": Writer("metrics.jsonl", write_metrics),
    "settings": Writer("config.toml", write_settings),
    "bundle": Writer("bundle", write_bundle),
    "sample .npy": Writer("out.npy", run_sample("out.npy")),
    "sample .npz": Writer("out.npz", run_sample("out.npz")),
    "sample .png": Writer("out.png", run_sample("out.png")),
    "sample folder": Writer("out", run_sample("out", 4)),
    "checkpoint, moved": Writer("checkpoints/step-00000005", without_exchange(write_checkpoint)),
    "sample folder, moved": Writer("out", without_exchange(run_sample("out", 4))),
}

# Two that are not safe, so that it shows that what looks for torn files finds them.
NAIVE = {
    "naive file": Writer("out.npy", lambda folder, version: naive_file(folder / "out.npy", version)),
    "naive folder": Writer("out", lambda folder, version: naive_folder(folder / "out", version)),
}


def naive_file(path: Path, version: int) -> None:
    for part in range(20):
        with path.open("wb" if part == 0 else "ab") as file:
            file.write(bytes([version]) * 1000)


def naive_folder(path: Path, version: int) -> None:
    beside = path.with_name("beside")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for part in range(5):
        (beside / str(part)).write_text(str(version))
    shutil.rmtree(path, ignore_errors=True)
    beside.rename(path)


def digest(path: Path) -> str:
    """Return a sum of a file, or of all files in a folder with their names; "missing" where there is none."""
    if not path.exists():
        return "missing"
    sums = {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in ([path] if path.is_file() else sorted(path.rglob("*")))
        if file.is_file()
    }
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()


def strays(folder: Path, writer: Writer) -> list[str]:
    """Return what lies in the folder, and in the folders on the way to the target, besides the target."""
    allowed = {folder / writer.target, *(folder / writer.target).parents}
    ways = [path for path in (folder / writer.target).parents if path == folder or folder in path.parents]
    return sorted(
        str(path.relative_to(folder))
        for way in ways
        if way.is_dir()
        for path in way.iterdir()
        if path not in allowed
    )


CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


def watch(folder: Path, call: Callable[[str], None]) -> None:
    """Let `call` be called with the name of each call of the file system that concerns the folder.

    Not of those that write bytes, which Python does not tell of; nor of flushing, which `os.fsync` is to be
    replaced for. It lasts as long as the process.
    """
    inside = str(folder)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES:
            path = arguments[0]
            text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
            # Deleting a tree names what is in it relative to its folder; so does reading a bundle.
            if text.startswith(inside) or (text and not text.startswith("/") and event != "open"):
                call(event)

    sys.addaudithook(hook)


def _serve() -> None:
    torch.set_num_threads(1)
    import_onnxruntime()
    importlib.import_module("torch._dynamo")  # slow, and asked for by the first step of an optimizer
    gc.freeze()  # a child that looks at these objects would copy their pages
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            _write(order)
        _tell("process", child)
        _, status = os.waitpid(child, 0)
        _tell("ended", os.waitstatus_to_exitcode(status))


def _write(order: dict[str, Any]) -> None:
    """Do as ordered, in a process of its own, and leave."""
    signal.alarm(60)
    folder, calls = Path(order["folder"]), 0

    def count(_: str) -> None:
        nonlocal calls
        calls += 1
        if calls == order["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    os.dup2(os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    code = 1
    try:
        watch(folder, count)
        # Counted only: what is written outlives its process anyway, and nobody pulls the plug.
        os.fsync = lambda _: count("os.fsync")
        _tell("began", 0)
        if "arguments" in order:
            code = _train(folder, order["arguments"])
        else:
            {**WRITERS, **NAIVE}[order["writer"]].write(folder, order["version"])
            code = 0
        _tell("calls", calls)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def _train(folder: Path, arguments: list[str]) -> int:
    """Run `vae-train`, without its drawings, which take most of the time of a run as small as these."""
    for name in ("plot_losses", "write_sample_sheet", "write_reconstruction_sheet"):
        setattr(loop, name, lambda *_: None)
    os.chdir(folder)
    try:
        run_command(vae_train, "vae-train", arguments)
    except SystemExit as end:
        return int(end.code or 0)


def _tell(what: str, number: int) -> None:
    os.write(1, f"{what} {number}\n".encode())


if __name__ == "__main__":
    _serve()
