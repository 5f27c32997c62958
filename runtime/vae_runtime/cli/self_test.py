"""`vae-run check`: whether an installation and a bundle do what they promise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vae_runtime.bundle import SUMS, find_bundle, read_bundle, read_sums
from vae_runtime.errors import VaeError
from vae_runtime.images import to_uint8
from vae_runtime.installation import import_onnxruntime
from vae_runtime.model import Model

_SAMPLES = 130  # more than two chunks, and not a whole number of them


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    detail: str
    error: VaeError | None = None


def check(name_or_path: str, provider: str) -> Iterator[Finding]:
    """Look at everything in turn; ends at the first error, since what follows rests on it."""
    opened: list[Model] = []
    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("onnxruntime", _installation),
        ("files", lambda: _files(name_or_path)),
        ("graphs", lambda: _graphs(name_or_path, provider, opened)),
        ("sampling", lambda: _sampling(opened[0])),
        ("encoding", lambda: _encoding(opened[0])),
    )
    for what, step in steps:
        try:
            yield Finding(what, step())
        except VaeError as error:
            yield Finding(what, str(error), error)
            return


def _installation() -> str:
    return f"version {import_onnxruntime().__version__}, the only one installed, telemetry off"


def _files(name_or_path: str) -> str:
    folder = find_bundle(name_or_path)
    sums = read_sums(folder)
    read_bundle(name_or_path)
    others = [name for name in sums if not name.endswith(".onnx")]
    changed = [name for name in others if not _unchanged(folder / name, sums[name])]
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in {*sums, SUMS})
    notes = [f"changed since export: {', '.join(changed)}"] * bool(changed)
    notes += [f"not of the bundle: {', '.join(strangers)}"] * bool(strangers)
    return "; ".join([f"graphs as they were written, SHA-256 equal, in {folder}", *notes])


def _graphs(name_or_path: str, provider: str, opened: list[Model]) -> str:
    model = Model(read_bundle(name_or_path), provider)
    opened.append(model)
    return f"{model!r}, one export ({model.card.bundle_id[:12]}), opset {model.card.opset}"


def _sampling(model: Model) -> str:
    images = model.sample(_SAMPLES, seed=0)
    again = model.sample(_SAMPLES, seed=0, dtype="uint8")
    _require(np.array_equal(to_uint8(images), again), "the same seed gave different pictures")
    low, high = float(images.min()), float(images.max())
    _require(low >= 0.0 and high <= 1.0, f"images range from {low} to {high}; expected [0, 1]")
    _require(float(images.std(axis=0).max()) > 1e-3, "all images are alike")
    return f"{_SAMPLES} images in [{low:.3f}, {high:.3f}], the same again by the same seed"


def _encoding(model: Model) -> str:
    images = model.sample(_SAMPLES, seed=1)
    posterior = model.encode(images)
    squared = float(np.mean(np.square(model.reconstruct(images) - images)))
    return (
        f"its own samples come back at {-10 * np.log10(max(squared, 1e-10)):.1f} dB; "
        f"logvar from {posterior.logvar.min():.2f} to {posterior.logvar.max():.2f}"
    )


def _unchanged(path: Path, expected: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == expected


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise VaeError(message)
