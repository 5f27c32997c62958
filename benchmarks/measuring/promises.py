"""What the project promises of its speed, as ratios of measurements that were taken side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from measuring.limit import LIMIT, LIMIT_OF_ONE
from measuring.rows import Row, times_as_fast

SAMPLING = "sample 50,000 pictures, uint8"
LATENCY = "latency: decode one image"
COLD_START = "cold start: a process that samples 100 images into a PNG"
SCORING = "score 100,000 images"
STREAMING = "stream pictures into a .npy file, whole processes"
TRAINING = "training: an epoch of 5,952 images, batches of 64"
SIZES = "installed size"

OURS = "vae_runtime"
OURS_INT8 = "vae_runtime, int8"
OURS_PLAIN = "vae_runtime, layers as trained"
ONE_BY_ONE = "PyTorch, one latent at a time"
COMPILED = "torch.compile, best batch"
BARE = "onnxruntime"


@dataclass(frozen=True)
class Promise:
    """A ratio, and how large it should at least, or at most, be."""

    what: str
    against: str
    reach: float
    measure: Callable[[Sequence[Row]], float | None]
    """Takes all rows; None where what it takes was not measured."""
    at_most: bool = False

    def is_kept_by(self, figure: float) -> bool:
        """Whether the figure is as good as promised, or better."""
        return figure <= self.reach if self.at_most else figure >= self.reach


def faster(
    group: str, implementation: str, other: str, device: str = "cpu"
) -> Callable[[Sequence[Row]], float | None]:
    """Return what measures how many times as fast as another an implementation is."""

    def measure(rows: Sequence[Row]) -> float | None:
        ours, theirs = (_row(rows, group, name, device) for name in (implementation, other))
        return times_as_fast(ours, theirs) if ours and theirs else None

    return measure


def slower(group: str, implementation: str, other: str) -> Callable[[Sequence[Row]], float | None]:
    """Return what measures how many times as long as another an implementation takes."""
    return faster(group, other, implementation)


def fact(group: str, implementation: str, name: str) -> Callable[[Sequence[Row]], float | None]:
    """Return what reads a fact of a row."""

    def measure(rows: Sequence[Row]) -> float | None:
        row = _row(rows, group, implementation, "cpu")
        return row.facts.get(name) if row else None

    return measure


def share(group: str, implementation: str, other: str, name: str) -> Callable[[Sequence[Row]], float | None]:
    """Return what divides a fact of one row by that of another."""

    def measure(rows: Sequence[Row]) -> float | None:
        ours, theirs = (fact(group, which, name)(rows) for which in (implementation, other))
        return ours / theirs if ours and theirs else None

    return measure


PROMISES = (
    Promise(
        "sample 50,000 pictures",
        "the limit of matrix products",
        0.7,
        faster(SAMPLING, OURS, LIMIT),
    ),
    Promise(
        "sample 50,000 pictures, 1 thread",
        "the limit of matrix products, 1 thread",
        0.7,
        faster(SAMPLING, f"{OURS}, 1 thread", LIMIT_OF_ONE),
    ),
    Promise("sample 50,000 pictures", ONE_BY_ONE, 15.0, faster(SAMPLING, OURS, ONE_BY_ONE)),
    Promise("sample 50,000 pictures", COMPILED, 1.5, faster(SAMPLING, OURS, COMPILED)),
    Promise("sample 50,000 pictures, int8", "fp32", 1.9, faster(SAMPLING, OURS_INT8, OURS)),
    Promise(
        "sample 50,000 pictures, int8",
        "fp32, layers as trained",
        1.9,
        faster(SAMPLING, OURS_INT8, OURS_PLAIN),
    ),
    Promise("PSNR of int8 pictures, dB", "fp32", 45.0, fact(SAMPLING, OURS_INT8, "psnr_db")),
    Promise("sample 50,000 pictures, int8", ONE_BY_ONE, 27.0, faster(SAMPLING, OURS_INT8, ONE_BY_ONE)),
    Promise("decode one latent, median", "the bare session", 1.15, slower(LATENCY, OURS, BARE), at_most=True),
    Promise(
        "decode one latent, 99th percentile",
        "its median",
        3.0,
        fact(LATENCY, OURS, "p99_over_median"),
        at_most=True,
    ),
    Promise("vae-run sample, time", "a bare script", 1.3, slower(COLD_START, "vae-run", BARE), at_most=True),
    Promise(
        "vae-run sample, memory",
        "a bare script",
        1.2,
        share(COLD_START, "vae-run", BARE, "peak_bytes"),
        at_most=True,
    ),
    Promise("vae-run sample, time", "a PyTorch script", 6.0, faster(COLD_START, "vae-run", "PyTorch")),
    Promise(
        "vae-run sample, memory",
        "a PyTorch script",
        1 / 3,
        share(COLD_START, "vae-run", "PyTorch", "peak_bytes"),
        at_most=True,
    ),
    Promise(
        "cost of a picture, up to 10^6 streamed",
        "the cheapest of them",
        1.1,
        fact(STREAMING, "1,000,000 pictures", "dearest_over_cheapest"),
        at_most=True,
    ),
    Promise(
        "memory of 10^6 pictures streamed, MB more",
        "10^3 pictures",
        40.0,
        fact(STREAMING, "1,000,000 pictures", "growth_mb"),
        at_most=True,
    ),
    Promise("an epoch of training", "a plain loop", 2.2, faster(TRAINING, "vae_training", "plain loop")),
    Promise(
        "loss at the end of training, % off",
        "a plain loop",
        0.2,
        lambda rows: _percent(fact(TRAINING, "vae_training", "loss_difference")(rows)),
        at_most=True,
    ),
    Promise(
        "an epoch of training on the GPU",
        "a plain loop there",
        20.0,
        faster(TRAINING, "vae_training", "plain loop", "cuda"),
    ),
    Promise(
        "encode 4,096 images",
        "the limit of matrix products",
        0.5,
        faster("encode, batch 4,096", OURS, LIMIT),
    ),
    Promise("score 100,000 images", "the limit of matrix products", 0.5, faster(SCORING, OURS, LIMIT)),
    Promise(
        "score 100,000 images, 1 thread",
        "the limit of matrix products, 1 thread",
        0.5,
        faster(SCORING, f"{OURS}, 1 thread", LIMIT_OF_ONE),
    ),
    Promise(
        "installed runtime with all it needs",
        "PyTorch with all it needs",
        0.2,
        share(SIZES, "vae-edge[cpu]", "torch", "bytes"),
        at_most=True,
    ),
)


def _row(rows: Sequence[Row], group: str, implementation: str, device: str) -> Row | None:
    wanted = (group, implementation, device)
    return next((row for row in rows if (row.group, row.implementation, row.device) == wanted), None)


def _percent(figure: float | None) -> float | None:
    return None if figure is None else 100.0 * abs(figure)
