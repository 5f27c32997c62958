"""The figures as a table for people: models in columns, real photographs beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from vae_training.evaluation.measuring import PIXELS, ModelFigures, RealFigures
from vae_training.evaluation.nearest import Novelty
from vae_training.evaluation.resemblance import NEIGHBOURS, Resemblance

_NOTHING = "-"

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
    """Return the table as text: the first model, real photographs, then the model that it is compared with."""
    it, *others = models
    header = Row("", (it.name, "real images", *(other.name for other in others)))
    rows = [header, *_rows(models, real)]
    first = max(len(row.what) for row in rows if row.cells)
    widths = [max(len(row.cells[i]) for row in rows if row.cells) for i in range(len(header.cells))]
    lines = []
    for row in rows:
        cells = "  ".join(cell.rjust(width) for cell, width in zip(row.cells, widths, strict=False))
        lines.append(f"{row.what:<{first}}  {cells}".rstrip())
    return "\n".join(lines)


def _rows(models: Sequence[ModelFigures], real: RealFigures) -> Iterator[Row]:
    def row(what: str, cell: Callable[[ModelFigures], str], best: str = _NOTHING) -> Row:
        told = [cell(model) for model in models]
        return Row(f"  {what}", (told[0], best, *told[1:]))

    def set_of(space: str, best: Resemblance) -> Iterator[Row]:
        yield Row(f"samples beside held-out images, {space} ({_EXPLAINED[space]})")
        yield row(
            "Frechet distance",
            lambda m: _beside(m.samples.resemblance[space].frechet, best.frechet),
            f"{best.frechet:.3g}",
        )
        yield row(
            "precision", lambda m: f"{m.samples.resemblance[space].precision:.3f}", f"{best.precision:.3f}"
        )
        yield row("recall", lambda m: f"{m.samples.resemblance[space].recall:.3f}", f"{best.recall:.3f}")
        yield row("density", lambda m: f"{m.samples.resemblance[space].density:.3f}", f"{best.density:.3f}")
        yield row(
            "coverage", lambda m: f"{m.samples.resemblance[space].coverage:.3f}", f"{best.coverage:.3f}"
        )

    def reconstructed(space: str, best: Resemblance) -> Row:
        return row(
            f"Frechet distance, {space}",
            lambda m: _beside(m.reconstructions_as_a_set[space].frechet, best.frechet),
            f"{best.frechet:.3g}",
        )

    def near(space: str, own: Novelty) -> Iterator[Row]:
        yield Row(f"nearest training image, {_UNITS.get(space, space)}")
        yield row("median distance", lambda m: f"{m.samples.novelty[space].median:.3g}", f"{own.median:.3g}")
        yield row(
            "smallest distance", lambda m: f"{m.samples.novelty[space].smallest:.3g}", f"{own.smallest:.3g}"
        )
        yield row(
            "equal to a training image", lambda m: str(m.samples.novelty[space].copies), str(own.copies)
        )

    def between(space: str) -> Iterator[Row]:
        unit = _UNITS.get(space, space)
        yield row(
            f"largest step over mean step, {unit}", lambda m: f"{m.interpolations[space].largest_step:.2f}"
        )
        yield row(
            f"length over distance of the ends, {unit}", lambda m: f"{m.interpolations[space].detour:.2f}"
        )

    yield Row("likelihood of held-out images, nats per image")
    yield row("likelihood", lambda m: m.likelihood)
    yield row("ELBO", lambda m: f"{m.bounds.elbo:.2f} ±{m.bounds.elbo_error:.2f}")
    yield row(
        f"importance-weighted, {models[0].bounds.importance_samples:,} samples",
        lambda m: f"{m.bounds.importance_weighted:.2f} ±{m.bounds.importance_weighted_error:.2f}",
    )
    yield row("samples that carry its weight", lambda m: f"{m.bounds.effective_samples:.1f}")
    yield row("bits per dimension", lambda m: _optional(m.bounds.bits_per_dimension, ".3f"))
    yield row("standard deviation of a pixel", lambda m: _optional(m.noise_scale, ".4f"))
    yield Row("latents")
    yield row("KL divergence, nats", lambda m: f"{m.latents.kl:.2f}")
    yield row("active", lambda m: f"{m.latents.active} of {m.latents.size}")
    yield Row("reconstructions of held-out images")
    yield row("PSNR, dB", lambda m: f"{m.reconstructions.psnr:.2f}")
    yield row("SSIM", lambda m: f"{m.reconstructions.ssim:.3f}")
    for space, best in real.resemblance.items():
        yield reconstructed(space, best)
    for space, best in real.resemblance.items():
        yield from set_of(space, best)
    for space, own in real.novelty.items():
        yield from near(space, own)
    yield Row("interpolations between held-out images")
    for space in models[0].interpolations:
        yield from between(space)


def explanations(models: Sequence[ModelFigures]) -> Iterator[str]:
    """Say in words what the table cannot: units, and what the columns stand for."""
    for unit in dict.fromkeys(model.bounds.unit for model in models):
        yield f"nats of {', '.join(model.name for model in models if model.bounds.unit == unit)}: {unit}"
    yield (
        "real images: as many training images, none of the same group, in the place of samples; for the nearest "
        "training image, the held-out images themselves. (x) is how many times their distance"
    )
    yield f"precision, recall, density, coverage: of the {NEIGHBOURS} nearest neighbours"


def _optional(value: float | None, form: str) -> str:
    return _NOTHING if value is None else format(value, form)


def _beside(value: float, best: float) -> str:
    ratio = f" ({value / best:.1f}x)" if best > 0 else ""
    return f"{value:.3g}{ratio}"
