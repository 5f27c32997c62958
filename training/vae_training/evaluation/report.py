"""What an evaluation found: as a record for programs, as text for a terminal, as Markdown for a model's card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vae_runtime._version import __version__
from vae_runtime.errors import printable
from vae_training.evaluation.latents import warn_of_collapse
from vae_training.evaluation.material import Material
from vae_training.evaluation.measuring import Chosen, ModelFigures, RealFigures, Settings, as_record
from vae_training.evaluation.spaces import spaces
from vae_training.evaluation.subjects import Subject
from vae_training.evaluation.table import explanations, markdown_table, table

FORMAT_VERSION = 1
_FEW_SAMPLES = 20


@dataclass(frozen=True)
class Report:
    """The figures of one evaluation, and what is to be known of them."""

    figures: Sequence[ModelFigures]
    """Of the model, and of the one beside it, where there is one."""
    real: RealFigures
    material: Material
    chosen: Chosen
    settings: Settings
    notes: Sequence[str]

    @property
    def warnings(self) -> list[str]:
        """What a user should not overlook of the model, each in one line; its reference is what it is."""
        model = self.figures[0]
        warning = warn_of_collapse(model.name, model.latents)
        return [warning] if warning else []

    def as_record(self) -> dict[str, Any]:
        """Return every figure, as JSON can hold it."""
        model, *others = map(as_record, self.figures)
        return {
            "format_version": FORMAT_VERSION,
            "written_by": f"vae-edge {__version__}",
            "settings": asdict(self.settings),
            "data": {
                "name": self.material.name,
                "training": len(self.material.training),
                "held_out": len(self.material.held_out),
                "compared": len(self.chosen.held_out),
            },
            "model": model,
            "real": as_record(self.real),
            "against": others[0] if others else None,
            "notes": [*self.notes],
            "warnings": self.warnings,
        }

    def as_text(self) -> str:
        """Return the table for a terminal, and below it what its words mean."""
        remarks = (*explanations(self.figures), *(f"note: {note}" for note in self.notes))
        lines = (self._images(), "", table(self.figures, self.real), "", *map(printable, remarks))
        return "\n".join(lines)

    def as_markdown(self) -> str:
        """Return the same for a model's card."""
        remarks = (*explanations(self.figures), *self.notes, *self.warnings)
        remarks_listed = "\n".join(f"- {printable(remark)}" for remark in remarks)
        return (
            f"By `vae-train evaluate`. {self._images()}.\n\n"
            f"{markdown_table(self.figures, self.real)}\n\n{remarks_listed}\n"
        )

    def _images(self) -> str:
        held_out, trained_on = len(self.material.held_out), len(self.material.training)
        return (
            f"{printable(self.material.name)}: {held_out:,} images held out, {trained_on:,} trained on; "
            f"{len(self.chosen.held_out):,} compared, bounds over {self.figures[0].bounds.images:,}"
        )


def notes_on_figures(
    subjects: Sequence[Subject], figures: Sequence[ModelFigures], chosen: Chosen, material: Material
) -> list[str]:
    """Say what a reader has to know before comparing the figures with others, each in one line."""
    notes = []
    count, widest = len(chosen.held_out), max(space.features for space in spaces())
    if count <= widest:
        notes.append(
            f"{count} images are few beside {widest} features: Frechet distances are rough, and large for real "
            "images too"
        )
    for subject, measured in zip(subjects, figures, strict=True):
        if subject.learned_prior:
            notes.append(
                f"{subject.name}: samples come from its learned prior; unless it says otherwise, ELBO, bound and KL "
                "divergence are those beside the standard normal"
            )
        bounds = measured.bounds
        if bounds.effective_samples < min(_FEW_SAMPLES, bounds.importance_samples / 2):
            notes.append(
                f"{measured.name}: few samples carry the weight of the importance-weighted bound, so that the "
                "likelihood is higher than it says"
            )
    if len(subjects) == 1:
        notes.append("no other model beside it, because of --alone")
    if len(material.held_out) > count:
        notes.append(f"{count:,} of {len(material.held_out):,} held-out images were compared")
    return notes
