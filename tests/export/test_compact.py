"""Compact bundles: half the bytes, fp32's arithmetic to the last proof, and told for what they are."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import vae_runtime
from vae_export.bundle import Report, Settings, export_bundle
from vae_export.cli import vae_export
from vae_export.errors import SettingError
from vae_export.quality import psnr
from vae_export.rounding import round_weights, rounded
from vae_export.source import Source
from vae_export.sources import load_source
from vae_training.config import ModelConfig
from vae_training.data import ImageSet
from vae_training.model import VAE

Images = Callable[..., ImageSet]
CLASSIC = ModelConfig(8, 8, 1, (16, 24), 6)
RESIDUAL = ModelConfig(16, 16, 1, (8, 8, 8), 6, architecture="residual")


@pytest.fixture(scope="module", params=[CLASSIC, RESIDUAL], ids=["classic", "residual"])
def trained(request: pytest.FixtureRequest, make_vae: Callable[..., VAE]) -> Source:
    return Source(make_vae(request.param), "any")


@pytest.fixture(scope="module")
def images(trained: Source, make_images: Images) -> ImageSet:
    shape = trained.model.config
    return make_images(height=shape.height, width=shape.width)


@pytest.fixture(scope="module")
def reports(
    trained: Source, images: ImageSet, tmp_path_factory: pytest.TempPathFactory
) -> dict[bool, Report]:
    """Its bundles, compact and not."""
    folder = tmp_path_factory.mktemp("out")
    return {
        compact: export_bundle(trained, images, folder / str(compact), Settings(17, "any", compact=compact))
        for compact in (False, True)
    }


def test_it_is_half_as_large_and_held_to_the_limits_of_fp32(reports: dict[bool, Report]) -> None:
    whole, compact = reports[False], reports[True]
    assert [row.limit for row in compact.differences] == [row.limit for row in whole.differences]
    assert all(row.passed for row in compact.differences)
    assert sum(compact.sizes.values()) < 0.75 * sum(
        whole.sizes.values()
    )  # cards and nodes are as large as before


@torch.no_grad()
def test_it_computes_what_pytorch_does_with_the_rounded_weights(
    reports: dict[bool, Report], trained: Source
) -> None:
    reference = round_weights(trained).model
    matrices = [parameter for parameter in reference.parameters() if parameter.dim() > 1]
    assert all(torch.equal(matrix, matrix.bfloat16().float()) for matrix in matrices)
    latents = np.random.default_rng(3).standard_normal((50, 6), np.float32)
    with vae_runtime.load(reports[True].path, provider="cpu") as model:
        decoded = model.decode(latents)
    np.testing.assert_allclose(decoded, reference.decoder(torch.from_numpy(latents)).numpy(), atol=1e-5)
    unrounded = trained.model.decoder(torch.from_numpy(latents)).numpy()
    assert 1e-5 < np.abs(decoded - unrounded).max() < 0.02


@torch.no_grad()
def test_its_card_says_how_near_it_is_to_the_unrounded(reports: dict[bool, Report], trained: Source) -> None:
    assert reports[False].card.fidelity == {}
    card = reports[True].card
    assert card.precision == "fp32"
    latents = np.random.default_rng(31).standard_normal((500, 6), np.float32)
    with vae_runtime.load(reports[True].path, provider="cpu") as model:
        ratios = psnr(trained.model.decoder(torch.from_numpy(latents)).numpy(), model.decode(latents))
    assert card.fidelity["psnr_db"] == pytest.approx(ratios.mean(), abs=1)
    readme = (reports[True].path / "README.md").read_text(encoding="utf-8")
    assert f"a PSNR of {card.fidelity['psnr_db']:.1f} dB" in readme
    assert "unrounded" not in (reports[False].path / "README.md").read_text(encoding="utf-8")


def test_its_recipe_says_so(reports: dict[bool, Report]) -> None:
    (line,) = (
        line for line in (reports[True].path / "recipe.toml").read_text().splitlines() if "vae-export" in line
    )
    command = shlex.split(line.partition("with: ")[2])
    assert vae_export.make_context(command[0], command[1:]).params["compact"]


@pytest.mark.parametrize(
    "matrix",
    [torch.full((513, 512), 1 / 3), torch.tensor([[1 / 3, 1025.0]]), torch.full((9,), 1 / 3)],
    ids=["of more numbers than are turned back once", "with a number beyond weights", "a vector"],
)
def test_what_is_not_to_be_rounded_is_left_as_it_is(matrix: torch.Tensor) -> None:
    assert torch.equal(rounded(matrix), matrix)
    assert not torch.equal(rounded(torch.full((2, 2), 1 / 3)), torch.full((2, 2), 1 / 3))


def test_a_source_is_left_as_it_was(trained: Source) -> None:
    before = {name: tensor.clone() for name, tensor in trained.model.state_dict().items()}
    round_weights(trained)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.model.state_dict().items())


def test_a_compact_bundle_is_a_source_too(
    tmp_path: Path, make_vae: Callable[..., VAE], make_images: Images
) -> None:
    trained = Source(make_vae(CLASSIC), "any")
    report = export_bundle(trained, make_images(), tmp_path / "small", Settings(17, "any", compact=True))
    read, expected = load_source(report.path).model.state_dict(), round_weights(trained).model.state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in read.items())
    again = export_bundle(load_source(report.path), make_images(), tmp_path / "large", Settings(17, "any"))
    latents = np.random.default_rng(1).standard_normal((9, 6), np.float32)
    with vae_runtime.load(report.path) as small, vae_runtime.load(again.path) as large:
        np.testing.assert_array_equal(small.decode(latents), large.decode(latents))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_lower_precisions_have_no_compact_form(
    precision: str, make_vae: Callable[..., VAE], make_images: Images, tmp_path: Path
) -> None:
    settings = Settings(17, "any", precision=precision, compact=True)
    with pytest.raises(SettingError, match=f"--compact is for fp32; {precision} is smaller already"):
        export_bundle(Source(make_vae(CLASSIC), "any"), make_images(), tmp_path / "out", settings)
    assert not list(tmp_path.iterdir())
