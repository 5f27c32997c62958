"""`vae-run check`: whether an installation and a bundle do what they promise."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from vae_runtime.bundle import MOST_MODEL_BYTES, ROLES_OF_A_PRIOR, Bundle, open_bundle, read_graphs
from vae_runtime.errors import BundleError, VaeError
from vae_runtime.images import to_uint8
from vae_runtime.installation import import_onnxruntime
from vae_runtime.latent import noise
from vae_runtime.members import Members
from vae_runtime.model import Model
from vae_runtime.scan import scan
from vae_runtime.sums import SUMS, Sums, read_member, read_sums
from vae_runtime.wheels import installed_wheels

_LARGEST_GAP = 0.01  # of noise and the way back to it: interpolation cannot tell
_SAMPLES = 130  # more than two chunks, and not a whole number of them


@dataclass(frozen=True)
class Question:
    """Which bundle is to be looked at, and how, as the command's options say it."""

    name_or_path: str
    provider: str
    threads: int | None = None
    tf32: bool = False
    expect_sha256: str | None = None
    allow_links: bool = False
    max_model_bytes: int = MOST_MODEL_BYTES


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    lines: tuple[str, ...]
    """What was found, in words."""
    error: VaeError | None = None


@dataclass
class _Opened:
    """What one step leaves for the next, so that each file is read once."""

    bundle: Bundle = field(default_factory=lambda: Bundle("", {}))
    models: list[Model] = field(default_factory=list)

    @property
    def model(self) -> Model:
        return self.models[0]


def check(question: Question) -> Iterator[Finding]:
    """Look at everything in turn; ends at the first error, since what follows rests on it."""
    opened = _Opened()
    steps: tuple[tuple[str, Callable[[], tuple[str, ...]]], ...] = (
        ("installation", _installation),
        ("files", lambda: _files(question, opened)),
        ("scan", lambda: _scan(opened.bundle)),
        ("model", lambda: _model(question, opened)),
        ("sampling", lambda: _sampling(opened.model)),
        ("encoding", lambda: _encoding(opened.model)),
        ("prior", lambda: _prior(opened.model)),
    )
    try:
        for what, step in steps:
            try:
                yield Finding(what, step())
            except VaeError as error:
                yield Finding(what, (str(error),), error)
                return
    finally:
        for model in opened.models:
            model.close()


def _installation() -> tuple[str, ...]:
    onnxruntime = import_onnxruntime()
    wheel = next(iter(installed_wheels()), "onnxruntime, of unknown origin")
    return (
        f"{wheel} {onnxruntime.__version__}, the only one installed, its telemetry off",
        f"numpy {np.__version__}, Python {platform.python_version()}",
    )


def _files(question: Question, opened: _Opened) -> tuple[str, ...]:
    with open_bundle(question.name_or_path, allow_links=question.allow_links) as members:
        sums = read_sums(members, question.expect_sha256)
        graphs = read_graphs(members, sums, question.max_model_bytes)
        opened.bundle = Bundle(str(members.folder), graphs, sums.sha256)
        others = _read_others(members, sums, graphs)
        strangers = [name for name in members.names() if name not in sums.by_name and name != SUMS]
        links = "links let through" if members.allow_links else "plain files, none of them a link"
    if question.expect_sha256:
        maker = "as --expect-sha256 says: this is the bundle that you were promised"
    else:
        maker = "who made it is not proven: compare that with what its maker says (--expect-sha256)"
    lines = [
        str(members.folder),
        f"{len(graphs)} graphs, {sum(map(len, graphs.values())):,} bytes, and {others} other files: {links}",
        f"each is as it was written: its SHA-256 is the one in {SUMS}",
        f"SHA-256 of {SUMS}: {sums.sha256}",
        maker,
    ]
    if strangers:
        lines.append(f"not of the bundle, and not looked at: {', '.join(strangers)}")
    return tuple(lines)


def _read_others(members: Members, sums: Sums, graphs: Mapping[str, bytes]) -> int:
    """Compare the files beside the graphs with their sums, and return how many there are."""
    names = [name for name in sums.by_name if name.removesuffix(".onnx") not in graphs]
    for name in names:
        try:
            read_member(members, name, sums, MOST_MODEL_BYTES)
        except BundleError as error:
            raise type(error)(f"{error}. The graphs themselves are as they were written") from error
    return len(names)


def _scan(bundle: Bundle) -> tuple[str, ...]:
    lines, operators = [], set[str]()
    for role, data in bundle.graphs.items():
        seen = scan(data, f"{bundle.source}/{role}.onnx")
        operators |= set(seen.operators)
        lines.append(
            f"{role}: {seen.nodes} nodes, {seen.tensors} tensors of {seen.parameters:,} numbers; "
            f"opset {seen.opset}, IR version {seen.ir_version}"
        )
    return (
        *lines,
        f"operators: {', '.join(sorted(operators))}",
        "every byte is of a known kind: no external data, subgraph, local function or custom operator",
    )


def _model(question: Question, opened: _Opened) -> tuple[str, ...]:
    model = Model(opened.bundle, question.provider, question.threads, tf32=question.tf32)
    opened.models.append(model)
    card = model.card
    shape = "x".join(map(str, card.image_shape))
    return (
        f"{card.name!r}: {shape} images, {card.latent_size} latents, {card.precision}; cards and graphs agree",
        f"all graphs are of one export ({card.bundle_id[:12]}) and run on {', '.join(model.providers)}",
    )


def _sampling(model: Model) -> tuple[str, ...]:
    images = model.sample(_SAMPLES, seed=0)
    again = model.sample(_SAMPLES, seed=0, dtype="uint8")
    _require(np.array_equal(to_uint8(images), again), "the same seed gave different pictures")
    low, high = float(images.min()), float(images.max())
    _require(low >= 0.0 and high <= 1.0, f"images range from {low} to {high}; expected [0, 1]")
    _require(float(images.std(axis=0).max()) > 1e-3, "all images are alike")
    return (f"{_SAMPLES} images in [{low:.3f}, {high:.3f}], the same again by the same seed",)


def _encoding(model: Model) -> tuple[str, ...]:
    images = model.sample(_SAMPLES, seed=1)
    posterior = model.encode(images)
    squared = float(np.mean(np.square(model.reconstruct(images) - images)))
    decibels = -10 * np.log10(max(squared, 1e-10))
    low, high = posterior.logvar.min(), posterior.logvar.max()
    return (f"its own samples come back at {decibels:.1f} dB; logvar from {low:.2f} to {high:.2f}",)


def _prior(model: Model) -> tuple[str, ...]:
    """Undo the prior, which also opens what is not opened before it is needed."""
    if "prior" not in model.graphs:
        return ("none was learned: noise is what is decoded",)
    if not {*model.graphs} & {*ROLES_OF_A_PRIOR}:
        return ("learned; the bundle knows neither its density nor a way back from latents to noise",)
    latents = model.sample_latents(_SAMPLES, seed=0)
    densities = model.log_density(latents)
    lines = [f"learned; log densities of samples from {densities.min():.1f} to {densities.max():.1f} nats"]
    if "prior_inverse" in model.graphs:
        drawn = noise(_SAMPLES, model.card.latent_size, seed=0)
        gap = float(np.abs(model.to_noise(latents) - drawn).max())
        _require(gap <= _LARGEST_GAP, f"the way back from latents to noise is off by {gap:.3g}")
        lines.append(f"the way back from latents to noise is off by {gap:.1e} at most")
    return tuple(lines)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise VaeError(message)
