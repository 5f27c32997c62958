"""`vae-export`: writes a trained model as a bundle of ONNX graphs, and proves that they match."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vae_runtime._version import __version__
from vae_runtime.cli.exits import run_command
from vae_runtime.cli.logs import show_logs
from vae_runtime.cli.options import File, Number, Size
from vae_runtime.cli.shared import PROVIDERS
from vae_runtime.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from rich.table import Table

    from vae_export.bundle import Report
    from vae_export.source import Source
    from vae_training.data import ImageSet


def main() -> None:
    """Run `vae-export` as a process."""
    run_command(vae_export, "vae-export")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("source", type=File())
@click.option("-o", "--output", type=File(), help="The bundle's folder. [default: SOURCE/bundle]")
@click.option(
    "--opset", type=int, default=17, show_default=True, help="Version of the standard operator set."
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Of weights and arithmetic; inputs and outputs stay float32.",
)
@click.option(
    "--compact",
    is_flag=True,
    help="Store weights of fp32 in 16 bits, rounded to 8 significant ones: half the bytes, as fast.",
)
@click.option(
    "--optimize/--no-optimize",
    default=True,
    show_default=True,
    help="Write layers in the form that is the fastest in this precision, or as PyTorch has them.",
)
@click.option("--name", help="The model's name on its card. [default: the output folder's name]")
@click.option(
    "--license", "license_name", default="", help="The model's licence, for its card: an SPDX name."
)
@click.option(
    "--data-note", help="Where the training images come from, for the card. [default: as the data set says]"
)
@click.option(
    "--data",
    metavar="SOURCE",
    help="Images to prove parity on, as vae-train takes them. "
    "[default: the training images; the embedded faces for weights alone and bundles]",
)
@click.option("--image-size", type=Size(), help="For weights alone of images that are not square: HxW.")
@click.option("--fc-relu", is_flag=True, help="For weights alone: their code has a ReLU behind decoder.fc.")
@click.option(
    "--image-tolerance",
    type=Number(0, min_open=True),
    help="Largest difference of a pixel in [0, 1], in fp32 and fp16. [default: 1e-5 in fp32, 0.01 in fp16]",
)
@click.option(
    "--latent-tolerance",
    type=Number(0, min_open=True),
    help="Largest difference of a mean or log-variance. [default: 1e-4 in fp32, 0.02 in fp16, 0.25 in int8]",
)
@click.option(
    "--least-psnr",
    type=Number(0, 100),
    help="Least PSNR of pictures in dB, in int8. [default: 38]",
)
@click.option(
    "--provider",
    type=click.Choice(PROVIDERS),
    default="cpu",
    show_default=True,
    help="Where parity is checked.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output folder.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.version_option(__version__, prog_name="vae-export")
def vae_export(
    source: Path,
    output: Path | None,
    opset: int,
    name: str | None,
    license_name: str,
    data_note: str | None,
    data: str | None,
    image_size: tuple[int, int] | None,
    precision: str,
    image_tolerance: float | None,
    latent_tolerance: float | None,
    least_psnr: float | None,
    provider: str,
    *,
    compact: bool,
    optimize: bool,
    fc_relu: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Write encoder and decoder of a trained model as ONNX graphs, and prove that they match PyTorch.

    SOURCE is a run folder of vae-train, one checkpoint of it, a bundle of fp32 or the name of a shipped
    one, or the weights alone of the classic architecture (.pth, .pt or .safetensors).

    \b
    vae-export runs/faces-1 -o faces                 the newest checkpoint of a run
    vae-export runs/faces-1 --precision int8         in integers of 8 bits
    vae-export runs/faces-1 --compact -o small       the same arithmetic in half the bytes
    vae-export faces24 --precision fp16 -o half      another form of a bundle
    vae-export weights.pth --opset 17 -o faces       somebody else's weights
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    from vae_training.busy_machine import sleep_where_busy

    sleep_where_busy()

    from rich.console import Console

    from vae_export.bundle import Settings, export_bundle
    from vae_export.opsets import require_supported
    from vae_export.parity import choose_tolerances
    from vae_export.sources import load_source
    from vae_runtime.atomic import refuse_existing
    from vae_runtime.providers import require_at_hand
    from vae_training.data.image_set import as_utf8
    from vae_training.device import respect_quota

    show_logs("vae-export")
    console = Console(stderr=True, quiet=quiet, highlight=False)
    respect_quota()
    require_supported(opset)
    require_at_hand(provider)
    tolerances = choose_tolerances(precision, image_tolerance, latent_tolerance, least_psnr)
    target = output or _beside(source, precision)
    refuse_existing(target, overwrite=overwrite)
    with console.status("reading the model") as status:
        model = load_source(source, image_size=image_size, fc_relu=fc_relu)
        status.update("reading images to prove it on")
        images = _images(model, data)
        settings = Settings(
            opset=opset,
            name=as_utf8(name or (target.name if output or model.bundle else model.name)),
            license=as_utf8(license_name or model.license),
            data=as_utf8(_told(model, images, data) if data_note is None else data_note),
            precision=precision,
            compact=compact,
            optimize=optimize,
            tolerances=tolerances,
            provider=provider,
        )
        report = export_bundle(
            model,
            images,
            target,
            settings,
            overwrite=overwrite,
            progress=lambda step: _say(console, status, step),
        )
    console.print(_table(report, images.name))
    if model.config is None and not model.bundle and not fc_relu:
        console.print(
            "Weights alone do not say whether a ReLU stands behind decoder.fc: taken as none (--fc-relu)."
        )
    if not quiet:
        _point_out(report)


def _beside(source: Path, precision: str) -> Path:
    from vae_export.sources import is_bundle

    if is_bundle(source):
        return source.with_name(f"{source.name}-{precision}")
    if source.is_file():
        return source.with_name(f"{source.stem}-bundle")
    # A checkpoint is one of several that training deletes as it goes on: the bundle belongs to the run.
    is_checkpoint = source.absolute().parent.name == "checkpoints"
    return (source.absolute().parents[1] if is_checkpoint else source) / "bundle"


def _say(console: Console, status: Status, step: str) -> None:
    """Show the step: in the line with the spinner on a terminal, as a line of its own elsewhere."""
    if console.is_terminal:
        status.update(step)
    else:
        console.print(step)


def _images(model: Source, data: str | None) -> ImageSet:
    """Load what parity is proven on, in the model's shape."""
    from dataclasses import replace

    from vae_training.config import DataConfig
    from vae_training.data import load_configured

    shape = model.model.config
    own = (
        model.config.data
        if model.config and not model.bundle and data is None
        else DataConfig(source="faces" if data is None else data)
    )
    settings = replace(own, image_size=(shape.height, shape.width), channels=shape.channels)
    return load_configured(settings, once_of=model.name if data is None else None)


def _told(model: Source, images: ImageSet, data: str | None) -> str:
    """Return what the card says of the training images: as the data set or the bundle says, if it is theirs."""
    if model.bundle:
        return model.data
    return images.source if model.config and not data else ""


def _table(report: Report, images: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from vae_export.model_card import DIFFERENCE_HEADINGS, difference_cells

    table = Table(
        title=f"PyTorch and ONNX, absolute differences (images: {escape(printable(images))})",
        title_justify="left",
    )
    headings = DIFFERENCE_HEADINGS
    for number, heading in enumerate((*headings, "")):
        table.add_column(heading, justify="right" if 1 < number < len(headings) else "left")
    for row in report.differences:
        table.add_row(*difference_cells(row), "ok" if row.passed else "FAILED")
    return table


def _point_out(report: Report) -> None:
    card, path = report.card, printable(shlex.quote(str(report.path)))
    sizes = ", ".join(f"{role} {size / 1000:,.0f} kB" for role, size in report.sizes.items())
    click.echo(f"bundle   {printable(str(report.path))}  ({sizes}; opset {card.opset}, {card.precision})")
    if card.fidelity:
        figures = card.fidelity
        trained = "float32" if card.precision != "fp32" else "unrounded weights"
        click.echo(
            f"against {trained}: pictures {figures['psnr_db']:.1f} dB ({figures['lowest_psnr_db']:.1f} the worst), "
            f"means off by {figures['mean_average']:.2g} on average, {figures['mean_largest']:.2g} at most"
        )
    click.echo(f"sample   vae-run sample -n 100 --model {path} -o samples.png")
    click.echo(f"between  vae-run interpolate 1 2 --steps 20 --model {path} -o between.png")
    click.echo(f"check    vae-run check --model {path} --expect-sha256 {report.sha256}")
