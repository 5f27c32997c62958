"""All measures together: what is compared with what, told by the images themselves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from vae_runtime.images import Images
from vae_training.data import ImageSet
from vae_training.evaluation.bounds import Bounds
from vae_training.evaluation.material import Indices, Material, gather
from vae_training.evaluation.measuring import PIXELS, Settings, Yardstick, as_record, choose, measure
from vae_training.evaluation.report import notes_on_figures
from vae_training.evaluation.resemblance import frechet_distance
from vae_training.evaluation.spaces import spaces
from vae_training.evaluation.subjects import RunSubject
from vae_training.evaluation.table import explanations, table

SETTINGS = Settings(importance_samples=5, importance_images=2)


@pytest.fixture(scope="module")
def material(run_subject: RunSubject, run_data: ImageSet) -> Material:
    return gather(run_subject, run_data)


@pytest.fixture(scope="module")
def yardstick(material: Material) -> Yardstick:
    return Yardstick(material, choose(material, SETTINGS))


def distances(images: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Root mean square of each image to the nearest of a bank, one by one."""
    return np.array(
        [np.sqrt(np.square(bank.astype(float) - image).mean((1, 2, 3))).min() for image in images]
    )


def test_real_figures_are_of_training_images_and_of_how_near_held_out_ones_come_to_them(
    material: Material, yardstick: Yardstick
) -> None:
    real = yardstick.real_figures()
    held_out, training = (material.floats(yardstick.chosen.held_out), material.floats(material.training))
    apart = distances(held_out, training)
    assert (real.novelty[PIXELS].median, real.novelty[PIXELS].smallest) == pytest.approx(
        (np.median(apart), apart.min()), abs=1e-6
    )
    for space in spaces():
        expected = frechet_distance(space(held_out), space(material.floats(yardstick.chosen.real)))
        assert real.resemblance[space.name].frechet == pytest.approx(expected)


def test_figures_of_samples_are_of_what_the_model_draws_in_256_values(
    run_subject: RunSubject, material: Material, yardstick: Yardstick
) -> None:
    told: list[tuple[str, int, int]] = []
    figures, shown = measure(run_subject, yardstick, SETTINGS, lambda *now: told.append(now))
    assert len(set(told)) == len(told)  # the last of a part ends a line
    drawn = run_subject.decode(run_subject.sample_latents(len(yardstick.held_out), seed=0))
    stepped = (np.rint(drawn * 255) / 255).astype(np.float32)
    np.testing.assert_allclose(shown.samples, stepped, atol=1e-7)
    assert np.abs(drawn - stepped).max() > 1e-3
    apart = distances(stepped, material.floats(material.training))
    assert figures.samples.novelty[PIXELS].median == pytest.approx(np.median(apart), abs=1e-6)
    for space in spaces():
        expected = frechet_distance(space(yardstick.held_out), space(stepped))
        assert figures.samples.resemblance[space.name].frechet == pytest.approx(expected, rel=1e-4)


def test_reconstructions_are_of_held_out_images_from_the_mean_of_their_posterior(
    run_subject: RunSubject, yardstick: Yardstick
) -> None:
    figures, shown = measure(run_subject, yardstick, SETTINGS, lambda *_: None)
    mean, _ = run_subject.encode(yardstick.held_out)
    again = run_subject.decode(mean)
    np.testing.assert_array_equal(shown.reconstructions, again)
    squared = np.square(yardstick.held_out.astype(float) - again).mean((1, 2, 3))
    assert figures.reconstructions.psnr == pytest.approx(np.mean(-10 * np.log10(squared)), abs=1e-4)


def test_paths_lead_from_one_held_out_image_to_another(
    run_subject: RunSubject, material: Material, yardstick: Yardstick
) -> None:
    _, shown = measure(run_subject, yardstick, SETTINGS, lambda *_: None)
    assert set(shown.ends.ravel().tolist()) <= set(material.held_out.tolist())
    assert len(set(shown.ends.ravel().tolist())) == shown.ends.size
    for path, ends in zip(shown.paths, shown.ends, strict=True):
        mean, _ = run_subject.encode(material.floats(ends))
        np.testing.assert_allclose(path[[0, -1]], run_subject.decode(mean), atol=1e-5)


def test_progress_is_told_to_its_end(run_subject: RunSubject, yardstick: Yardstick) -> None:
    told: list[tuple[str, int, int]] = []
    measure(run_subject, yardstick, SETTINGS, lambda *what: told.append(what))
    for stage in {what for what, _, _ in told}:
        done = [(step, of) for what, step, of in told if what == stage]
        assert done == sorted(done)
        assert done[-1][0] == done[-1][1]


def test_large_banks_are_looked_through_in_pieces_of_bounded_size(
    run_subject: RunSubject, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_training.evaluation import measuring

    whole = Yardstick(material, choose(material, SETTINGS))
    expected = whole.neighbours(whole.held_out)
    sizes: list[int] = []

    def floats(of: Material, indices: Indices) -> Images:
        sizes.append(len(indices))
        return as_floats(of, indices)

    as_floats = Material.floats
    monkeypatch.setattr(Material, "floats", floats)
    monkeypatch.setattr(measuring, "_BANK_PIXELS", 8 * 8 * 5)
    found = whole.neighbours(whole.held_out)
    assert max(sizes) == 5
    for name in expected:
        assert np.array_equal(found[name].index, expected[name].index)


def test_a_record_holds_plain_values_of_seven_digits() -> None:
    bounds = Bounds(2, 5, -math.pi * 1e3, 0.1, -1.0, 0.1, None, None, 2.0, 1.0, None, "nats")
    record = as_record({"of": [bounds], "n": 12345678901})
    assert record["n"] == 12345678901
    assert record["of"][0]["elbo"] == -3141.593
    assert record["of"][0]["bits_per_dimension"] is None
    assert isinstance(as_record(float(torch.tensor(1 / 3))), float)


def test_a_learned_prior_has_rows_of_its_own_and_a_note(
    run_subject: RunSubject, yardstick: Yardstick, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures, _ = measure(run_subject, yardstick, SETTINGS, lambda *_: None)
    assert "learned prior" not in table([figures], yardstick.real_figures())
    bounds = replace(figures.bounds, elbo_with_learned_prior=-12.3456, with_learned_prior=None)
    lines = table([replace(figures, bounds=bounds)], yardstick.real_figures()).splitlines()
    cells = {line.strip(): line.split()[-2:] for line in lines if "prior" in line}
    assert list(cells.values()) == [["-12.35", "-"], ["-", "-"]]

    def notes() -> str:
        return "\n".join(notes_on_figures([run_subject], [figures], yardstick.chosen, material))

    assert "learned prior" not in notes()
    monkeypatch.setattr(run_subject, "learned_prior", True)
    assert f"{run_subject.name}: samples come from its learned prior" in notes()


def test_a_long_name_makes_no_column_wider_and_is_told_below_the_table(
    run_subject: RunSubject, yardstick: Yardstick
) -> None:
    figures, _ = measure(run_subject, yardstick, SETTINGS, lambda *_: None)
    names = [f"faces-of-{'very-' * 4}kind-people-{number}" for number in (1, 2)]
    models = [replace(figures, name=name) for name in names]
    lines = table(models, yardstick.real_figures()).splitlines()
    assert lines[0].split() == ["faces-of...-people-1", "real", "images", "faces-of...-people-2"]
    assert max(len(line) for line in lines) <= 110
    assert all(name in "\n".join(explanations(models)) for name in names)
