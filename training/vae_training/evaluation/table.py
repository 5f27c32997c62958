"""The figures as a table for people: models in columns, real photographs beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vae_training.evaluation.faces import TakenForFaces
from vae_training.evaluation.measuring import PIXELS, ModelFigures, RealFigures
from vae_training.evaluation.resemblance import NEIGHBOURS, Resemblance

_NOTHING = "-"
_INDENT = "  "  # of a row under its heading
# Letters of a model's name, as many as the longest likelihood has; below the table it is told in full.
_WIDEST = 20

_EXPLAINED = {
    "drawn": "what a network sees that knows drawn faces",
    "gradients": "edges by place and direction",
    "random": "random filters",
}
_UNITS = {PIXELS: "RMS of pixels"}


@dataclass(frozen=True)
class Row:
    """One line: what it is, and a cell a column. A heading has no cells."""

    what: str
    cells: tuple[str, ...] = ()


def table(models: Sequence[ModelFigures], real: RealFigures) -> str:
    """Return the table as text: the first model, real images, then the model that it is compared with."""
    header, *rows = _rows(models, real, [_brief(model.name) for model in models])
    first = max(len(row.what) for row in rows if row.cells) + len(_INDENT)
    widths = [
        max(len(row.cells[i]) for row in (header, *rows) if row.cells) for i in range(len(header.cells))
    ]
    lines = []
    for row in (header, *rows):
        what = f"{_INDENT}{row.what}" if row.cells else row.what
        cells = "  ".join(cell.rjust(width) for cell, width in zip(row.cells, widths, strict=False))
        lines.append(f"{what:<{first}}  {cells}".rstrip())
    return "\n".join(lines)


def markdown_table(models: Sequence[ModelFigures], real: RealFigures) -> str:
    """Return the table as Markdown, its headings in bold."""
    header, *rows = _rows(models, real, [model.name.replace("|", "\\|") for model in models])
    lines = [f"| | {' | '.join(header.cells)} |", f"| --- |{' ---: |' * len(header.cells)}"]
    for row in rows:
        what, cells = (row.what, row.cells) if row.cells else (f"**{row.what}**", ("",) * len(header.cells))
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rows(models: Sequence[ModelFigures], real: RealFigures, names: Sequence[str]) -> list[Row]:
    return [Row("", (names[0], "real images", *names[1:])), *_Sections(models, real).all()]


class _Sections:
    """The table's sections, each a heading and its rows."""

    def __init__(self, models: Sequence[ModelFigures], real: RealFigures) -> None:
        self.models = models
        self.real = real

    def all(self) -> Iterator[Row]:
        yield from self.likelihood()
        yield from self.latents()
        yield from self.reconstructions()
        for space in self.real.resemblance:
            yield from self.samples(space)
        for space in self.real.novelty:
            yield from self.nearest(space)
        yield from self.interpolations()
        if self.real.faces is not None:
            yield from self.faces(self.real.faces)

    def row(self, what: str, cell: Callable[[ModelFigures], str], best: str = _NOTHING) -> Row:
        told = [cell(model) for model in self.models]
        return Row(what, (told[0], best, *told[1:]))

    def likelihood(self) -> Iterator[Row]:
        row, bounds = self.row, self.models[0].bounds
        yield Row("likelihood of held-out images, nats per image")
        yield row("likelihood", lambda m: m.likelihood)
        yield row("ELBO", lambda m: f"{m.bounds.elbo:.2f} ±{m.bounds.elbo_error:.2f}")
        yield row(
            f"importance-weighted, {bounds.importance_samples:,} samples",
            lambda m: f"{m.bounds.importance_weighted:.2f} ±{m.bounds.importance_weighted_error:.2f}",
        )
        if any(m.bounds.with_learned_prior != m.bounds.importance_weighted for m in self.models):
            yield row(
                "ELBO with its own, learned prior",
                lambda m: _optional(m.bounds.elbo_with_learned_prior, ".2f"),
            )
            yield row(
                "importance-weighted with that prior", lambda m: _optional(m.bounds.with_learned_prior, ".2f")
            )
        yield row("samples that carry its weight", lambda m: f"{m.bounds.effective_samples:.1f}")
        yield row("bits per dimension", lambda m: _optional(m.bounds.bits_per_dimension, ".3f"))
        yield row("standard deviation of a pixel", lambda m: _optional(m.noise_scale, ".4f"))

    def latents(self) -> Iterator[Row]:
        yield Row("latents")
        yield self.row("KL divergence, nats", lambda m: f"{m.latents.kl:.2f}")
        yield self.row("active", lambda m: f"{m.latents.active} of {m.latents.size}")

    def reconstructions(self) -> Iterator[Row]:
        yield Row("reconstructions of held-out images")
        yield self.row("PSNR, dB", lambda m: f"{m.reconstructions.psnr:.2f}")
        yield self.row("SSIM", lambda m: f"{m.reconstructions.ssim:.3f}")
        for space in self.real.resemblance:
            yield self.frechet(f"Frechet distance, {space}", space, lambda m: m.reconstructions_as_a_set)

    def samples(self, space: str) -> Iterator[Row]:
        best = self.real.resemblance[space]

        def share(name: str, of: Callable[[Resemblance], float]) -> Row:
            return self.row(name, lambda m: f"{of(m.samples.resemblance[space]):.3f}", f"{of(best):.3f}")

        yield Row(f"samples beside held-out images, {space} ({_EXPLAINED[space]})")
        yield self.frechet("Frechet distance", space, lambda m: m.samples.resemblance)
        yield share("precision", lambda r: r.precision)
        yield share("recall", lambda r: r.recall)
        yield share("density", lambda r: r.density)
        yield share("coverage", lambda r: r.coverage)

    def frechet(self, what: str, space: str, of: Callable[[ModelFigures], Mapping[str, Resemblance]]) -> Row:
        """Return the row of a distance, with how many times that of real images it is."""
        best = self.real.resemblance[space].frechet

        def cell(model: ModelFigures) -> str:
            distance = of(model)[space].frechet
            return f"{distance:.3g} ({distance / best:.1f}x)" if best > 0 else f"{distance:.3g}"

        return self.row(what, cell, f"{best:.3g}")

    def nearest(self, space: str) -> Iterator[Row]:
        row, own = self.row, self.real.novelty[space]
        yield Row(f"nearest training image, {_UNITS.get(space, space)}")
        yield row("median distance", lambda m: f"{m.samples.novelty[space].median:.3g}", f"{own.median:.3g}")
        yield row(
            "smallest distance", lambda m: f"{m.samples.novelty[space].smallest:.3g}", f"{own.smallest:.3g}"
        )
        yield row(
            "equal to a training image", lambda m: str(m.samples.novelty[space].copies), str(own.copies)
        )

    def interpolations(self) -> Iterator[Row]:
        yield Row("interpolations between held-out images")
        for space in self.models[0].interpolations:
            yield from self.smoothness(space)

    def smoothness(self, space: str) -> Iterator[Row]:
        unit = _UNITS.get(space, space)
        yield self.row(
            f"largest step over mean step, {unit}", lambda m: f"{m.interpolations[space].largest_step:.2f}"
        )
        yield self.row(
            f"length over distance of the ends, {unit}", lambda m: f"{m.interpolations[space].detour:.2f}"
        )

    def faces(self, best: float) -> Iterator[Row]:
        def share(what: str, of: Callable[[TakenForFaces], float]) -> Row:
            return self.row(what, lambda m: f"{of(m.faces):.3f}" if m.faces else _NOTHING, f"{best:.3f}")

        yield Row("share that a face detector takes for faces")
        yield share("samples", lambda found: found.samples)
        yield share("reconstructions", lambda found: found.reconstructions)


def explanations(models: Sequence[ModelFigures]) -> Iterator[str]:
    """Say in words what the table cannot: units, and what the columns stand for."""
    for unit in dict.fromkeys(model.bounds.unit for model in models):
        yield f"nats of {', '.join(model.name for model in models if model.bounds.unit == unit)}: {unit}"
    yield (
        "real images: as many training images, none of the same group, in the place of samples; for the nearest "
        "training image, the held-out images themselves. (x) is how many times their distance"
    )
    yield f"precision, recall, density, coverage: of the {NEIGHBOURS} nearest neighbours"


def _brief(name: str) -> str:
    """Return a name that makes its column no wider than figures do, with both ends of a long one: they tell apart."""
    return name if len(name) <= _WIDEST else f"{name[: _WIDEST - 12]}...{name[-9:]}"


def _optional(value: float | None, form: str) -> str:
    return _NOTHING if value is None else format(value, form)
