"""The figures as a table for people: models in columns, real photographs beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from vae_training.evaluation.measuring import PIXELS, ModelFigures, RealFigures
from vae_training.evaluation.resemblance import NEIGHBOURS, Resemblance

_NOTHING = "-"

_EXPLAINED = {
    "drawn": "what a network sees that knows drawn faces",
    "gradients": "edges by place and direction",
    "random": "random filters",
}


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

    yield Row("likelihood of held-out images, nats per image")
    yield row("ELBO", lambda m: f"{m.bounds.elbo:.2f} ±{m.bounds.elbo_error:.2f}")
    samples = models[0].bounds.importance_samples
    yield row(
        f"importance-weighted, {samples:,} samples",
        lambda m: f"{m.bounds.importance_weighted:.2f} ±{m.bounds.importance_weighted_error:.2f}",
    )
    yield row("bits per dimension", lambda m: _optional(m.bounds.bits_per_dimension, ".3f"))
    yield row("likelihood", lambda m: m.likelihood)
    yield row("standard deviation of a pixel", lambda m: _optional(m.noise_scale, ".4f"))
    yield Row("latents")
    yield row("KL divergence, nats", lambda m: f"{m.latents.kl:.2f}")
    yield row("active", lambda m: f"{m.latents.active} of {m.latents.size}")
    yield Row("reconstructions of held-out images")
    yield row("PSNR, dB", lambda m: f"{m.reconstructions.psnr:.2f}")
    yield row("SSIM", lambda m: f"{m.reconstructions.ssim:.3f}")
    for space, best in real.resemblance.items():
        yield row(
            f"Frechet distance, {space}",
            lambda m, s=space, b=best: _beside(m.reconstructions_as_a_set[s].frechet, b.frechet),  # type: ignore[misc]
            f"{best.frechet:.3g}",
        )
    for space, best in real.resemblance.items():
        yield Row(f"samples beside held-out images, {space} ({_EXPLAINED[space]})")
        yield row(
            "Frechet distance",
            lambda m, s=space, b=best: _beside(m.samples.resemblance[s].frechet, b.frechet),  # type: ignore[misc]
            f"{best.frechet:.3g}",
        )
        for name in ("precision", "recall", "density", "coverage"):
            yield row(
                name,
                lambda m, s=space, n=name: _share(m.samples.resemblance[s], n),  # type: ignore[misc]
                _share(best, name),
            )
    for space, own in real.novelty.items():
        yield Row(f"nearest training image, {space}")
        yield row(
            "median distance",
            lambda m, s=space: f"{m.samples.novelty[s].median:.3g}",  # type: ignore[misc]
            f"{own.median:.3g}",
        )
        yield row(
            "smallest distance",
            lambda m, s=space: f"{m.samples.novelty[s].smallest:.3g}",  # type: ignore[misc]
            f"{own.smallest:.3g}",
        )
        yield row(
            "equal to a training image",
            lambda m, s=space: str(m.samples.novelty[s].copies),  # type: ignore[misc]
            str(own.copies),
        )
    yield Row("interpolations between held-out images")
    for space in models[0].interpolations:
        unit = "RMS of pixels" if space == PIXELS else space
        yield row(
            f"largest step over mean step, {unit}",
            lambda m, s=space: f"{m.interpolations[s].largest_step:.2f}",  # type: ignore[misc]
        )
        yield row(
            f"length over distance of the ends, {unit}",
            lambda m, s=space: f"{m.interpolations[s].detour:.2f}",  # type: ignore[misc]
        )


def explanations(models: Sequence[ModelFigures]) -> Iterator[str]:
    """Say in words what the table cannot: units, and what the columns stand for."""
    for model in models:
        yield f"nats of {model.name}: {model.bounds.unit}"
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


def _share(of: Resemblance, name: str) -> str:
    return f"{getattr(of, name):.3f}"
