"""The images that a model is measured on: held out of its training, and beside them those it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vae_runtime.images import Images, Pictures, to_float
from vae_training.config import Config, DataConfig
from vae_training.data import ImageSet, split
from vae_training.errors import DataError
from vae_training.evaluation.subjects import Subject

FEWEST = 8
"""Images on either side, below which nothing can be said of a set of them."""
_FOREIGN = 0.5  # share that counts as held out of images that the model has nothing to do with

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Material:
    """Images, split as they were for the training."""

    images: Pictures
    """(N, H, W, C) uint8."""
    name: str
    training: Indices
    held_out: Indices
    notes: list[str] = field(default_factory=list)
    """What should be known of the split before any number is believed."""

    def floats(self, indices: Indices) -> Images:
        """Return some of the images as (n, C, H, W) float32 in [0, 1]."""
        return to_float(self.images[indices])


def settings_of_data(
    subject: Subject, source: str | None, array: str | None, groups: str | None
) -> DataConfig:
    """Return where the images of a model come from: what it was trained on, but for what is given.

    Raises:
        DataError: it is not known, and nothing is given.
    """
    known = subject.config.data if subject.config else None
    if known is None and source is None:
        raise DataError(f"{subject.name} does not tell what it was trained on; name images with --data")
    chosen = known or DataConfig()
    if source is not None and source != chosen.source and not source.lower().endswith(".npz"):
        chosen = replace(chosen, array=None, groups=None)
    _, height, width = subject.image_shape
    return replace(
        chosen,
        source=source or chosen.source,
        array=array or chosen.array,
        groups=groups or chosen.groups,
        image_size=(height, width),
        channels=subject.image_shape[0],
    )


def gather(subject: Subject, images: ImageSet) -> Material:
    """Split images for a model as its training did.

    Raises:
        DataError: of another shape than the model's, or too few on one side.
    """
    _, height, width, channels = images.images.shape
    if (channels, height, width) != subject.image_shape:
        raise DataError(
            f"{images.name}: images of {channels}x{height}x{width}; {subject.name} takes "
            "{}x{}x{}".format(*subject.image_shape)
        )
    notes: list[str] = []
    validation, seed = _split_settings(subject, images, notes)
    training, held_out = split(images, validation, seed)
    for side, indices in (("to compare with", training), ("held out", held_out)):
        if len(indices) < FEWEST:
            raise DataError(
                f"{images.name}: {len(indices)} images {side} at a validation share of {validation:g}; expected at "
                f"least {FEWEST}: name other images with --data"
            )
    return Material(images.images, images.name, training, held_out, notes)


def _split_settings(subject: Subject, images: ImageSet, notes: list[str]) -> tuple[float, int]:
    """Return the share that is held out and the seed, and note what is uncertain about them."""
    config = subject.config
    if config is None:
        notes.append(
            f"{subject.name} does not tell which images it was trained on: 'held out' and 'training' are halves of "
            f"{images.name}"
        )
        return _FOREIGN, 0
    same = subject.data_fingerprint
    validation, seed = config.data.validation, config.training.seed
    if same is not None and same != images.fingerprint():
        notes.append(
            f"{images.name} is not what {subject.name} was trained on: 'training' is a part of it that the model "
            "never saw either"
        )
        return validation or _FOREIGN, seed
    if same is None and images.name not in (Path(config.data.source).name, Path(config.data.source).stem):
        notes.append(
            f"{subject.name} was trained on {Path(config.data.source).name}, and cannot tell whether {images.name} is "
            "a part of that: images held out here may have been trained on there"
        )
    if validation == 0:
        raise DataError(
            f"{subject.name} was trained on all of its images, with none held out; name others with --data"
        )
    return validation, seed


def notes_on_rival(subject: Subject, rival: Subject) -> list[str]:
    """Say where another model was trained on other images, or may have been trained on what is held out here."""
    ours, theirs = subject.config, rival.config
    if ours and theirs and _data(ours) != _data(theirs):
        return [f"{rival.name} was trained on other images than {subject.name}"]
    if ours and theirs and _split(ours) == _split(theirs):
        return []
    return [
        f"{rival.name} was split otherwise, or does not tell: images held out here may be trained on there"
    ]


def _data(config: Config) -> str:
    """Return the name of the data, by which two models are told apart: a bundle knows no path."""
    return Path(config.data.source).name


def _split(config: Config) -> tuple[object, ...]:
    return config.data.validation, config.data.groups, config.training.seed
