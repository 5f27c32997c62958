"""Which images a model is measured on: those, and only those, that its training held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vae_training.config import Config, DataConfig
from vae_training.data import ImageSet
from vae_training.errors import DataError
from vae_training.evaluation.material import gather, notes_on_rival, settings_of_data
from vae_training.evaluation.measuring import Settings, choose
from vae_training.evaluation.subjects import RunSubject
from vae_training.loop import Trainer
from vae_training.run_folder import RunFolder


class Known:
    """A model of which all that matters here is what it says of its training."""

    name, kind = "known", "run"
    image_shape = (1, 8, 8)

    def __init__(self, config: Config | None, fingerprint: str | None) -> None:
        self.config, self.data_fingerprint = config, fingerprint


def known(images: ImageSet, *, validation: float = 0.25, seed: int = 5) -> Known:
    config = Config()
    config = replace(
        config, data=DataConfig(validation=validation), training=replace(config.training, seed=seed)
    )
    return Known(config, images.fingerprint())


def test_what_is_held_out_here_is_what_the_training_held_out(
    run: Path, run_subject: RunSubject, run_data: ImageSet, tmp_path: Path
) -> None:
    material = gather(run_subject, run_data)
    trainer = Trainer(Config.from_toml(RunFolder(run).config), run_data, RunFolder(tmp_path / "again"))
    held_out = torch.from_numpy(material.floats(material.held_out))
    assert torch.equal(held_out, trainer.held_out.float() / 255)
    assert torch.equal(
        torch.from_numpy(material.floats(material.training)), trainer.batches.images.float() / 255
    )
    assert not material.notes


def test_nobody_is_on_both_sides_where_it_is_known_who_is_who(bars: Callable[..., ImageSet]) -> None:
    images = replace(bars(90), groups=np.arange(90) // 3)
    material = gather(known(images), images)
    people = [set(images.groups[side].tolist()) for side in (material.training, material.held_out)]
    assert people[0].isdisjoint(people[1])
    chosen = choose(material, Settings())
    assert set(images.groups[chosen.real].tolist()) <= people[0]


def test_as_many_real_images_are_taken_as_held_out_ones_and_none_twice(
    bars: Callable[..., ImageSet],
) -> None:
    images = bars(100)
    material = gather(known(images), images)
    for most, expected in ((2000, 25), (10, 10)):
        chosen = choose(material, Settings(images=most, importance_images=4))
        assert len(set(chosen.held_out.tolist())) == len(set(chosen.real.tolist())) == expected
        assert (
            set(chosen.for_bounds.tolist()) < set(chosen.held_out.tolist()) <= set(material.held_out.tolist())
        )
        assert len(chosen.for_bounds) == 4
    assert choose(material, Settings(seed=1)).real.tolist() != choose(material, Settings()).real.tolist()


def test_other_images_than_those_of_the_training_are_measured_on_and_told(
    bars: Callable[..., ImageSet],
) -> None:
    trained_on, others = bars(60), bars(80, seed=1)
    material = gather(known(trained_on), others)
    assert (len(material.training), len(material.held_out)) == (60, 20)
    assert "is not what known was trained on" in material.notes[0]
    everything = gather(known(trained_on, validation=0.0), others)
    assert (len(everything.training), len(everything.held_out)) == (40, 40)


@pytest.mark.parametrize(
    ("source", "is_told"), [("parts/bars.npy", False), ("bars", False), ("all.npy", True)]
)
def test_a_bundle_that_was_trained_on_a_file_of_another_name_may_have_seen_what_is_held_out(
    bars: Callable[..., ImageSet], source: str, is_told: bool
) -> None:
    config = replace(Config(), data=DataConfig(source=source, validation=0.25))
    notes = gather(Known(config, None), bars(40)).notes
    told = "known was trained on all.npy, and cannot tell whether bars is a part of that"
    assert [note[: len(told)] for note in notes] == [told] * is_told


def test_a_model_that_does_not_tell_its_training_is_measured_on_a_half(bars: Callable[..., ImageSet]) -> None:
    material = gather(Known(None, None), bars(40))
    assert (len(material.training), len(material.held_out)) == (20, 20)
    assert "does not tell which images it was trained on" in material.notes[0]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda bars: (known(bars(40), validation=0.0), bars(40)), "trained on all of its images"),
        (
            lambda bars: (known(bars(24)), bars(24)),
            "6 images held out at a validation share of 0.25; expected at",
        ),
        (lambda bars: (known(bars(40)), bars(40, channels=3)), "images of 3x8x8; known takes 1x8x8"),
    ],
)
def test_nothing_is_measured_where_there_is_nothing_to_measure_on(
    bars: Callable[..., ImageSet], make: Callable[..., tuple[Known, ImageSet]], words: str
) -> None:
    with pytest.raises(DataError) as raised:
        gather(*make(bars))
    assert words in str(raised.value)
    assert "--data" in str(raised.value) or "takes" in str(raised.value)


def test_images_are_looked_for_where_the_training_found_them_or_where_it_is_said(
    run_subject: RunSubject,
) -> None:
    own = settings_of_data(run_subject, None, None, None)
    assert own.source.endswith("bars.npy")
    assert (own.image_size, own.channels) == ((8, 8), 1)
    moved = settings_of_data(run_subject, "elsewhere.npz", "images24", "person")
    assert (moved.source, moved.array, moved.groups) == ("elsewhere.npz", "images24", "person")


def test_the_arrays_of_an_archive_stay_named_where_it_moved_and_not_where_it_is_a_folder() -> None:
    model = Known(Config(data=DataConfig(source="a.npz", array="x", groups="who")), None)
    assert settings_of_data(model, "b/a.npz", None, None).groups == "who"
    folder = settings_of_data(model, "pictures/", None, None)
    assert (folder.array, folder.groups) == (None, None)


def test_a_model_without_a_recipe_needs_to_be_told_its_images() -> None:
    with pytest.raises(DataError, match="name images with --data"):
        settings_of_data(Known(None, None), None, None, None)


def test_a_rival_that_was_split_otherwise_or_trained_on_other_images_is_told_of(
    bars: Callable[..., ImageSet],
) -> None:
    images = bars(40)
    model = known(images)
    assert notes_on_rival(model, known(images)) == []
    assert "split otherwise" in notes_on_rival(model, known(images, seed=6))[0]
    assert "split otherwise" in notes_on_rival(model, known(images, validation=0.1))[0]
    assert "split otherwise" in notes_on_rival(model, Known(None, None))[0]
    here, there = (
        Known(replace(model.config, data=replace(model.config.data, source=source)), None)
        for source in ("/here/bars.npy", "bars.npy")
    )
    assert notes_on_rival(here, there) == []  # a bundle knows no path
    assert "trained on other images" in notes_on_rival(model, there)[0]
