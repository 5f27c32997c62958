"""What the tests of evaluation share: a small run with a density, the bundle of it, and images of bars."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from small_runs import leave_out_drawings, make_run

from vae_runtime.card import Card, Likelihood
from vae_training.checkpoint import likelihood_from_checkpoint
from vae_training.config import Config, DataConfig, ModelConfig, TrainingConfig
from vae_training.data import ImageSet
from vae_training.evaluation.subjects import RunSubject
from vae_training.run_folder import read_checkpoint

sys.path.insert(0, str(Path(__file__).parent))

from classic_graphs import OPSET, classic_graphs, with_card

SMALL_RUN = Config(
    data=DataConfig(validation=0.25),
    model=ModelConfig(8, 8, 1, (3, 4), latent_size=3),
    training=TrainingConfig(
        epochs=30, batch_size=16, learning_rate=1e-2, likelihood="gaussian", beta=1.0, seed=5, device="cpu",
        compile="off",
    ),
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the pictures of a run: nothing looks at them here."""
    leave_out_drawings(monkeypatch)


@pytest.fixture(scope="session")
def run_data(bars: Callable[..., ImageSet]) -> ImageSet:
    """The images that the small run is trained on: 96 bars."""
    return bars(96)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, run_data: ImageSet) -> Path:
    """The folder of a small run, beside the file `bars.npy` that it was trained on."""
    folder = tmp_path_factory.mktemp("evaluated")
    np.save(folder / "bars.npy", run_data.images)
    record = SMALL_RUN.to_dict()
    record["data"]["source"] = str(folder / "bars.npy")
    return make_run(Config.from_dict(record), run_data, folder / "run")


@pytest.fixture(scope="session")
def run_subject(run: Path) -> RunSubject:
    """The small run, opened."""
    return RunSubject(read_checkpoint(run), run)


@pytest.fixture(scope="session")
def write_bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the function that writes the run's graphs as a bundle whose card says what it is given."""
    checkpoint = read_checkpoint(run)
    model = checkpoint.config.model
    graphs = classic_graphs(checkpoint.weights, model.image_shape, model.latent_size)
    likelihood = Likelihood("gaussian", likelihood_from_checkpoint(checkpoint).noise_scale)

    def write(*, priors: Mapping[str, onnx.ModelProto] | None = None, **changes: Any) -> Path:
        card = Card(
            **{
                "name": "bars",
                "role": "",
                "image_shape": model.image_shape,
                "latent_size": model.latent_size,
                "likelihood": likelihood,
                "precision": "fp32",
                "opset": OPSET,
                "bundle_id": "of one export",
                "recipe": checkpoint.config.to_dict(),
                **changes,
            }
        )
        folder = tmp_path_factory.mktemp("bundle")
        lines = []
        for role, graph in {**graphs, **(priors or {})}.items():
            data = with_card(graph, replace(card, role=role).to_metadata())
            (folder / f"{role}.onnx").write_bytes(data)
            lines.append(f"{hashlib.sha256(data).hexdigest()}  {role}.onnx\n")
        (folder / "SHA256SUMS").write_text("".join(lines))
        return folder

    return write


@pytest.fixture(scope="session")
def bundle(write_bundle: Callable[..., Path]) -> Path:
    """The small run as a bundle."""
    return write_bundle()


@pytest.fixture
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
