"""The bundle: whole, checkable, made again by its own recipe, and never there by halves."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from contents import files
from PIL import Image
from small_runs import leave_out_drawings

import vae_runtime
from vae_export import bundle as bundle_module
from vae_export.bundle import Report, Settings, export_bundle, preview_layout
from vae_export.cli import vae_export
from vae_export.errors import GraphError, OpsetError, ParityError
from vae_export.graphs import build_graphs
from vae_export.parity import Tolerances
from vae_export.readback import check_graph
from vae_export.source import Source
from vae_export.sources import load_source
from vae_runtime.card import Card
from vae_runtime.errors import OutputExistsError
from vae_training import loop
from vae_training.checkpoint import newest_checkpoint
from vae_training.cli import vae_train
from vae_training.config import Config, ModelConfig
from vae_training.data import ImageSet, split
from vae_training.run_folder import RunFolder

SETTINGS = Settings(opset=17, name="noisy")
IMPOSSIBLE = Tolerances(image=1e-30, latent=1e-30)


def test_everything_is_there_and_nothing_else(exported: Report) -> None:
    assert sorted(files(exported.path)) == [
        "README.md", "SHA256SUMS", "decoder.onnx", "encoder.onnx", "preview.png", "recipe.toml",
    ]  # fmt: skip
    assert [path.name for path in exported.path.parent.iterdir()] == ["noisy"]


def test_the_sums_are_those_of_every_other_file_as_sha256sum_writes_them(exported: Report) -> None:
    present = files(exported.path)
    listed = {}
    for line in present.pop("SHA256SUMS").decode("ascii").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
        assert match
        listed[match[2]] = match[1]
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in present.items()}


def test_its_own_sum_is_reported_and_can_be_expected(exported: Report) -> None:
    assert exported.sha256 == hashlib.sha256(files(exported.path)["SHA256SUMS"]).hexdigest()
    with vae_runtime.load(exported.path, expect_sha256=exported.sha256) as model:
        assert model.sha256 == exported.sha256


def test_a_graph_that_the_runtime_would_refuse_is_not_written(
    source: Source,
    make_images: Callable[..., ImageSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And it is told as a fault of the export, not as a stranger's bundle."""

    def with_trace(model: Any, opset: int) -> dict[str, onnx.ModelProto]:
        graphs = build_graphs(model, opset)
        graphs["decoder"].graph.node[-1].metadata_props.add(
            key="stack_trace", value="/home/somebody/train.py"
        )
        return graphs

    monkeypatch.setattr(bundle_module, "build_graphs", with_trace)
    said: list[str] = []
    with pytest.raises(
        GraphError, match=r"would not open what was written: the written decoder: refused: .*NodeProto"
    ):
        export_bundle(source, make_images(), tmp_path / "bundle", SETTINGS, progress=said.append)
    assert said == ["tracing encoder and decoder to opset 17"]
    assert list(tmp_path.iterdir()) == []


def test_it_opens_with_the_runtime_and_says_what_it_is(exported: Report, source: Source) -> None:
    with vae_runtime.load(exported.path, provider="cpu") as model:
        card = model.card
    assert source.config is not None
    assert (card.name, card.license, card.data) == ("noisy", "MIT", "drawn for a test")
    assert (card.image_shape, card.latent_size) == ((1, 8, 8), 2)
    assert (card.likelihood.name, card.precision, card.opset) == ("bernoulli", "fp32", 17)
    expected = source.config.to_dict()
    expected["data"]["source"] = "noise.npy"  # where it lies is nobody's business
    assert card.recipe == expected
    assert set(card.quality) == {
        "validation_loss", "validation_reconstruction", "validation_kl", "validation_psnr_db",
    }  # fmt: skip
    assert exported.card == card


def test_both_graphs_carry_the_same_card_but_for_the_role(exported: Report) -> None:
    cards = {}
    for role in ("encoder", "decoder"):
        data = (exported.path / f"{role}.onnx").read_bytes()
        check_graph(data, role, 17)
        (note,) = onnx.load_model_from_string(data).metadata_props
        cards[role] = Card.from_metadata(note.value, role)
        assert exported.sizes[role] == len(data)
    assert cards["encoder"].differences(cards["decoder"]) == []
    assert [card.role for card in cards.values()] == ["encoder", "decoder"]


def test_quality_is_measured_on_the_images_that_were_held_out(
    exported: Report, source: Source, make_images: Callable[..., ImageSet]
) -> None:
    assert source.config is not None
    _, held_out = split(make_images(), source.config.data.validation, source.config.training.seed)
    pictures = make_images().images[held_out][..., 0]
    with vae_runtime.load(exported.path, provider="cpu") as model:
        error = np.square(model.reconstruct(pictures)[:, 0] - pictures / 255.0).mean(axis=(1, 2))
    found = exported.card.quality["validation_psnr_db"]
    assert found == pytest.approx(np.mean(10 * np.log10(1 / error)), abs=2e-3)


def test_the_readme_tells_shapes_operators_and_differences(exported: Report) -> None:
    text = (exported.path / "README.md").read_text(encoding="utf-8")
    for words in (
        "# noisy",
        "license: mit",
        "(batch, 1, 8, 8) float32 in [0, 1]",
        "(batch, 2) float32",
        f"{exported.sizes['encoder']:,}",
        ", ".join(exported.operators),
        "batch sizes 1, 2, 7 and 64",
        "preview.png",
    ):
        assert words in text
    for row in exported.differences:
        assert f"| {row.output} | {row.inputs} | {row.maximum:.1e} |" in text


def test_the_preview_shows_forty_samples_of_seed_zero(exported: Report) -> None:
    with Image.open(exported.path / "preview.png") as image:
        preview = np.asarray(image)
    assert preview.shape == (5 * 8 * 12, 8 * 8 * 12)
    with vae_runtime.load(exported.path, provider="cpu") as model:
        samples = model.sample(40, seed=0, dtype="uint8")
    tiled = samples.reshape(5, 8, 8, 8).transpose(0, 2, 1, 3).reshape(40, 64)
    np.testing.assert_array_equal(preview[::12, ::12], tiled)


def test_the_recipe_trains_the_same_weights_again(
    exported: Report, run: Path, make_images: Callable[..., ImageSet], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    leave_out_drawings(monkeypatch)
    config = Config.from_toml(exported.path / "recipe.toml")
    loop.Trainer(config, make_images(), RunFolder(tmp_path)).run()
    again, first = (newest_checkpoint(RunFolder(path).checkpoints).weights for path in (tmp_path, run))
    assert all(torch.equal(again[name], first[name]) for name in first)


def recipe_commands(path: Path) -> list[list[str]]:
    lines = (path / "recipe.toml").read_text(encoding="utf-8").splitlines()
    return [shlex.split(line[1:]) for line in lines if line.startswith("#   ")]


@pytest.mark.parametrize("name", ["noisy", "two words", "it's; rm -rf $HOME", "two\nlines = 3", "--help"])
def test_the_commands_of_the_recipe_can_be_run_whatever_the_name(
    source: Source, make_images: Callable[..., ImageSet], tmp_path: Path, name: str
) -> None:
    settings = dataclasses.replace(SETTINGS, name=name)
    path = export_bundle(source, make_images(), tmp_path / "bundle", settings).path
    assert Config.from_toml(path / "recipe.toml").training.seed == 4
    train, export = recipe_commands(path)
    assert vae_train.make_context(train[0], train[1:]).params["config_file"] == Path("recipe.toml")
    params = vae_export.make_context(export[0], export[1:]).params
    assert params["name"] == " ".join(name.split())
    assert params["opset"] == 17


def test_the_same_export_gives_the_same_bytes(
    source: Source, make_images: Callable[..., ImageSet], tmp_path: Path
) -> None:
    first, second = (
        export_bundle(source, make_images(), tmp_path / name, SETTINGS).path for name in ("a", "b")
    )
    assert files(first) == files(second)


def test_weights_alone_make_a_bundle_that_claims_nothing(
    run: Path, make_images: Callable[..., ImageSet], tmp_path: Path
) -> None:
    weights = max((run / "checkpoints").iterdir()) / "model.safetensors"
    report = export_bundle(load_source(weights), make_images(), tmp_path / "bundle", SETTINGS)
    assert (report.card.recipe, report.card.quality) == ({}, {})
    assert "Nothing is known of its training data." in (report.path / "README.md").read_text()
    recipe = (report.path / "recipe.toml").read_text()
    assert all(line.startswith("#") for line in recipe.splitlines())


@pytest.mark.parametrize(
    ("side", "layout"), [(8, (5, 8)), (24, (5, 8)), (48, (5, 8)), (64, (3, 8)), (128, (1, 6)), (1000, (1, 1))]
)
def test_of_large_images_a_preview_shows_fewer(side: int, layout: tuple[int, int]) -> None:
    assert preview_layout(side, side) == layout


def test_colour_images_make_a_bundle_too(
    make_vae: Any, make_images: Callable[..., ImageSet], tmp_path: Path
) -> None:
    model = make_vae(ModelConfig(12, 8, 3, (4, 2), 5, fc_relu=True))
    report = export_bundle(Source(model, "colour"), make_images(20, 12, 8, 3), tmp_path / "bundle", SETTINGS)
    with vae_runtime.load(report.path, provider="cpu") as opened:
        assert opened.sample(2, seed=0, dtype="uint8").shape == (2, 12, 8, 3)
    with Image.open(report.path / "preview.png") as image:
        assert (image.mode, image.size) == ("RGB", (8 * 8 * 12, 5 * 12 * 12))


def test_what_is_being_done_is_said_step_by_step(
    source: Source, make_images: Callable[..., ImageSet], tmp_path: Path
) -> None:
    said: list[str] = []
    export_bundle(source, make_images(), tmp_path / "bundle", SETTINGS, progress=said.append)
    assert said == [
        "tracing encoder and decoder to opset 17",
        "measuring quality on held-out images",
        "reading the files back",
        "comparing with PyTorch on cpu",
        "writing card, recipe and sums",
    ]


def test_where_parity_fails_nothing_is_left_behind(
    source: Source, make_images: Callable[..., ImageSet], tmp_path: Path
) -> None:
    settings = dataclasses.replace(SETTINGS, tolerances=IMPOSSIBLE)
    with pytest.raises(ParityError, match="differs by"):
        export_bundle(source, make_images(), tmp_path / "bundle", settings)
    assert list(tmp_path.iterdir()) == []


def test_where_parity_fails_a_bundle_that_is_there_stays_as_it_was(
    source: Source, make_images: Callable[..., ImageSet], tmp_path: Path
) -> None:
    path = export_bundle(source, make_images(), tmp_path / "bundle", SETTINGS).path
    before = files(path)
    settings = dataclasses.replace(SETTINGS, tolerances=IMPOSSIBLE, name="other")
    with pytest.raises(ParityError):
        export_bundle(source, make_images(), path, settings, overwrite=True)
    assert files(path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_graph_that_is_not_what_was_promised_is_not_written(
    source: Source,
    make_images: Callable[..., ImageSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise GraphError("the written decoder has a fault")

    monkeypatch.setattr(bundle_module, "check_graph", refuse)
    with pytest.raises(GraphError):
        export_bundle(source, make_images(), tmp_path / "bundle", SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_the_files_themselves_are_read_back_and_proven(
    source: Source,
    make_images: Callable[..., ImageSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, bytes, bytes]] = []

    def look(data: bytes, role: str, opset: int) -> None:
        (written,) = tmp_path.rglob(f"{role}.onnx")
        seen.append((role, data, written.read_bytes()))
        check_graph(data, role, opset)

    monkeypatch.setattr(bundle_module, "check_graph", look)
    path = export_bundle(source, make_images(), tmp_path / "bundle", SETTINGS).path
    assert [role for role, *_ in seen] == ["encoder", "decoder"]
    for role, checked, on_disk in seen:
        assert checked == on_disk == (path / f"{role}.onnx").read_bytes()


def test_a_folder_that_is_there_is_replaced_only_where_that_is_wished(
    source: Source, make_images: Callable[..., ImageSet], tmp_path: Path
) -> None:
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "SHA256SUMS").touch()
    with pytest.raises(OutputExistsError, match="give --overwrite"):
        export_bundle(source, make_images(), path, SETTINGS)
    assert [file.name for file in path.iterdir()] == ["SHA256SUMS"]
    export_bundle(source, make_images(), path, SETTINGS, overwrite=True)
    assert len(files(path)) == 6
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_no_bundle_is_never_replaced(
    source: Source, make_images: Callable[..., ImageSet], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(OutputExistsError, match="holds other things than what is written here"):
        export_bundle(source, make_images(), tmp_path, SETTINGS, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_quality_is_not_measured_on_other_images_than_those_of_the_training(
    source: Source, make_images: Callable[..., ImageSet], tmp_path: Path
) -> None:
    others = make_images(47)
    report = export_bundle(source, others, tmp_path / "bundle", SETTINGS)
    assert "validation_psnr_db" not in report.card.quality
    assert "validation_loss" in report.card.quality


def test_an_opset_that_cannot_be_written_is_refused_before_any_work(
    source: Source, make_images: Callable[..., ImageSet], tmp_path: Path
) -> None:
    with pytest.raises(OpsetError):
        export_bundle(source, make_images(), tmp_path / "b", dataclasses.replace(SETTINGS, opset=14))
    assert list(tmp_path.iterdir()) == []
