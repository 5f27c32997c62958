"""Writers that run into the end of their room, at every place where they may."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from loads.row import Figure, exactly, told

# Bytes a file may have. A writer that needs less than that succeeds, and has then nothing to prove.
LIMITS = (0, 1, 100, 4_096, 65_536, 262_144)
_DISK = 4  # the exit code
_MODULES = tuple(f"vae_runtime.cli.{name}" for name in ("inputs", "outputs", "sheets", "pictures"))


class _Ended(NamedTuple):
    code: int
    lines: int
    words: str


def no_room_for_files(limits: Sequence[int] = LIMITS, *, with_training: bool = True) -> list[Figure]:
    """Each writer with each limit on the size of files: the exit code says so, and nothing that was there changes."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        writers = _sampling(folder) | (_training(folder) if with_training else {})
        tried, wrong = 0, []
        for name, (target, write) in writers.items():
            first = _in_child(write, limit=None)
            if first.code != 0:
                raise RuntimeError(f"{name} does not work without a limit either: {first.words}")
            before = _contents(folder)
            for limit in limits:
                ended = _in_child(write, limit=limit)
                if ended.code == 0:  # there was room enough
                    before = _contents(folder)
                    continue
                tried += 1
                if ended.code != _DISK or ended.lines != 1:
                    wrong.append(f"{name} at {limit}: code {ended.code}, {ended.words!r}")
                if _contents(folder) != before:
                    wrong.append(f"{name} at {limit}: {target} or a file beside it has changed")
                    before = _contents(folder)
    return [
        exactly("failures that were not handled", "; ".join(wrong) or "none", "none"),
        told("writers", len(writers)),
        told("failures", tried),
    ]


Writers = dict[str, tuple[Path, Callable[[], object]]]


def _sampling(folder: Path) -> Writers:
    from vae_runtime.cli.main import vae_run
    from vae_runtime.installation import import_onnxruntime

    # Imported once here, and not by every child again.
    for module in ("PIL.Image", "PIL.PngImagePlugin", "vae_runtime.model", *_MODULES):
        importlib.import_module(module)
    import_onnxruntime()

    def sample(target: Path) -> tuple[Path, Callable[[], object]]:
        options = ["sample", "-n", "150", "--seed", "1", "--overwrite", "-o", str(target)]
        return target, lambda: _command(vae_run, "vae-run", options)

    names = ("faces.npy", "faces.npz", "faces.png", "faces")
    return {f"vae-run to {name}": sample(folder / name) for name in names}


def _training(folder: Path) -> Writers:
    import numpy as np
    import torch

    from vae_export.cli import vae_export
    from vae_training.cli import vae_train

    torch.set_num_threads(1)  # a forked child has no other threads
    np.save(folder / "noise.npy", np.random.default_rng(0).integers(0, 256, (48, 8, 8), np.uint8))
    run, bundle = folder / "run", folder / "bundle"
    start = [
        "--data",
        str(folder / "noise.npy"),
        "--filters",
        "3,4",
        "--latent-size",
        "2",
        "--epochs",
        "1",
        "-q",
    ]
    start += ["--device", "cpu", "--batch-size", "8", "-o", str(run)]
    if (ended := _in_child(lambda: _command(vae_train, "vae-train", start), limit=None)).code:
        raise RuntimeError(f"vae-train does not work: {ended.words}")
    epochs = iter(range(2, 1000))
    return {
        "vae-train": (
            run,
            lambda: _command(
                vae_train, "vae-train", ["--resume", str(run), "--epochs", str(next(epochs)), "-q"]
            ),
        ),
        "vae-export": (
            bundle,
            lambda: _command(vae_export, "vae-export", [str(run), "-o", str(bundle), "--overwrite"]),
        ),
    }


def _command(command: object, name: str, arguments: list[str]) -> None:
    from vae_runtime.cli.exits import run_command

    run_command(command, name, arguments)  # type: ignore[arg-type]


def _in_child(write: Callable[[], object], *, limit: int | None) -> _Ended:
    """Run a command in a forked child that may write files of so many bytes; its words come by a pipe."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        with _ends_here():
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            signal.alarm(60)
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            write()
    os.close(writing)
    with os.fdopen(reading, errors="replace") as pipe:
        words = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    errors = [line for line in words.splitlines() if ": error: " in line or "Traceback" in line]
    return _Ended(code, len(errors), words[-300:])


@contextlib.contextmanager
def _ends_here() -> Iterator[None]:
    """End this process with the block, with the code that the block leaves with."""
    code = 70
    try:
        yield
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _contents(folder: Path) -> dict[str, str]:
    """Return the sum of every file, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
