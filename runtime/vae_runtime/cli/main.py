"""`vae-run`: the runtime on the command line. Commands parse, call the library once, and write."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from vae_runtime._version import __version__
from vae_runtime.cli import changing
from vae_runtime.cli.exits import run_command
from vae_runtime.cli.options import File, Name, Number, whole_number
from vae_runtime.cli.shared import (
    MOST,
    finite_option,
    images_argument,
    limit_option,
    model_options,
    output_options,
    picture_options,
    skip_bad_option,
)
from vae_runtime.cli.work import Work, open_model
from vae_runtime.errors import printable

_MOST_SAMPLES = 1_000_000

# Numpy, Pillow and onnxruntime are imported inside the commands: --help does not wait for them.


def main() -> None:
    """Run `vae-run` as a process."""
    # What is imported stays: looking through it for garbage, again and again, takes a twentieth of a command's time.
    gc.disable()
    run_command(vae_run, "vae-run")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("-v", "--verbose", is_flag=True, help="Say which provider runs what.")
@click.version_option(__version__, prog_name="vae-run")
def vae_run(*, verbose: bool) -> None:
    """Sample, interpolate, reconstruct, encode, decode and score with a variational autoencoder."""
    from vae_runtime.cli.logs import show_logs

    show_logs("vae-run", verbose=verbose)


@vae_run.command()
@whole_number("-n", "--n", "count", least=1, most=MOST, default=100, help="How many.")
@click.option(
    "--seed", type=click.IntRange(0), help="The same seed gives the same images. [default: new ones]"
)
@click.option(
    "--temperature",
    type=Number(0, 1e30),
    default=1.0,
    show_default=True,
    help="Below 1: nearer to the average.",
)
@click.option(
    "--observation-noise",
    is_flag=True,
    help="Draw every pixel from p(x given z), as the theory has it, instead of showing its mean.",
)
@picture_options
@output_options("samples.png")
@finite_option
@model_options
def sample(
    count: int, seed: int | None, temperature: float, *, observation_noise: bool, **options: Any
) -> None:
    """Draw new images.

    \b
    vae-run sample -n 100 --rows 10 --columns 10 --seed 7 -o grid.png
    vae-run sample -n 1000000 -o faces.npy
    vae-run sample -n 1000000 --shard-size 100000 -o faces/
    """  # noqa: D301
    with Work(options, count=count) as work:
        images = work.model.sample_stream(
            count, seed, temperature, observation_noise=observation_noise, dtype=work.dtype
        )
        work.write_images(images, count, "new images")


@vae_run.command()
@click.argument("points", nargs=-1, required=True, metavar="POINT POINT...")
@whole_number("--steps", least=2, most=MOST, default=20, help="Images in all, ends included.")
@click.option(
    "--method",
    type=click.Choice(["slerp", "linear"]),
    default="slerp",
    show_default=True,
    help="Along an arc, or straight.",
)
@click.option(
    "--through-prior/--no-through-prior",
    default=None,
    help="Go by the noise behind the points, through the model's prior. [default: where its prior can be undone]",
)
@picture_options
@output_options("interpolation.png")
@finite_option
@model_options
def interpolate(
    points: tuple[str, ...], steps: int, method: str, through_prior: bool | None, **options: Any
) -> None:
    """Go from one image to the next, through two points or more: seeds or picture files.

    \b
    vae-run interpolate 3 14 --steps 20 --rows 4 --columns 5 -o between.png
    vae-run interpolate anna.png ben.jpg anna.png --steps 60 -o frames/
    """  # noqa: D301
    with Work(options, count=steps) as work:
        from vae_runtime.cli.inputs import read_points

        corners = read_points(points, work.model)
        path = work.model.latent_path(corners, steps, method, through_prior=through_prior)
        work.write_images(work.model.decode_stream(path, dtype=work.dtype), steps, "images on the way")


@vae_run.command()
@images_argument
@limit_option
@skip_bad_option
@picture_options
@output_options("reconstruction.png")
@finite_option
@model_options
def reconstruct(images: tuple[Path, ...], limit: int | None, **options: Any) -> None:
    """Show images as the model sees them: in a PNG, each beside its original.

    IMAGES are picture files, folders of them, or one .npy or .npz.
    """
    with Work(options) as work:
        from vae_runtime.cli.sheets import beside_each_other

        originals = work.read_images(images, limit)
        if work.output.is_sheet:
            shown = originals.whole()
            pairs = beside_each_other(shown, work.model.reconstruct(shown, dtype=work.dtype))
            work.output.write_sheet(pairs, work.layout)
            work.announce(f"{len(pairs)} images, each left of its reconstruction")
        else:
            found = work.model.reconstruct_stream(originals, dtype=work.dtype)
            work.write_images(found, len(originals), "reconstructions")


@vae_run.command()
@images_argument
@limit_option
@skip_bad_option
@output_options("latents.npy", arrays_only=True)
@finite_option
@model_options
def encode(images: tuple[Path, ...], limit: int | None, **options: Any) -> None:
    """Write the latents of images: their posterior mean as .npy, mean and logvar as .npz.

    IMAGES are picture files, folders of them, or one .npy or .npz.
    """
    with Work(options, arrays_only=True) as work:
        given = work.read_images(images, limit)
        work.write_posteriors(work.model.encode_stream(given), len(given))


@vae_run.command()
@click.argument("latents", type=File())
@picture_options
@output_options("decoded.png")
@finite_option
@model_options
def decode(latents: Path, **options: Any) -> None:
    """Write the images of latents: a .npy of (N, D), or a .npz that `encode` wrote."""
    with Work(options) as work:
        from vae_runtime.cli.inputs import read_latents

        given = work.given = read_latents(latents, work.model)
        work.write_images(work.model.decode_stream(given, dtype=work.dtype), len(given), "decoded images")


@vae_run.command()
@images_argument
@limit_option
@skip_bad_option
@click.option(
    "--above",
    type=Number(0, 100, max_open=True),
    metavar="PERCENTILE",
    help="Only what scores higher than so many percent of the images held out of the training.",
)
@whole_number(
    "--top",
    least=1,
    most=MOST,
    default=20,
    help="Show so many, the highest first; files hold all, in their order.",
)
@whole_number(
    "--samples",
    least=1,
    most=_MOST_SAMPLES,
    default=1,
    help="Points of an image's posterior: more are steadier, and take as many times as long.",
)
@output_options(None, tables=True)
@finite_option
@model_options
def score(
    images: tuple[Path, ...], limit: int | None, above: float | None, top: int, samples: int, **options: Any
) -> None:
    """Tell how strange images are to the model: their negative ELBO, in nats.

    IMAGES are picture files, folders of them, or one .npy or .npz.

    \b
    vae-run score photographs/                     a table, the strangest first
    vae-run score photographs/ --above 99          those that are stranger than 99 % of held-out images
    vae-run score photographs.npy -o scores.csv    all, in their order
    """  # noqa: D301
    work = Work(options, tables=True)
    from vae_runtime.cli.scores import check_above, write_scores

    check_above(above, work.output)
    with work:
        given = work.read_images(images, limit)
        write_scores(work, given, samples=samples, above=above, top=top)


for command in (changing.direction, changing.edit, changing.inpaint, changing.denoise):
    vae_run.add_command(command)


@vae_run.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@model_options
def info(*, as_json: bool, **options: Any) -> None:
    """Show a model's card, and what this installation can run it on."""
    import platform
    from dataclasses import asdict

    from vae_runtime.bundle import find_bundle, shipped_models
    from vae_runtime.installation import import_onnxruntime
    from vae_runtime.providers import available_providers
    from vae_runtime.threads import available_processors
    from vae_runtime.wheels import installed_wheels

    with open_model(options) as model:
        facts = {
            "vae-edge": __version__,
            "python": platform.python_version(),
            "onnxruntime": f"{import_onnxruntime().__version__} ({', '.join(installed_wheels()) or 'unknown wheel'})",
            "providers": ", ".join(available_providers()),
            "runs on": ", ".join(model.providers),
            "processors": available_processors(),
            "shipped models": ", ".join(shipped_models()) or "none",
        }
        bundle = {
            "folder": str(find_bundle(options["model"])),
            "graphs": ", ".join(model.graphs),
            "sha256": model.sha256,
        }
        card = {name: value for name, value in asdict(model.card).items() if name != "role"}
    if as_json:
        click.echo(json.dumps({"installation": facts, "bundle": bundle, "card": card}, indent=2))
        return
    for part in (facts, bundle, card):
        _show(part)
        if part is not card:
            click.echo()


@vae_run.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_models(*, as_json: bool) -> None:
    """Show the models that come with this installation."""
    from vae_runtime.cli.listing import in_columns, list_shipped

    entries = list_shipped()
    if as_json:
        click.echo(json.dumps(entries, indent=2))
        return
    for line in in_columns(entries) or ["no models are shipped with this installation"]:
        click.echo(line)


@vae_run.command()
@click.argument("bundle", required=False, type=Name())
@model_options
@click.pass_context
def check(context: click.Context, /, bundle: str | None, model: str, **options: Any) -> None:
    """Test this installation and a bundle, and say in words what was verified.

    BUNDLE is its folder or a shipped name, as for --model.
    """
    from vae_runtime.cli.self_test import Question
    from vae_runtime.cli.self_test import check as run_checks

    if bundle is not None and context.get_parameter_source("model") is ParameterSource.COMMANDLINE:
        raise click.UsageError("two bundles are named; expected BUNDLE or --model, not both")
    chosen = {name: value for name, value in options.items() if value is not None}
    for finding in run_checks(Question(bundle or model, **chosen)):
        first, *more = map(printable, finding.lines)
        click.echo(f"{'FAILED' if finding.error else 'ok':<7} {finding.what:<13} {first}")
        for line in more:
            click.echo(f"{'':<7} {'':<13} {line}")
        if finding.error:
            raise finding.error
    click.echo("Everything holds.")


def _show(facts: dict[str, Any], indent: str = "") -> None:
    rows = [(printable(name), value) for name, value in facts.items()]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        if isinstance(value, dict) and value:
            click.echo(f"{indent}{name}")
            _show(value, indent + "  ")
        else:
            shown = str(value) if value not in ("", {}, None) else "-"
            click.echo(f"{indent}{name:<{width}}  {printable(shown)}")
