"""100,000 images scored: encoded, decoded at a point of the posterior, compared."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from pytest_benchmark.fixture import BenchmarkFixture

from measuring.limit import LIMIT, LIMIT_OF_ONE, limit_row, matrix_product
from measuring.machine import require_device
from measuring.promises import OURS, OURS_INT8, OURS_PLAIN, SCORING
from measuring.rows import Role, Row
from measuring.turns import Call, measure_in_turns
from vae_runtime import load, noise
from vae_training.config import ModelConfig
from vae_training.costs import decoder_multiply_adds, encoder_multiply_adds
from vae_training.kl_shaping import kl_per_latent

if TYPE_CHECKING:
    from conftest import Classic, Record
    from vae_training.data import ImageSet

_IMAGES = 100_000
_BY_OTHERS = 10_000  # enough of those that take 40 microseconds and more each
_BATCH = 256
_TURNS = 3  # of five seconds each
_COMPARED = 1000
_REFERENCE = "PyTorch"
_CLOSE = 1e-4  # of a score, relative

Pictures = npt.NDArray[np.uint8]
Totals = npt.NDArray[np.float64]
Score = Callable[[Pictures], Totals]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.usefixtures("full_precision")
def test_scoring_many(
    device: str, classic: Classic, faces: ImageSet, record: Record, benchmark: BenchmarkFixture
) -> None:
    require_device(device)
    pictures = np.resize(faces.images[..., 0], (_IMAGES, 24, 24))
    on_cpu = device == "cpu"
    ours = {OURS: _ours(classic.bundle, device)}
    if on_cpu:
        ours[f"{OURS}, 1 thread"] = _ours(classic.bundle, device, 1)
        ours[OURS_PLAIN] = _ours(classic.plain_bundle, device)
    ways = {**ours, _REFERENCE: partial(_by_pytorch, classic, device)}
    _require_agreement(ways, pictures[:_COMPARED])
    if on_cpu:
        ways[OURS_INT8] = _ours(classic.int8_bundle, device)  # agrees less closely

    counts = {name: _IMAGES if name == OURS else _BY_OTHERS for name in ways}
    calls: dict[str, Call] = {name: partial(score, pictures[: counts[name]]) for name, score in ways.items()}
    limits = {LIMIT: None, **({LIMIT_OF_ONE: 1} if on_cpu else {})}
    calls |= {name: matrix_product(device, threads) for name, threads in limits.items()}
    measured = measure_in_turns(benchmark, calls, turns=_TURNS)

    if not measured:
        return
    for name, count in counts.items():
        role: Role = "reference" if name == _REFERENCE else "measured"
        record(Row(SCORING, name, device, measured[name], count, role=role))
    multiply_adds = encoder_multiply_adds(ModelConfig()) + decoder_multiply_adds(ModelConfig())
    for name in limits:
        limit = partial(limit_row, multiply_adds=multiply_adds, images=_IMAGES, device=device)
        record(limit(measured[name], group=SCORING, name=name))


def _ours(bundle: object, device: str, threads: int | None = None) -> Score:
    model = load(str(bundle), provider=device, threads=threads)
    return lambda pictures: model.score(pictures).total


@torch.inference_mode()
def _by_pytorch(classic: Classic, device: str, pictures: Pictures) -> Totals:
    """Score as one writes it down in PyTorch, batch by batch."""
    model = classic.model.to(device)
    eps = torch.from_numpy(noise(1, model.config.latent_size, seed=0)).to(device)
    totals = []
    for start in range(0, len(pictures), _BATCH):
        image = torch.from_numpy(pictures[start : start + _BATCH, None]).to(device).float().div(255)
        mean, logvar = model.encoder(image)
        made = model.decoder(mean + eps * torch.exp(0.5 * logvar))
        nll = F.binary_cross_entropy(made, image, reduction="none").flatten(1).sum(1)
        totals.append(nll + kl_per_latent(mean, logvar).sum(1))
    return torch.cat(totals).double().cpu().numpy()


def _require_agreement(ways: dict[str, Score], pictures: Pictures) -> None:
    expected = ways[_REFERENCE](pictures)
    for name, score in ways.items():
        np.testing.assert_allclose(score(pictures), expected, rtol=_CLOSE, err_msg=name)
