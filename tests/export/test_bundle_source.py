"""A bundle as what is exported: its weights come out of its graphs, and only if these compute nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

import vae_runtime
from vae_export.bundle import Report, Settings, export_bundle
from vae_export.errors import SourceError
from vae_export.source import Source
from vae_export.sources import is_bundle, load_source
from vae_runtime.errors import BundleError
from vae_training.config import Config, ModelConfig
from vae_training.data import ImageSet
from vae_training.errors import ConfigError, NonFiniteWeightsError
from vae_training.model import VAE

Images = Callable[..., ImageSet]

PLAIN = Settings(17, "plain", license="MIT", data="drawn for a test", optimize=False)


@pytest.fixture(scope="module")
def plain(source: Source, make_images: Images, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The run's bundle with layers as PyTorch has them. Not to be changed: copy it."""
    return export_bundle(source, make_images(), tmp_path_factory.mktemp("plain") / "plain", PLAIN)


@pytest.mark.parametrize("form", ["as PyTorch has it", "folded"])
def test_of_either_form_every_weight_is_read_to_its_last_bit(
    plain: Report, exported: Report, source: Source, form: str
) -> None:
    report = exported if form == "folded" else plain
    graph = onnx.load(report.path / "decoder.onnx").graph
    assert any(tensor.name == "folded.shape" for tensor in graph.initializer) == (form == "folded")
    read = load_source(report.path)
    assert isinstance(read.model, VAE)
    assert not read.model.training
    assert read.model.config == source.model.config
    for name, tensor in source.model.state_dict().items():
        assert torch.equal(read.model.state_dict()[name], tensor)
    assert not any(parameter.requires_grad for parameter in read.model.parameters())


def test_what_its_card_says_goes_along(plain: Report, source: Source) -> None:
    read = load_source(plain.path)
    assert (read.name, read.license, read.data) == ("plain", "MIT", "drawn for a test")
    assert read.config is not None
    assert source.config is not None
    assert read.config.training == source.config.training
    assert read.metrics == plain.card.quality
    sums = hashlib.sha256((plain.path / "SHA256SUMS").read_bytes()).hexdigest()
    assert read.bundle == f"plain, whose SHA256SUMS has the SHA-256 {sums}"


def test_settings_that_this_version_does_not_know_are_left_out(
    source: Source, make_images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export_bundle(source, make_images(), tmp_path / "bundle", PLAIN).path

    def refuse(*_: object) -> Config:
        raise ConfigError("unknown key 'curvature'")

    monkeypatch.setattr(Config, "from_dict", refuse)
    assert load_source(path).config is None


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_bundle_made_from_it_says_so_and_keeps_what_is_known(
    plain: Report, make_images: Images, tmp_path: Path, precision: str
) -> None:
    settings = Settings(17, "made", license="MIT", data="drawn for a test", precision=precision)
    made = export_bundle(load_source(plain.path), make_images(), tmp_path / "made", settings)
    assert made.card.recipe == plain.card.recipe
    kept = {name: figure for name, figure in plain.card.quality.items() if name != "validation_psnr_db"}
    assert dict(made.card.quality) == kept
    recipe = (made.path / "recipe.toml").read_text()
    assert f"the bundle plain, whose SHA256SUMS has the SHA-256 {plain.sha256}" in recipe
    assert f"--precision {precision}" in recipe
    assert ("The ranges of its activations were found on the images 'noise'." in recipe) == (
        precision == "int8"
    )
    assert Config.from_toml(made.path / "recipe.toml").training.seed == 4


def test_from_either_form_the_same_int8_decoder_comes(
    plain: Report, exported: Report, make_images: Images, tmp_path: Path
) -> None:
    decoders = []
    for report in (plain, exported):
        settings = Settings(17, "int8", precision="int8")
        made = export_bundle(load_source(report.path), make_images(), tmp_path / report.card.name, settings)
        decoders.append(onnx.load(made.path / "decoder.onnx").graph.SerializeToString())
    assert decoders[0] == decoders[1]


def changed(report: Report, to: Path, role: str, change: Callable[[onnx.ModelProto], None]) -> Path:
    """Copy a bundle with one graph changed, and sums that are right."""
    shutil.copytree(report.path, to)
    graph = onnx.load(to / f"{role}.onnx")
    change(graph)
    onnx.save(graph, to / f"{role}.onnx")
    lines = [
        f"{hashlib.sha256((to / f'{name}.onnx').read_bytes()).hexdigest()}  {name}.onnx\n"
        for name in ("encoder", "decoder")
    ]
    (to / "SHA256SUMS").write_text("".join(lines))
    return to


def leaky(graph: onnx.ModelProto) -> None:
    (relu,) = (node for node in graph.graph.node if node.op_type == "Relu")
    relu.op_type = "LeakyRelu"


def renamed(graph: onnx.ModelProto) -> None:
    for tensor in graph.graph.initializer:
        if tensor.name == "fc.weight":
            tensor.name = graph.graph.node[0].input[1] = "w"


def doubled(graph: onnx.ModelProto) -> None:
    """Twice the logits, by an operator that has no weight."""
    last = graph.graph.node[-1]
    graph.graph.node.insert(
        len(graph.graph.node) - 1, helper.make_node("Add", [last.input[0]] * 2, ["twice"])
    )
    graph.graph.node[-1].input[0] = "twice"


def not_finite(graph: onnx.ModelProto) -> None:
    (bias,) = (tensor for tensor in graph.graph.initializer if tensor.name == "fc.bias")
    bias.CopyFrom(
        numpy_helper.from_array(np.full(numpy_helper.to_array(bias).shape, np.nan, np.float32), "fc.bias")
    )


@pytest.mark.parametrize("change", [leaky, renamed, doubled])
def test_graphs_that_compute_something_else_are_refused(
    plain: Report, tmp_path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    path = changed(plain, tmp_path / "changed", "decoder", change)
    with pytest.raises(
        SourceError, match=r"its graphs are not of an architecture that is known here: .*"
    ) as refused:
        load_source(path)
    assert refused.value.exit_code == 3
    assert "\n" not in str(refused.value)


def test_weights_that_are_no_numbers_are_told_as_such(plain: Report, tmp_path: Path) -> None:
    """As those of a checkpoint are; nothing is wrong with the architecture."""
    path = changed(plain, tmp_path / "changed", "decoder", not_finite)
    with pytest.raises(NonFiniteWeightsError, match=r"^\S*changed: decoder.fc.bias hold NaN") as refused:
        load_source(path)
    assert refused.value.exit_code == 5


def test_a_relu_behind_the_linear_layer_is_seen(
    make_vae: Callable[..., VAE], make_images: Images, tmp_path: Path
) -> None:
    config = ModelConfig(8, 8, 1, (3, 5), 2, fc_relu=True)
    path = export_bundle(Source(make_vae(config), "relu"), make_images(), tmp_path / "relu", PLAIN).path
    assert load_source(path).model.config == config


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_rounded_weights_are_no_source(
    source: Source, make_images: Images, tmp_path: Path, precision: str
) -> None:
    settings = dataclasses.replace(PLAIN, precision=precision)
    path = export_bundle(source, make_images(), tmp_path / "low", settings).path
    with pytest.raises(SourceError, match=f"weights are rounded to {precision}; expected a bundle of fp32"):
        load_source(path)


def test_a_damaged_bundle_is_refused(plain: Report, tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    shutil.copytree(plain.path, path)
    data = bytearray((path / "encoder.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "encoder.onnx").write_bytes(data)
    with pytest.raises(BundleError, match="SHA-256 differs"):
        load_source(path)


def test_a_shipped_model_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_bundle(Path("faces24"))
    read = load_source(Path("faces24"))
    assert (read.name, read.model.config.image_shape) == ("faces24", (1, 24, 24))
    (tmp_path / "faces24").mkdir()
    assert not is_bundle(Path("faces24"))


def test_the_command_takes_it_and_names_what_it_makes(
    plain: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vae_export_here: Callable[..., Any]
) -> None:
    shutil.copytree(plain.path, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    ended = vae_export_here("mine", "--precision", "int8")
    assert ended.code == 0, ended.err
    assert "images: faces" in ended.err
    with vae_runtime.load(tmp_path / "mine-int8") as model:
        card = model.card
    assert (card.name, card.precision, card.license, card.data) == (
        "mine-int8",
        "int8",
        "MIT",
        "drawn for a test",
    )
