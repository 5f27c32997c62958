"""Options and arguments that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from vae_runtime.cli.options import File, Name, whole_number

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_MODEL = "faces24"
# As `providers.PROVIDER_NAMES` has them; importing that would double the time of --help.
PROVIDERS = ("auto", "cpu", "cuda", "tensorrt", "coreml", "directml", "openvino")
MOST = 100_000_000
"""Images that a call may ask for: 58 GB of the shipped model's pictures."""

_MOST_CELLS = 10**9  # rows or columns; what they need with each other is told by the grid
_MOST_THREADS = 1024
_MOST_MODEL_BYTES = 10**12  # more than ONNX can say


def model_options(command: Command) -> Command:
    """Which model, and what it runs on."""
    for option in (
        click.option("--threads", type=click.IntRange(1, _MOST_THREADS),
                     help="Threads on the CPU. [default: all at hand]"),
        click.option("--tf32", is_flag=True,
                     help="Let CUDA multiply with 10 bits of mantissa: faster, a thousandth off."),
        click.option("--provider", type=click.Choice(PROVIDERS), default="auto", show_default=True,
                     help="What it runs on; a provider named here is used, or the command fails."),
        click.option("--max-model-bytes", type=click.IntRange(1, _MOST_MODEL_BYTES),
                     help="Refuse graphs whose files are larger. [default: a gibibyte]"),
        click.option("--allow-links", is_flag=True, help="Let files of the bundle through that are links."),
        click.option("--expect-sha256", metavar="HEX",
                     help="Refuse the bundle unless its SHA256SUMS has this SHA-256 (`vae-run info` shows it)."),
        click.option("--model", type=Name(), default=DEFAULT_MODEL, show_default=True,
                     help="A shipped model or a bundle."),
    ):  # fmt: skip
        command = option(command)
    return command


def output_options(
    default: str | None, *, arrays_only: bool = False, tables: bool = False
) -> Callable[[Command], Command]:
    """Where to write, and what to say of it."""
    kinds = (
        "FILE.npy, .npz, or - for .npy" if arrays_only else "FILE.png, .npy, .npz, a folder, or - for .npy"
    )
    on = "on stdout"
    if tables:
        kinds, on = "FILE.csv, .npy, .npz, or - for .npy", "on stdout. [default: a table on stdout]"

    def add(command: Command) -> Command:
        for option in (
            click.option("-q", "--quiet", is_flag=True, help="Say nothing on stderr but errors."),
            click.option("--overwrite", is_flag=True, help="Replace an output that exists."),
            click.option("-o", "--output", default=default, show_default=True, help=f"{kinds} {on}"),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


def picture_options(command: Command) -> Command:
    """In what form images are written."""
    for option in (
        click.option("--float", "as_float", is_flag=True, help="Arrays as float32 (N, C, H, W) in [0, 1], not uint8."),
        click.option("--shard-size", type=click.IntRange(1, MOST),
                     help="A folder holds .npy files of so many images each, not PNGs."),
        whole_number("--scale", least=1, most=64, default=1, help="Enlarge PNGs: pixels a pixel."),
        whole_number("--padding", least=0, most=64, default=0, help="Pixels between the pictures of one PNG."),
        click.option("--columns", type=click.IntRange(1, _MOST_CELLS),
                     help="Columns of a PNG's grid. [default: as needed]"),
        click.option("--rows", type=click.IntRange(1, _MOST_CELLS),
                     help="Rows of a PNG's grid. [default: as needed]"),
    ):  # fmt: skip
        command = option(command)
    return command


images_argument = click.argument("images", nargs=-1, required=True, type=File())

limit_option = click.option(
    "-n", "--n", "limit", type=click.IntRange(1, MOST), help="Take only the first so many."
)

skip_bad_option = click.option(
    "--skip-bad", is_flag=True, help="Leave out, and name, pictures that cannot be read."
)

finite_option = click.option(
    "--check-finite/--no-check-finite",
    default=True,
    show_default=True,
    help="Refuse NaN and infinity in what goes into the model and comes out of it.",
)
