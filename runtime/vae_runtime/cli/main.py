"""`vae-run`: the runtime on the command line. Commands parse, call the library once, and write."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from vae_runtime._version import __version__
from vae_runtime.cli.exits import run_command
from vae_runtime.errors import printable

if TYPE_CHECKING:
    from vae_runtime.model import Model

# Numpy, Pillow and onnxruntime are imported inside the commands: --help does not wait for them.

Command = TypeVar("Command", bound=Callable[..., Any])

_DEFAULT_MODEL = "faces24"
# As `providers.PROVIDER_NAMES` has them; importing that would double the time of --help.
_PROVIDERS = ("auto", "cpu", "cuda", "tensorrt", "coreml", "directml", "openvino")
_MOST = 100_000_000  # images a call may ask for: 58 GB of the shipped model's pictures
_MOST_CELLS = 10**9  # rows or columns; what they need with each other is told by the grid
_MOST_THREADS = 1024
_MOST_MODEL_BYTES = 10**12  # more than ONNX can say


def main() -> None:
    """Run `vae-run` as a process."""
    run_command(vae_run, "vae-run")


def _model_options(command: Command) -> Command:
    for option in (
        click.option("--threads", type=click.IntRange(1, _MOST_THREADS),
                     help="Threads on the CPU. [default: all at hand]"),
        click.option("--provider", type=click.Choice(_PROVIDERS), default="auto", show_default=True,
                     help="What it runs on; a provider named here is used, or the command fails."),
        click.option("--max-model-bytes", type=click.IntRange(1, _MOST_MODEL_BYTES),
                     help="Refuse graphs whose files are larger. [default: a gibibyte]"),
        click.option("--allow-links", is_flag=True, help="Let files of the bundle through that are links."),
        click.option("--expect-sha256", metavar="HEX",
                     help="Refuse the bundle unless its SHA256SUMS has this SHA-256 (`vae-run info` shows it)."),
        click.option("--model", default=_DEFAULT_MODEL, show_default=True, help="A shipped model or a bundle."),
    ):  # fmt: skip
        command = option(command)
    return command


def _output_options(default: str) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in (
            click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors."),
            click.option("--overwrite", is_flag=True, help="Replace an output that exists."),
            click.option("-o", "--output", default=default, show_default=True,
                         help="FILE.png, .npy, .npz, a folder of PNGs, or - for .npy on stdout."),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


def _grid_options(command: Command) -> Command:
    for option in (
        click.option("--float", "as_float", is_flag=True, help="Arrays as float32 (N, C, H, W) in [0, 1], not uint8."),
        click.option("--scale", type=click.IntRange(1, 64), default=1, show_default=True,
                     help="Enlarge PNGs: pixels a pixel."),
        click.option("--padding", type=click.IntRange(0, 64), default=0, show_default=True,
                     help="Pixels between pictures."),
        click.option("--columns", type=click.IntRange(1, _MOST_CELLS),
                     help="Columns of the grid. [default: as needed]"),
        click.option("--rows", type=click.IntRange(1, _MOST_CELLS),
                     help="Rows of the grid. [default: as needed]"),
    ):  # fmt: skip
        command = option(command)
    return command


_limit_option = click.option(
    "-n", "--n", "limit", type=click.IntRange(1, _MOST), help="Take only the first so many."
)

_finite_option = click.option(
    "--check-finite/--no-check-finite",
    default=True,
    show_default=True,
    help="Refuse NaN and infinity in what goes into the model and comes out of it.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("-v", "--verbose", is_flag=True, help="Say which provider runs what.")
@click.version_option(__version__, prog_name="vae-run")
def vae_run(*, verbose: bool) -> None:
    """Sample, interpolate, reconstruct, encode and decode with a variational autoencoder."""
    import logging

    logging.basicConfig(format="vae-run: %(message)s", level=logging.INFO if verbose else logging.WARNING)


@vae_run.command()
@click.option(
    "-n", "--n", "count", type=click.IntRange(1, _MOST), default=100, show_default=True, help="How many."
)
@click.option(
    "--seed", type=click.IntRange(0), help="The same seed gives the same images. [default: new ones]"
)
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Below 1: nearer to the average.",
)
@_grid_options
@_output_options("samples.png")
@_finite_option
@_model_options
def sample(
    count: int,
    seed: int | None,
    temperature: float,
    output: str,
    *,
    overwrite: bool,
    quiet: bool,
    as_float: bool,
    **options: Any,
) -> None:
    """Draw new images.

    \b
    vae-run sample -n 100 --rows 10 --columns 10 --seed 7 -o grid.png
    vae-run sample -n 5000 -o faces.npy
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    with _Work(
        output, overwrite=overwrite, quiet=quiet, as_float=as_float, count=count, options=options
    ) as work:
        work.write(work.model.sample(count, seed, temperature, dtype=work.dtype), "new images")


@vae_run.command()
@click.argument("points", nargs=-1, required=True, metavar="POINT POINT...")
@click.option(
    "--steps",
    type=click.IntRange(2, _MOST),
    default=20,
    show_default=True,
    help="Images in all, ends included.",
)
@click.option(
    "--method",
    type=click.Choice(["slerp", "linear"]),
    default="slerp",
    show_default=True,
    help="Along an arc, or straight.",
)
@_grid_options
@_output_options("interpolation.png")
@_finite_option
@_model_options
def interpolate(
    points: tuple[str, ...],
    steps: int,
    method: str,
    output: str,
    *,
    overwrite: bool,
    quiet: bool,
    as_float: bool,
    **options: Any,
) -> None:
    """Go from one image to the next, through two points or more: seeds or picture files.

    \b
    vae-run interpolate 3 14 --steps 20 --rows 4 --columns 5 -o between.png
    vae-run interpolate anna.png ben.jpg anna.png --steps 60 -o frames/
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    with _Work(
        output, overwrite=overwrite, quiet=quiet, as_float=as_float, count=steps, options=options
    ) as work:
        from vae_runtime.cli.inputs import read_points
        from vae_runtime.latent import latent_path

        path = latent_path(read_points(points, work.model), steps, method)
        work.write(work.model.decode(path, dtype=work.dtype), "images on the way")


@vae_run.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@_limit_option
@_grid_options
@_output_options("reconstruction.png")
@_finite_option
@_model_options
def reconstruct(
    images: tuple[Path, ...],
    limit: int | None,
    output: str,
    *,
    overwrite: bool,
    quiet: bool,
    as_float: bool,
    **options: Any,
) -> None:
    """Show images as the model sees them: in a PNG, each beside its original.

    IMAGES are picture files, folders of them, or one .npy or .npz.
    """
    with _Work(
        output, overwrite=overwrite, quiet=quiet, as_float=as_float, count=None, options=options
    ) as work:
        from vae_runtime.cli.inputs import read_images
        from vae_runtime.cli.sheets import beside_each_other

        originals = read_images(images, work.model, limit)
        found = work.model.reconstruct(originals, dtype=work.dtype)
        if work.output.kind == ".png":
            work.write_pairs(beside_each_other(originals, found), len(found))
        else:
            work.write(found, "reconstructions")


@vae_run.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@_limit_option
@_output_options("latents.npy")
@_finite_option
@_model_options
def encode(
    images: tuple[Path, ...], limit: int | None, output: str, *, overwrite: bool, quiet: bool, **options: Any
) -> None:
    """Write the latents of images: their posterior mean as .npy, mean and logvar as .npz."""
    from vae_runtime.cli.inputs import read_images
    from vae_runtime.cli.outputs import Output

    target = Output(output, overwrite=overwrite, quiet=quiet, arrays_only=True)
    with _open(options) as model:
        posterior = model.encode(read_images(images, model, limit))
    target.write_arrays(posterior._asdict())
    said = f"latents of {len(posterior.mean)} images, {posterior.mean.shape[1]} each"
    target.announce(said, ran_on=_found_by_auto(model, options))


@vae_run.command()
@click.argument("latents", type=click.Path(path_type=Path))
@_grid_options
@_output_options("decoded.png")
@_finite_option
@_model_options
def decode(
    latents: Path, output: str, *, overwrite: bool, quiet: bool, as_float: bool, **options: Any
) -> None:
    """Write the images of latents: a .npy of (N, D), or a .npz that `encode` wrote."""
    with _Work(
        output, overwrite=overwrite, quiet=quiet, as_float=as_float, count=None, options=options
    ) as work:
        from vae_runtime.cli.inputs import read_latents

        work.write(work.model.decode(read_latents(latents), dtype=work.dtype), "decoded images")


@vae_run.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_model_options
def info(*, as_json: bool, **options: Any) -> None:
    """Show a model's card, and what this installation can run it on."""
    from dataclasses import asdict

    from vae_runtime.bundle import find_bundle, shipped_models
    from vae_runtime.installation import import_onnxruntime, installed_wheels
    from vae_runtime.providers import available_providers
    from vae_runtime.threads import available_processors

    with _open(options) as model:
        facts = {
            "vae-edge": __version__,
            "python": platform.python_version(),
            "onnxruntime": f"{import_onnxruntime().__version__} ({', '.join(installed_wheels()) or 'unknown wheel'})",
            "providers": ", ".join(available_providers()),
            "runs on": ", ".join(model.providers),
            "processors": available_processors(),
            "shipped models": ", ".join(shipped_models()) or "none",
        }
        bundle = {"folder": str(find_bundle(options["model"])), "sha256": model.sha256}
        card = {name: value for name, value in asdict(model.card).items() if name != "role"}
    if as_json:
        click.echo(json.dumps({"installation": facts, "bundle": bundle, "card": card}, indent=2))
        return
    for part in (facts, bundle, card):
        _show(part)
        if part is not card:
            click.echo()


@vae_run.command()
@click.argument("bundle", required=False)
@_model_options
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
        first, *more = finding.lines
        click.echo(f"{'FAILED' if finding.error else 'ok':<7} {finding.what:<13} {first}")
        for line in more:
            click.echo(f"{'':<7} {'':<13} {line}")
        if finding.error:
            raise finding.error
    click.echo("Everything holds.")


class _Work:
    """What the commands that make images share: the output is claimed first, then the model opened."""

    def __init__(
        self,
        output: str,
        *,
        overwrite: bool,
        quiet: bool,
        as_float: bool,
        count: int | None,
        options: dict[str, Any],
    ) -> None:
        from vae_runtime.cli.outputs import Layout, Output

        self.layout = Layout(*(options.pop(name) for name in ("rows", "columns", "padding", "scale")))
        if (
            count
            and self.layout.rows
            and self.layout.columns
            and count > self.layout.rows * self.layout.columns
        ):
            raise click.UsageError(
                f"{count} images do not fit into {self.layout.rows} rows of {self.layout.columns}"
            )
        self.output = Output(output, overwrite=overwrite, quiet=quiet)
        self.dtype: Any = "float32" if as_float and not self.output.is_picture else "uint8"
        self._options = options

    def __enter__(self) -> _Work:
        self.model = _open(self._options)
        return self

    def __exit__(self, *_: object) -> None:
        self.model.close()

    def write(self, images: Any, what: str) -> None:
        self.output.write_images(images, self.layout)
        self._announce(f"{len(images)} {what}")

    def write_pairs(self, pairs: Any, count: int) -> None:
        self.output.write_images(pairs, self.layout)
        self._announce(f"{count} images, each left of its reconstruction")

    def _announce(self, what: str) -> None:
        self.output.announce(what, ran_on=_found_by_auto(self.model, self._options))


def _open(options: dict[str, Any]) -> Model:
    from vae_runtime.model import load

    chosen = {name: value for name, value in options.items() if name != "model" and value is not None}
    return load(options["model"], **chosen)


def _found_by_auto(model: Model, options: dict[str, Any]) -> tuple[str, ...]:
    """Return the providers that `--provider auto` has found; none where another was named."""
    return model.providers if options["provider"] == "auto" else ()


def _show(facts: dict[str, Any], indent: str = "") -> None:
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            click.echo(f"{indent}{name}")
            _show(value, indent + "  ")
        else:
            shown = str(value) if value not in ("", {}, None) else "-"
            click.echo(f"{indent}{printable(name):<{width}}  {printable(shown)}")
