"""The shipped models: each is what its recipe makes, and what its card says."""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from processes import ROOT

import vae_runtime
from vae_export.cli import vae_export
from vae_runtime import Card, Model, to_float
from vae_runtime.bundle import read_bundle, shipped_models
from vae_runtime.card import card_of
from vae_runtime.scan import Scan, scan
from vae_runtime.session import _options
from vae_training.cli import vae_train
from vae_training.config import Config
from vae_training.data import load_images
from vae_training.data.named import NAMED_SETS
from vae_training.data.splitting import split

Array = npt.NDArray[Any]

BUNDLES = {name: folder for name, folder in shipped_models().items() if folder.parent == ROOT / "models"}
RECIPES = {name: Config.from_toml(folder / "recipe.toml") for name, folder in BUNDLES.items()}
OFFLINE = [
    name
    for name, recipe in RECIPES.items()
    if recipe.data.source in NAMED_SETS and NAMED_SETS[recipe.data.source].offline
]


def graphs_of(folder: str | Path) -> dict[str, tuple[Scan, Card]]:
    found = {}
    for role, data in read_bundle(folder).graphs.items():
        seen = scan(data, role)
        found[role] = seen, card_of(seen.metadata, role, role)
    return found


@pytest.mark.parametrize("name", BUNDLES)
def test_a_shipped_model_is_called_as_its_folder_and_carries_its_recipe(name: str) -> None:
    assert (ROOT / "models" / "README.md").read_text().count(f"`{name}`") >= 1
    for _, card in graphs_of(name).values():
        assert card.name == name
        assert card.license == "MIT"
        assert card.data
        assert Config.from_dict(card.recipe) == RECIPES[name]
    assert {path.name for path in BUNDLES[name].iterdir()} >= {"README.md", "preview.png", "recipe.toml"}


@pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="no git checkout")
@pytest.mark.parametrize("name", BUNDLES)
def test_git_changes_no_line_endings_in_a_shipped_model(name: str) -> None:
    files = [str(path) for path in BUNDLES[name].iterdir()]
    done = subprocess.run(
        ["git", "check-attr", "text", "--", *files], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count(": text: unset\n") == len(files)


@pytest.mark.parametrize("name", BUNDLES)
def test_its_card_shows_samples_nearer_to_real_images_than_those_of_the_classic_recipe(name: str) -> None:
    text = (BUNDLES[name] / "README.md").read_text(encoding="utf-8")
    assert f"| | {name} | real images | classic recipe |" in text
    distances = [
        line.split("|")[2:5] for line in text.splitlines() if line.startswith("| Frechet distance |")
    ]
    assert len(distances) == 3  # a space each
    for cells in distances:
        own, real, classic = (float(cell.split()[0]) for cell in cells)
        assert 0 < real < own < classic


def run(command: Any, *words: object) -> None:
    done = CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr


def load_data(recipe: Config) -> Any:
    data = recipe.data
    return load_images(data.source, image_size=data.image_size, channels=data.channels)


@pytest.mark.parametrize("name", BUNDLES)
def test_graphs_are_of_the_shape_that_the_recipe_says(name: str) -> None:
    recipe = RECIPES[name]
    graphs = graphs_of(name)
    for _, card in graphs.values():
        assert card.image_shape == recipe.model.image_shape
        assert card.latent_size == recipe.model.latent_size
        assert card.likelihood.name == recipe.training.likelihood
    assert ("prior" in graphs) == (recipe.training.prior != "standard")


@pytest.mark.parametrize("name", [name for name in BUNDLES if name.endswith("-int8")])
def test_in_8_bits_the_same_seed_draws_the_same_pictures_as_nearly_as_its_card_says(name: str) -> None:
    with vae_runtime.load(name.removesuffix("-int8"), provider="cpu") as exact:
        expected = exact.sample(64, seed=9)
    with vae_runtime.load(name, provider="cpu") as model:
        errors = np.square(model.sample(64, seed=9) - expected).mean(axis=(1, 2, 3))
        fidelity = model.card.fidelity
    ratios = -10 * np.log10(errors)
    assert ratios.mean() == pytest.approx(fidelity["psnr_db"], abs=0.5)
    assert ratios.min() > fidelity["lowest_psnr_db"] - 1.5

    parameters = sum(seen.parameters for seen, _ in graphs_of(name.removesuffix("-int8")).values())
    assert sum(path.stat().st_size for path in BUNDLES[name].glob("*.onnx")) < 0.45 * 4 * parameters


@pytest.mark.parametrize("name", BUNDLES)
def test_weights_that_are_stored_in_16_bits_are_turned_back_when_it_is_opened(
    name: str, tmp_path: Path
) -> None:
    """And not in every call: onnxruntime, opened as the runtime opens it, writes down what is left to do."""
    for role, data in read_bundle(name).graphs.items():
        options = _options(onnxruntime, scan(data, role), "cpu")
        options.optimized_model_filepath = str(tmp_path / f"{role}.onnx")
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(tmp_path / f"{role}.onnx").graph
        constants = {tensor.name for tensor in graph.initializer}
        assert not [node.name for node in graph.node if node.op_type == "Cast" and node.input[0] in constants]


def test_a_recipe_makes_a_bundle_of_the_same_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own two commands, on a few of its images, for an epoch: of the smallest, since each takes seconds.

    Without its prior, whose graphs take longest to write and depend on the images.
    """
    name = "digits"
    pytest.importorskip("sklearn")
    recipe = RECIPES[name]
    few = load_data(recipe).images[:128]
    np.save(tmp_path / "few.npy", few)
    shorter = dataclasses.replace(
        recipe,
        data=dataclasses.replace(recipe.data, source="few.npy"),
        training=dataclasses.replace(recipe.training, epochs=1, prior="standard"),
    )
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(shorter.to_toml())
    lines = (BUNDLES[name] / "recipe.toml").read_text().splitlines()
    train, export = (shlex.split(line[1:]) for line in lines if line.startswith("#   "))
    assert (train[0], export[0]) == ("vae-train", "vae-export")
    run(vae_train, *train[1:], "--quiet")
    run(vae_export, *export[1:], "--quiet")

    made, shipped = graphs_of(tmp_path / "bundle"), graphs_of(name)
    assert set(made) == {"encoder", "decoder"}
    for role, (seen, card) in made.items():
        other, promised = shipped[role]
        for field in ("name", "image_shape", "latent_size", "precision", "opset", "license", "data"):
            assert getattr(card, field) == getattr(promised, field)
        assert card.likelihood.name == promised.likelihood.name
        assert (seen.parameters, seen.operators) == (other.parameters, other.operators)


@pytest.fixture(scope="module", params=OFFLINE)
def held_out(request: pytest.FixtureRequest) -> Iterator[tuple[Model, Array]]:
    """A model, and the images that its training held out."""
    name = request.param
    recipe = RECIPES[name]
    images = load_data(recipe)
    _, kept = split(images, recipe.data.validation, recipe.training.seed)
    pictures = images.images[kept]
    with vae_runtime.load(name) as model:
        yield model, pictures[..., 0] if pictures.shape[-1] == 1 else pictures


def test_images_that_it_has_not_seen_are_reconstructed_as_well_as_its_card_says(
    held_out: tuple[Model, Array],
) -> None:
    model, pictures = held_out
    errors = np.square(model.reconstruct(pictures) - to_float(pictures)).mean(axis=(1, 2, 3))
    psnr = float(np.mean(-10 * np.log10(errors)))
    assert psnr == pytest.approx(model.card.quality["validation_psnr_db"], abs=0.15)
    blind = np.square(to_float(pictures).mean(axis=0) - to_float(pictures)).mean(axis=(1, 2, 3))
    assert psnr > float(np.mean(-10 * np.log10(blind))) + 4


def test_half_of_what_it_has_not_seen_scores_above_the_middle(held_out: tuple[Model, Array]) -> None:
    model, pictures = held_out
    percentiles = model.percentiles(model.score(pictures).total)
    assert 40 < np.median(percentiles) < 60
    noise = np.random.default_rng(0).integers(0, 256, pictures.shape, np.uint8)
    assert np.median(model.percentiles(model.score(noise).total)) > 99


def test_samples_are_as_varied_as_images_and_as_bright(held_out: tuple[Model, Array]) -> None:
    model, pictures = held_out
    images, samples = to_float(pictures), model.sample(1000, seed=3)
    np.testing.assert_allclose(samples.mean(axis=0), images.mean(axis=0), atol=0.12)
    assert samples.std(axis=0).mean() == pytest.approx(images.std(axis=0).mean(), rel=0.25)


def test_a_reconstructed_digit_is_the_same_digit_and_a_new_one_is_a_digit() -> None:
    """To a classifier that knows nothing of the model."""
    datasets = pytest.importorskip("sklearn.datasets")
    neighbors = pytest.importorskip("sklearn.neighbors")
    images = load_data(RECIPES["digits"])
    learned, kept = split(images, 0.1, 0)
    labels, pictures = datasets.load_digits().target, images.images[..., 0]
    flat = pictures.reshape(len(pictures), -1) / 255
    judge = neighbors.KNeighborsClassifier(5).fit(flat[learned], labels[learned])
    with vae_runtime.load("digits") as model:
        seen = model.reconstruct(pictures[kept]).reshape(len(kept), -1)
        samples = model.sample(500, seed=2).reshape(500, -1)
    assert judge.score(flat[kept], labels[kept]) > 0.97
    assert judge.score(seen, labels[kept]) > 0.93
    sure = judge.predict_proba(samples)
    assert np.mean(sure.max(axis=1) >= 0.8) > 0.7  # four of five neighbours agree
    assert np.bincount(sure.argmax(axis=1), minlength=10).min() > 15
