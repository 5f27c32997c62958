"""One evaluation from beginning to end: models of one shape, measured on the same images in the same way."""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

from vae_training.data import ImageSet, load_configured
from vae_training.errors import ConfigError
from vae_training.evaluation.classic_recipe import train_classic_recipe
from vae_training.evaluation.material import gather, notes_on_rival, settings_of_data
from vae_training.evaluation.measuring import Progress, Settings, Shown, Yardstick, choose, measure
from vae_training.evaluation.report import Report, notes_on_figures
from vae_training.evaluation.subjects import Subject, open_subject


class Images(NamedTuple):
    """Where the images are, where that is not what a model remembers."""

    data: str | None = None
    """A source, as for training; what the model was trained on where None."""
    array: str | None = None
    """Which array of an .npz holds the images."""
    groups: str | None = None
    """Which array of an .npz says what belongs together."""


class Evaluation(NamedTuple):
    """What came out."""

    report: Report
    shown: dict[str, Shown]
    """What a page shows of each model, by its name."""
    sha256: str
    """Of what was measured; empty for a run."""


def compare(
    source: str,
    against: str | None,
    images: Images,
    settings: Settings,
    progress: Progress,
    *,
    alone: bool,
) -> Evaluation:
    """Measure a run or a bundle, and beside it another one, or the classic recipe, trained for it.

    Args:
        source: a run's folder, a bundle's, or the name of a shipped one.
        against: another one; the classic recipe where None.
        images: where they are.
        settings: how much is measured.
        progress: hears what is done.
        alone: measure nothing beside it; `against` is None then.

    Raises:
        ConfigError: the two make images of different shapes.
        VaeError: of other kinds where a model or the images cannot be read.
    """
    with ExitStack() as stack:
        subjects = [stack.enter_context(open_subject(it)) for it in (source, against) if it is not None]
        _tell_apart(subjects)
        material = gather(subjects[0], _load(subjects[0], images))
        notes = [*material.notes]
        for rival in subjects[1:]:
            notes += notes_on_rival(subjects[0], rival)
        if against is None and not alone:
            subjects.append(train_classic_recipe(material, progress))
            _tell_apart(subjects)
        chosen = choose(material, settings)
        yardstick = Yardstick(material, chosen)
        real = yardstick.real_figures(faces=settings.faces)
        measured = [measure(subject, yardstick, settings, progress) for subject in subjects]
    figures = [model for model, _ in measured]
    notes += notes_on_figures(subjects, figures, chosen, material)
    report = Report(figures, real, material, chosen, settings, notes)
    return Evaluation(report, {model.name: page for model, page in measured}, subjects[0].sha256)


def _load(subject: Subject, images: Images) -> ImageSet:
    settings = settings_of_data(subject, *images)
    return load_configured(settings, once_of=subject.name if images.data is None else None)


def _tell_apart(subjects: list[Subject]) -> None:
    """Give models of one name two; raise for models of different images."""
    first, *others = subjects
    for other in others:
        if other.name == first.name:
            other.name = f"{other.name} (2)"
        if other.image_shape != first.image_shape:
            raise ConfigError(
                f"--against {other.name} makes images of {_shape(other)}, {first.name} of {_shape(first)}; "
                "expected models of one shape"
            )


def _shape(subject: Subject) -> str:
    return "x".join(map(str, subject.image_shape))
