"""All measures of a model, one after another, and of real photographs in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vae_runtime.images import Images, to_float, to_uint8
from vae_training.evaluation.bounds import Bounds, measure_bounds
from vae_training.evaluation.faces import TakenForFaces, share_of_faces
from vae_training.evaluation.latents import LatentUse, measure_latents
from vae_training.evaluation.material import Material
from vae_training.evaluation.nearest import (
    Neighbours,
    Novelty,
    nearest,
    novelty,
    pixel_novelty,
    root_mean_square,
)
from vae_training.evaluation.paths import STEPS, Smoothness, measure_smoothness
from vae_training.evaluation.reconstructions import Nearness, measure_nearness
from vae_training.evaluation.resemblance import Resemblance, measure_resemblance
from vae_training.evaluation.spaces import spaces
from vae_training.evaluation.subjects import Subject

PIXELS = "pixels"
_PATHS = 64
# Training images that are compared with at a time; fewer of large ones.
_BANK_AT_ONCE, _BANK_PIXELS = 2048, 1 << 24

Indices = npt.NDArray[np.int64]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Settings:
    """How much is measured; more takes longer and is surer."""

    importance_samples: int = 5000
    importance_images: int = 200
    images: int = 2000
    """The most of each set that is compared."""
    seed: int = 0
    faces: bool = False
    """Whether a face detector looks at them, too."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """Which images are measured on: as many held-out ones as there are training images to compare them with."""

    held_out: Indices
    real: Indices
    """Of the training images, the reference: photographs as good as any, of other people where groups are known."""
    for_bounds: Indices


@dataclass(frozen=True)
class SetFigures:
    """What is told of a set of images beside held-out ones, by space."""

    resemblance: dict[str, Resemblance]
    novelty: dict[str, Novelty]


@dataclass(frozen=True)
class ModelFigures:
    """Everything that is told of a model."""

    name: str
    kind: str
    likelihood: str
    noise_scale: float | None
    bounds: Bounds
    latents: LatentUse
    reconstructions: Nearness
    reconstructions_as_a_set: dict[str, Resemblance]
    samples: SetFigures
    interpolations: dict[str, Smoothness]
    faces: TakenForFaces | None


@dataclass(frozen=True)
class RealFigures:
    """What can be reached: real photographs in the place of samples."""

    resemblance: dict[str, Resemblance]
    """Of training images to as many held-out ones."""
    novelty: dict[str, Novelty]
    """Of held-out images: how near they come to training images by themselves."""
    faces: float | None
    """The share of held-out images that are taken for faces."""


@dataclass(frozen=True, eq=False)
class Shown:
    """Images for the page, floats (N, C, H, W) but for what says otherwise."""

    samples: Images
    nearest: Indices
    """Of the samples, by pixels, among all images."""
    paths: npt.NDArray[np.float32]
    """(P, S, C, H, W)."""
    ends: Indices
    """(P, 2) which images the paths lead from and to."""
    reconstructions: Images


def choose(material: Material, settings: Settings) -> Chosen:
    """Choose at random, by the seed, which images are measured on."""
    count = min(settings.images, len(material.held_out), len(material.training))
    draws = np.random.default_rng([settings.seed, 1])
    held_out = draws.permutation(material.held_out)[:count]
    real = draws.permutation(material.training)[:count]
    return Chosen(held_out, real, held_out[: settings.importance_images])


class Yardstick:
    """The images that models are held against, and what is known of them in every space."""

    def __init__(self, material: Material, chosen: Chosen) -> None:
        self.material = material
        self.chosen = chosen
        self.held_out = material.floats(chosen.held_out)
        self.held_out_features = {space.name: space(self.held_out) for space in spaces()}

    def resemblance(self, images: Images) -> dict[str, Resemblance]:
        """Compare a set of images with the held-out ones."""
        return {
            space.name: measure_resemblance(self.held_out_features[space.name], space(images))
            for space in spaces()
        }

    def neighbours(self, images: Images) -> dict[str, Neighbours]:
        """Find the nearest training image of each of some images, in pixels and in the first space."""
        space = spaces()[0]
        return {
            PIXELS: nearest(_as_pixels(images), self._bank(_as_pixels)),
            space.name: nearest(space(images), self._bank(space)),
        }

    def real_figures(self, *, faces: bool = False) -> RealFigures:
        """Return what real photographs reach; with `faces`, how many of them are taken for faces, too."""
        return RealFigures(
            self.resemblance(self.material.floats(self.chosen.real)),
            _novelties(self.neighbours(self.held_out)),
            share_of_faces(self.held_out) if faces else None,
        )

    def _bank(self, look: Callable[[Images], Tensor]) -> Iterator[Tensor]:
        training = self.material.training
        at_once = max(1, min(_BANK_AT_ONCE, _BANK_PIXELS // self.held_out[0].size))
        for start in range(0, len(training), at_once):
            yield look(self.material.floats(training[start : start + at_once]))


def measure(
    subject: Subject, yardstick: Yardstick, settings: Settings, progress: Progress
) -> tuple[ModelFigures, Shown]:
    """Measure a model; also return what the page shows of it.

    Raises:
        NonFiniteError: it produced NaN or infinity.
    """
    chosen, material = yardstick.chosen, yardstick.material

    def say(what: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(f"{subject.name}: {what}", done, total)

    bounds = measure_bounds(
        subject, material.floats(chosen.for_bounds), settings.importance_samples, settings.seed, say("bounds")
    )
    tell = say("reconstructions, samples and paths")
    parts = 5 if settings.faces else 4
    tell(0, parts)
    mean, logvar = subject.encode(yardstick.held_out)
    reconstructions = subject.decode(mean)
    tell(1, parts)
    # In 256 values, as photographs are: a tint between two of them would tell the sets apart.
    samples = _in_8_bits(subject.decode(subject.sample_latents(len(chosen.held_out), settings.seed)))
    neighbours = yardstick.neighbours(samples)
    tell(2, parts)
    paths, ends = _paths(subject, mean, settings.seed)
    tell(3, parts)
    smoothness = _smoothness(paths)
    tell(4, parts)
    faces = None
    if settings.faces:
        faces = TakenForFaces(share_of_faces(samples), share_of_faces(reconstructions))
        tell(5, parts)
    scale = subject.likelihood.noise_scale
    figures = ModelFigures(
        name=subject.name,
        kind=subject.kind,
        likelihood=subject.likelihood.name,
        noise_scale=scale,
        bounds=bounds,
        latents=measure_latents(mean, logvar),
        reconstructions=measure_nearness(yardstick.held_out, reconstructions),
        reconstructions_as_a_set=yardstick.resemblance(_in_8_bits(reconstructions)),
        samples=SetFigures(yardstick.resemblance(samples), _novelties(neighbours)),
        interpolations=smoothness,
        faces=faces,
    )
    shown = Shown(
        samples=samples,
        nearest=material.training[neighbours[PIXELS].index],
        paths=paths,
        ends=chosen.held_out[ends],
        reconstructions=reconstructions,
    )
    return figures, shown


def _as_pixels(images: Images) -> Tensor:
    return root_mean_square(torch.from_numpy(images))


def _in_8_bits(images: Images) -> Images:
    """Round (N, C, H, W) images in [0, 1] to the 256 values of stored pixels."""
    return to_float(to_uint8(images))


def _novelties(neighbours: dict[str, Neighbours]) -> dict[str, Novelty]:
    return {
        name: pixel_novelty(found) if name == PIXELS else novelty(found) for name, found in neighbours.items()
    }


def _paths(
    subject: Subject, mean: npt.NDArray[np.float32], seed: int
) -> tuple[npt.NDArray[np.float32], Indices]:
    """Return images on paths between random pairs of posteriors (N, D), and which images those are of."""
    order = np.random.default_rng([seed, 2]).permutation(len(mean))
    ends = order[: 2 * min(_PATHS, len(mean) // 2)].reshape(-1, 2)
    latents = [subject.latent_path(mean[pair], STEPS) for pair in ends]
    images = subject.decode(np.concatenate(latents))
    return images.reshape(len(ends), STEPS, *subject.image_shape), ends


def _smoothness(paths: npt.NDArray[np.float32]) -> dict[str, Smoothness]:
    images = paths.reshape(-1, *paths.shape[2:])
    looks: dict[str, Callable[[Images], Tensor]] = {
        PIXELS: _as_pixels,
        **{space.name: space for space in spaces()},
    }
    return {
        name: measure_smoothness(look(images).reshape(*paths.shape[:2], -1)) for name, look in looks.items()
    }


def as_record(figures: Any) -> Any:
    """Return figures as what JSON holds, to seven digits: beyond those they depend on the machine."""
    if is_dataclass(figures):
        return {field.name: as_record(getattr(figures, field.name)) for field in fields(figures)}
    if isinstance(figures, dict):
        return {name: as_record(value) for name, value in figures.items()}
    if isinstance(figures, list):
        return [as_record(value) for value in figures]
    return float(f"{figures:.7g}") if isinstance(figures, float) else figures
