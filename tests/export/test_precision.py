"""Bundles of lower precision: what is told of them is so, and what is wrong with them is found."""

from __future__ import annotations

import dataclasses
import hashlib
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from contents import files
from onnx import numpy_helper

import vae_runtime
from vae_export.bundle import Report, Settings, export_bundle
from vae_export.cli import vae_export
from vae_export.errors import ParityError, SettingError
from vae_export.parity import TOLERANCES, compare, require_parity
from vae_export.quality import psnr
from vae_export.source import Source
from vae_training.config import ModelConfig
from vae_training.data import ImageSet
from vae_training.model import VAE

Vae = Callable[..., VAE]
Images = Callable[..., ImageSet]

LOWER = ("fp16", "int8")


@pytest.fixture(scope="module")
def contrasting(make_vae: Vae) -> Source:
    """A model whose pictures have contrast: what is wrong with it is seen."""
    model = make_vae(ModelConfig(8, 8, 1, (4, 6), 3))
    for parameter in model.parameters():
        parameter.mul_(3)
    return Source(model, "contrasting")


@pytest.fixture(scope="module")
def reports(
    contrasting: Source, make_images: Images, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Report]:
    """Its bundles, by precision. Not to be changed: copy them."""
    folder = tmp_path_factory.mktemp("precisions")
    return {
        precision: export_bundle(
            contrasting, make_images(), folder / precision, Settings(17, precision, precision=precision)
        )
        for precision in ("fp32", *LOWER)
    }


@pytest.mark.parametrize("precision", LOWER)
def test_the_runtime_opens_it_as_any_bundle_and_tells_its_precision(
    reports: dict[str, Report], precision: str
) -> None:
    with vae_runtime.load(reports[precision].path, provider="cpu") as model:
        assert model.card.precision == precision
        assert precision in repr(model)
        assert model.sample(3, seed=0).dtype == np.float32
        assert model.sample(70, seed=0, dtype="uint8").shape == (70, 8, 8)
        mean, logvar = model.encode(np.zeros((2, 8, 8), np.uint8))
        assert (mean.dtype, logvar.dtype, mean.shape) == (np.float32, np.float32, (2, 3))


@pytest.mark.parametrize("precision", LOWER)
@torch.no_grad()
def test_what_the_card_says_of_its_fidelity_is_so(
    reports: dict[str, Report], contrasting: Source, make_images: Images, precision: str
) -> None:
    """Pictures are compared on other latents than those that the card's figures come from."""
    latents = np.random.default_rng(31).standard_normal((500, 3), np.float32)
    pictures = make_images().images[..., 0]
    with vae_runtime.load(reports[precision].path, provider="cpu") as model:
        told = model.card.fidelity
        decoded, found = model.decode(latents), model.encode(pictures)
    ratios = psnr(contrasting.model.decoder(torch.from_numpy(latents)).numpy(), decoded)
    assert told["psnr_db"] == pytest.approx(ratios.mean(), abs=0.7)
    assert told["lowest_psnr_db"] == pytest.approx(ratios.min(), abs=6)
    exact = contrasting.model.encoder(torch.from_numpy(pictures[:, None] / np.float32(255)))
    for name, ours, theirs in zip(("mean", "logvar"), found, exact, strict=True):
        gap = np.abs(ours - theirs.numpy())
        assert told[f"{name}_average"] == pytest.approx(gap.mean(), rel=1e-3)
        assert told[f"{name}_largest"] == pytest.approx(gap.max(), rel=1e-3)


def test_float32_claims_no_loss_and_has_none(reports: dict[str, Report]) -> None:
    assert reports["fp32"].card.fidelity == {}
    assert all(row.passed and row.limit <= 1e-4 for row in reports["fp32"].differences)


def test_each_precision_is_held_to_its_own_limits(reports: dict[str, Report]) -> None:
    def limits(precision: str) -> list[tuple[float, bool]]:
        return [(row.limit, row.by_psnr) for row in reports[precision].differences]

    assert limits("fp16") == [(2e-2, False)] * 2 + [(1e-2, False)] * 3
    assert limits("int8") == [(0.25, False)] * 2 + [(38.0, True), (10.0, True), (38.0, True)]
    for report in reports.values():
        require_parity(report.differences)


@pytest.mark.parametrize("precision", LOWER)
def test_readme_and_recipe_tell_the_precision(reports: dict[str, Report], precision: str) -> None:
    report = reports[precision]
    readme = (report.path / "README.md").read_text(encoding="utf-8")
    assert f"Opset 17, {precision}; operators: {', '.join(report.operators)}." in readme
    assert f"a PSNR of {report.card.fidelity['psnr_db']:.1f} dB" in readme
    for role, size in report.sizes.items():
        assert f"{size:,}" in readme
        assert size == (report.path / f"{role}.onnx").stat().st_size
    (line,) = (
        line for line in (report.path / "recipe.toml").read_text().splitlines() if "vae-export" in line
    )
    command = shlex.split(line.partition("with: ")[2])
    params = vae_export.make_context(command[0], command[1:]).params
    assert (params["precision"], params["optimize"], params["opset"]) == (precision, True, 17)
    assert ("found on the images 'noise'" in (report.path / "recipe.toml").read_text()) == (
        precision == "int8"
    )


@pytest.mark.parametrize("precision", LOWER)
def test_the_same_export_gives_the_same_bytes(
    reports: dict[str, Report], contrasting: Source, make_images: Images, tmp_path: Path, precision: str
) -> None:
    settings = Settings(17, precision, precision=precision)
    again = export_bundle(contrasting, make_images(), tmp_path / "again", settings)
    assert files(again.path) == files(reports[precision].path)


@pytest.mark.parametrize(
    ("config", "precision"),
    [
        (ModelConfig(8, 20, 1, (2, 3), 1), "int8"),
        (ModelConfig(12, 8, 3, (4, 2), 5, fc_relu=True), "int8"),
        (ModelConfig(12, 8, 3, (4, 2), 5, fc_relu=True), "fp16"),
    ],
    ids=["8x20 gray, one latent, int8", "12x8 colour, ReLU, int8", "12x8 colour, ReLU, fp16"],
)
def test_models_of_other_sizes_can_be_written_too(
    make_vae: Vae, make_images: Images, tmp_path: Path, config: ModelConfig, precision: str
) -> None:
    images = make_images(20, config.height, config.width, config.channels)
    settings = Settings(17, "other", precision=precision)
    report = export_bundle(Source(make_vae(config), "other"), images, tmp_path / "bundle", settings)
    with vae_runtime.load(report.path, provider="cpu") as model:
        assert model.sample(2, seed=1).shape == (2, *config.image_shape)


@pytest.mark.parametrize("precision", ["fp32", *LOWER])
def test_layers_can_stay_as_pytorch_has_them(
    contrasting: Source, make_images: Images, tmp_path: Path, precision: str
) -> None:
    settings = Settings(17, "plain", precision=precision, optimize=False)
    report = export_bundle(contrasting, make_images(), tmp_path / "bundle", settings)
    graph = onnx.load(report.path / "decoder.onnx").graph
    assert sum(node.op_type == "ConvTranspose" for node in graph.node) == 2
    assert "DepthToSpace" not in report.operators
    assert "--no-optimize" in (report.path / "recipe.toml").read_text()


def with_another_tensor(folder: Path, to: Path, role: str, name: str, factor: float) -> Path:
    """Copy a bundle with one tensor multiplied, and sums that are right."""
    to.mkdir()
    for file, data in files(folder).items():
        (to / file).write_bytes(data)
    graph = onnx.load(to / f"{role}.onnx")
    (tensor,) = (tensor for tensor in graph.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), name))
    onnx.save(graph, to / f"{role}.onnx")
    lines = (
        f"{hashlib.sha256((to / f'{r}.onnx').read_bytes()).hexdigest()}  {r}.onnx\n"
        for r in ("encoder", "decoder")
    )
    (to / "SHA256SUMS").write_text("".join(lines))
    return to


def weight_scales(folder: Path) -> list[tuple[str, str]]:
    return [
        (role, tensor.name)
        for role in ("encoder", "decoder")
        for tensor in onnx.load(folder / f"{role}.onnx").graph.initializer
        if tensor.name.endswith("weight_scale")
    ]


@pytest.mark.parametrize("factor", [0.6, 1.5])
def test_a_wrong_scale_of_any_layer_is_found(
    reports: dict[str, Report], contrasting: Source, make_images: Images, tmp_path: Path, factor: float
) -> None:
    pictures, limits = make_images().images[..., 0], TOLERANCES["int8"]
    scales = weight_scales(reports["int8"].path)
    assert len(scales) == 5
    for number, (role, name) in enumerate(scales):
        damaged = with_another_tensor(reports["int8"].path, tmp_path / str(number), role, name, factor)
        with vae_runtime.load(damaged, provider="cpu") as model:
            differences = compare(contrasting.model, model, pictures, limits)
        with pytest.raises(ParityError, match="PyTorch and the ONNX graphs disagree"):
            require_parity(differences)


@pytest.mark.parametrize(
    ("precision", "changes", "words"),
    [
        (
            "int8",
            {"psnr": 90.0},
            r"image on .* has a PSNR of \d\d\.\d dB at batch size \d+; expected at least 90",
        ),
        ("int8", {"tail_psnr": 90.0}, "image on latents of its tails has a PSNR of"),
        ("int8", {"latent": 1e-9}, "on images differs by"),
        ("fp16", {"image": 1e-9}, "image on .* differs by .* expected at most 1e-09"),
        ("fp16", {"latent": 1e-9}, "on images differs by"),
    ],
)
def test_where_a_limit_is_not_kept_nothing_is_written(
    contrasting: Source, make_images: Images, tmp_path: Path,
    precision: str, changes: dict[str, float], words: str,
) -> None:  # fmt: skip
    tolerances = dataclasses.replace(TOLERANCES[precision], **changes)
    settings = Settings(17, "x", precision=precision, tolerances=tolerances)
    with pytest.raises(ParityError, match=words + r".*Nothing was written"):
        export_bundle(contrasting, make_images(), tmp_path / "bundle", settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("factor", [30.0, 1e4, 1e12])
@pytest.mark.parametrize("precision", LOWER)
def test_a_model_of_wild_numbers_is_written_well_or_refused(
    make_vae: Vae, make_images: Images, tmp_path: Path, recwarn: pytest.WarningsRecorder,
    precision: str, factor: float,
) -> None:  # fmt: skip
    model = make_vae(ModelConfig(8, 8, 1, (3, 5), 2))
    for parameter in model.parameters():
        parameter.mul_(factor)
    with pytest.raises(vae_runtime.VaeError) as refused:
        export_bundle(
            Source(model, "wild"), make_images(), tmp_path / "bundle", Settings(17, "x", precision=precision)
        )
    assert refused.value.exit_code == 5
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    assert len(recwarn) == 0


def test_a_precision_that_there_is_not_is_a_usage_error(
    contrasting: Source, make_images: Images, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match="precision 'int4'; expected one of fp32, fp16, int8") as refused:
        export_bundle(contrasting, make_images(), tmp_path / "bundle", Settings(17, "x", precision="int4"))
    assert refused.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_among_temporary_files(
    contrasting: Source, make_images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    export_bundle(contrasting, make_images(), tmp_path / "bundle", Settings(17, "x", precision="int8"))
    assert [
        path.name for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "bundle"
    ] == []
