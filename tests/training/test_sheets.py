"""Sample sheets: real pictures, from the same noise every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vae_training.config import ModelConfig
from vae_training.model import VAE
from vae_training.sheets import write_reconstruction_sheet, write_sample_sheet

CPU = torch.device("cpu")


def model(config: ModelConfig, seed: int = 0) -> VAE:
    torch.manual_seed(seed)
    return VAE(config)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (ModelConfig(24, 24, 1, (2, 3), 4), (768, 768)),
        (ModelConfig(8, 8, 1, (2, 3), 2), (768, 768)),
        (ModelConfig(8, 12, 3, (2, 3), 2), (512, 768, 3)),
        (ModelConfig(128, 128, 1, (1, 1), 1), (1024, 1024)),
    ],
    ids=["24x24", "8x8", "colour 8x12", "128x128"],
)
def test_a_sheet_is_eight_by_eight_samples_enlarged_by_whole_numbers(
    tmp_path: Path, config: ModelConfig, shape: tuple[int, ...]
) -> None:
    write_sample_sheet(tmp_path / "sheets" / "sheet.png", model(config), CPU)
    sheet = pixels(tmp_path / "sheets" / "sheet.png")
    assert sheet.shape == shape
    factor = shape[0] // (8 * config.height)
    np.testing.assert_array_equal(
        sheet, sheet[::factor, ::factor].repeat(factor, axis=0).repeat(factor, axis=1)
    )


@torch.no_grad()
def test_the_samples_are_decoded_from_the_noise_of_seed_zero(tmp_path: Path) -> None:
    vae = model(ModelConfig(24, 24, 1, (2, 3), 4))
    write_sample_sheet(tmp_path / "sheet.png", vae, CPU)
    noise = np.random.Generator(np.random.PCG64(0)).standard_normal((64, 4), dtype=np.float32)
    images = vae.decoder(torch.from_numpy(noise)).numpy()[:, 0]
    expected = np.rint(images.reshape(8, 8, 24, 24).transpose(0, 2, 1, 3).reshape(192, 192) * 255)
    np.testing.assert_array_equal(pixels(tmp_path / "sheet.png")[::4, ::4], expected)


def test_the_noise_is_the_same_every_time_and_only_the_model_changes_the_sheet(tmp_path: Path) -> None:
    config = ModelConfig(8, 8, 1, (2, 3), 2)
    first, again, other = (tmp_path / f"{name}.png" for name in ("first", "again", "other"))
    write_sample_sheet(first, model(config), CPU)
    torch.manual_seed(99)
    torch.randn(5)
    write_sample_sheet(again, model(config), CPU)
    write_sample_sheet(other, model(config, seed=1), CPU)
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()


def test_drawing_a_sheet_leaves_training_alone(tmp_path: Path) -> None:
    vae = model(ModelConfig(8, 8, 1, (2, 3), 2))
    before = torch.get_rng_state()
    write_sample_sheet(tmp_path / "sheet.png", vae, CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert vae.training
    assert all(parameter.grad is None for parameter in vae.parameters())


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 3])
def test_reconstructions_lie_right_of_their_originals(tmp_path: Path, channels: int) -> None:
    vae = model(ModelConfig(8, 12, channels, (2, 3), 2))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, channels, 8, 12), np.uint8))
    write_reconstruction_sheet(tmp_path / "pairs.png", vae, images)
    sheet = pixels(tmp_path / "pairs.png").reshape(8 * 8 * 8, 4 * 2 * 12 * 8, channels)[::8, ::8]
    cells = (
        sheet.reshape(8, 8, 4, 2, 12, channels).transpose(0, 2, 3, 5, 1, 4).reshape(32, 2, channels, 8, 12)
    )
    np.testing.assert_array_equal(cells[:, 0], images[:32].numpy())
    decoded = vae.decoder(vae.encoder(images[:32].float() / 255)[0])
    np.testing.assert_array_equal(cells[:, 1], np.rint(decoded.numpy() * 255))


@pytest.mark.parametrize(("count", "rows", "empty"), [(1, 1, 3), (3, 1, 1), (5, 2, 3)])
def test_a_sheet_of_few_images_has_no_more_rows_than_they_take(
    tmp_path: Path, count: int, rows: int, empty: int
) -> None:
    images = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    write_reconstruction_sheet(tmp_path / "pairs.png", model(ModelConfig(8, 8, 1, (2, 3), 2)), images)
    sheet = pixels(tmp_path / "pairs.png")
    assert sheet.shape == (rows * 8 * 12, 4 * 2 * 8 * 12)
    places = sheet[-96:].reshape(96, 4, 192).transpose(1, 0, 2)
    assert [(place == 255).all() for place in places] == [False] * (4 - empty) + [True] * empty
