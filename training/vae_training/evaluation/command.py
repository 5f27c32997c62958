"""`vae-train evaluate`: measure a run or a bundle, and write what came out."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_runtime.atomic import atomic_file, refuse_existing
from vae_runtime.cli.logs import show_logs
from vae_runtime.cli.options import File, Name, whole_number
from vae_runtime.errors import printable
from vae_training.counting import CountingLine

if TYPE_CHECKING:
    from vae_training.evaluation.comparing import Evaluation

# PyTorch and what stands on it are imported inside: --help does not wait for them.

_MOST = 10**7


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("source", type=Name(), metavar="RUN|BUNDLE")
@click.option(
    "--data",
    metavar="SOURCE",
    help="Where its images are now, or other ones; as for training. [default: what it was trained on]",
)
@click.option("--array", type=Name(), metavar="NAME", help="Which array of an .npz holds the images.")
@click.option(
    "--groups", type=Name(), metavar="NAME", help="Which array of an .npz says what belongs together."
)
@click.option(
    "--against",
    type=Name(),
    metavar="RUN|BUNDLE",
    help="Another model to measure on the same images, beside this one. [default: the classic recipe, trained on them]",
)
@click.option("--alone", is_flag=True, help="Measure no other model beside it, which takes less time.")
@whole_number(
    "--importance-samples",
    least=1,
    most=_MOST,
    default=5000,
    help="Draws of the posterior for the importance-weighted bound.",
)
@whole_number(
    "--importance-images",
    least=2,
    most=_MOST,
    default=200,
    help="Held-out images that the bounds are means over, at most.",
)
@whole_number(
    "--images",
    least=8,
    most=10_000,
    default=2000,
    help="Held-out images, samples and real ones that are compared, at most.",
)
@whole_number("--seed", least=0, most=2**63 - 1, default=0, help="Seed of everything random.")
@click.option("--faces", is_flag=True, help="Tell what share of images a face detector takes for faces, too.")
@click.option("--json", "json_file", type=File(), help="Write every figure to this file, too.")
@click.option("--pictures", type=File(), help="Draw a page of pictures into this PNG file.")
@click.option("--readme", is_flag=True, help="Write the table into the bundle's README.md, too.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but warnings and errors.")
def evaluate(
    source: str,
    data: str | None,
    array: str | None,
    groups: str | None,
    against: str | None,
    json_file: Path | None,
    pictures: Path | None,
    *,
    alone: bool,
    faces: bool,
    readme: bool,
    overwrite: bool,
    quiet: bool,
    **amounts: int,
) -> None:
    """Measure a trained model on images that were held out of its training.

    A run is measured from its newest checkpoint, a bundle (or a shipped model) through the runtime; both on the
    CPU, and the same every time. Bounds of the likelihood, use of the latents, reconstructions, how near samples
    come to real images and whether they copy any, smoothness of interpolations. Beside them real images, the
    best there can be, and another model: the classic recipe, which is trained for it (5 epochs), or the one that
    --against names.

    \b
    vae-train evaluate runs/faces-1 --pictures page.png
    vae-train evaluate bundle --data faces.npz --json figures.json --against runs/classic
    vae-train evaluate bundle --data faces.npz --readme
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    from vae_training.busy_machine import sleep_where_busy

    show_logs("vae-train")
    sleep_where_busy()
    if alone and against is not None:
        raise click.UsageError("--alone and --against name two things; expected one of them")
    _require_outputs(json_file, pictures, overwrite=overwrite)

    from vae_training.device import respect_quota
    from vae_training.evaluation.bundle_readme import find_writable_bundle
    from vae_training.evaluation.comparing import Images, compare
    from vae_training.evaluation.measuring import Settings

    respect_quota()
    bundle = find_writable_bundle(source) if readme else None
    with CountingLine(quiet=quiet) as line:
        evaluation = compare(
            source, against, Images(data, array, groups), Settings(**amounts, faces=faces), line, alone=alone
        )
    sha256 = _write(evaluation, json_file, pictures, bundle, overwrite=overwrite)
    click.echo(evaluation.report.as_text())
    if bundle:
        click.echo(
            f"\nin {printable(str(bundle))}/README.md now; SHA-256 of the bundle's SHA256SUMS: {sha256}"
        )
    for warning in evaluation.report.warnings:
        click.echo(f"vae-train: warning: {printable(warning)}", err=True)


def _require_outputs(json_file: Path | None, pictures: Path | None, *, overwrite: bool) -> None:
    """Raise for outputs that could not be written in the end, before any work is done."""
    if pictures is not None and pictures.suffix.lower() not in ("", ".png"):
        raise click.UsageError(f"--pictures {str(pictures)!r}: the page is a PNG; expected a name in .png")
    if json_file is not None and pictures is not None and json_file.absolute() == pictures.absolute():
        raise click.UsageError(f"--json and --pictures both name {str(pictures)!r}; expected two files")
    for path in filter(None, (json_file, pictures)):
        refuse_existing(path, overwrite=overwrite)


def _write(
    evaluation: Evaluation,
    json_file: Path | None,
    pictures: Path | None,
    bundle: Path | None,
    *,
    overwrite: bool,
) -> str:
    """Write every file that was asked for, or none; return the sum of the bundle's sums, where it has the table now."""
    from vae_training.evaluation.bundle_readme import write_evaluation
    from vae_training.evaluation.page import write_page

    report = evaluation.report
    with ExitStack() as all_of_them:
        if json_file:
            beside = all_of_them.enter_context(atomic_file(json_file, overwrite=overwrite))
            record = json.dumps(report.as_record(), indent=2, allow_nan=False)
            beside.write_text(f"{record}\n", encoding="utf-8")
        if pictures:
            beside = all_of_them.enter_context(atomic_file(pictures, overwrite=overwrite))
            write_page(beside, report.material, report.chosen, evaluation.shown)
        if bundle:
            return write_evaluation(bundle, report.as_markdown(), measured=evaluation.sha256)
    return ""
