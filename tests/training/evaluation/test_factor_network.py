"""The network that knows drawn faces: shipped whole, and made again by the program that is named."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from processes import ROOT

from vae_training.data.named import embedded_faces
from vae_training.errors import CheckpointError
from vae_training.evaluation.factor_network import FEATURES, WEIGHTS, load_factor_network
from vae_training.tensor_files import read_file, tensors_from_bytes


@pytest.fixture(scope="module")
def faces() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (N, 1, 24, 24) in [0, 1], factors and their names of the embedded set."""
    with np.load(embedded_faces()) as archive:
        images = (archive["images"][:600, None] / 255).astype(np.float32)
        return images, archive["factors"][:600], archive["factor_names"].tolist()


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    sys.path.insert(0, str(ROOT / "data"))
    try:
        return importlib.import_module("make_feature_network")
    finally:
        sys.path.remove(str(ROOT / "data"))


def test_it_knows_the_factors_of_faces_that_it_was_not_trained_on(
    faces: tuple[np.ndarray, np.ndarray, list[str]],
) -> None:
    images, factors, names = faces
    with torch.inference_mode():
        told = load_factor_network()(torch.from_numpy(images)).numpy()
    for name, least in (("yaw", 0.9), ("roll", 0.9), ("light_x", 0.9), ("hair_tone", 0.8), ("smile", 0.8)):
        column = names.index(name)
        assert np.corrcoef(told[:, column], factors[:, column])[0, 1] > least, name


def test_it_is_small_enough_to_ship() -> None:
    assert WEIGHTS.stat().st_size < 300_000


def test_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(WEIGHTS.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        load_factor_network(path)


def test_the_program_that_made_it_makes_one_of_the_same_shape_that_learns(
    maker: ModuleType, faces: tuple[np.ndarray, np.ndarray, list[str]]
) -> None:
    images = torch.from_numpy(faces[0][:512])
    factors = torch.from_numpy(faces[1][:512])
    factors = (factors - factors.mean(0)) / factors.std(0)
    network = maker.train(images, factors, epochs=4)
    shipped = tensors_from_bytes(read_file(WEIGHTS), "")
    assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in shipped.items()}
    with torch.inference_mode():
        assert float((network(images) - factors).square().mean()) < 0.97  # knowing nothing is 1
        assert network.features(images).shape == (512, FEATURES)


def test_faces_are_disturbed_within_what_images_may_be(
    maker: ModuleType, faces: tuple[np.ndarray, ...]
) -> None:
    images = torch.from_numpy(faces[0][:64])
    other = maker.disturbed(images, torch.Generator().manual_seed(0))
    assert other.shape == images.shape
    assert 0.0 <= float(other.min()) <= float(other.max()) <= 1.0
    assert float((other - images).abs().flatten(1).mean(1).min()) > 0.005
