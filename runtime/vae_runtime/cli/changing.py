"""The commands that change images: along a direction, where pixels are missing, and where there is noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from vae_runtime.cli.options import Strengths
from vae_runtime.cli.shared import (
    MOST,
    finite_option,
    limit_option,
    model_options,
    output_options,
    picture_options,
)
from vae_runtime.cli.work import Work

_STEPS = 5  # from one strength to another
_images = click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))


@click.command()
@click.option("--with", "have", multiple=True, required=True, type=click.Path(path_type=Path),
              help="Images that have it: a picture, a folder, a .npy or .npz. May be given several times.")  # fmt: skip
@click.option("--without", "lack", multiple=True, required=True, type=click.Path(path_type=Path),
              help="Images that do not.")  # fmt: skip
@output_options("direction.npz", arrays_only=True)
@finite_option
@model_options
def direction(have: tuple[Path, ...], lack: tuple[Path, ...], **options: Any) -> None:
    """Find the way from images without something to images with it.

    A .npz knows which model it belongs to; a .npy is nothing but the numbers.

    \b
    vae-run direction --with smiling/ --without serious/ -o smile.npz
    vae-run edit faces/ --direction smile.npz --strength -1..1 -o smiles.png
    """  # noqa: D301
    with Work(options, arrays_only=True) as work:
        from vae_runtime.attributes import attribute_direction
        from vae_runtime.cli.directions import mean_latent, write_direction
        from vae_runtime.cli.inputs import read_images

        groups = [read_images(paths, work.model) for paths in (have, lack)]
        found = attribute_direction(*(mean_latent(work.model, group) for group in groups))
        write_direction(work, found)
        work.announce(f"direction from {len(groups[1])} images without it to {len(groups[0])} with it")


@click.command()
@_images
@click.option("--direction", "path", required=True, type=click.Path(path_type=Path),
              help="What `vae-run direction` wrote, or a .npy of (D,).")  # fmt: skip
@click.option("--strength", "strengths", type=Strengths(), default="1", show_default=True,
              help="How far: 1 is from the mean without to the mean with; LOW..HIGH for several.")  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(2, MOST), help=f"How many, from LOW to HIGH. [default: {_STEPS}]"
)
@limit_option
@picture_options
@output_options("edited.png")
@finite_option
@model_options
def edit(
    images: tuple[Path, ...],
    path: Path,
    strengths: tuple[float, ...],
    steps: int | None,
    limit: int | None,
    **options: Any,
) -> None:
    """Change images along a direction: a row for each image, a column for each strength.

    IMAGES are picture files, folders of them, or one .npy or .npz. Strength 0 is the image as the model sees it.
    """
    if steps is not None and len(strengths) == 1:
        raise click.UsageError("--steps goes with two strengths; expected --strength LOW..HIGH")
    with Work(options) as work:
        import numpy as np

        from vae_runtime.attributes import moved
        from vae_runtime.cli.directions import read_direction
        from vae_runtime.cli.inputs import read_images

        along = read_direction(path, work.model)
        given = read_images(images, work.model, limit)
        each = np.linspace(*strengths, steps or _STEPS) if len(strengths) == 2 else np.array(strengths)
        if work.layout.rows is work.layout.columns is None:
            work.layout = replace(work.layout, columns=len(each))
        latents = (moved(posterior.mean, along, each) for posterior in work.model.encode_stream(given))
        made = work.model.decode_stream(latents, dtype=work.dtype)
        work.write_images(made, len(given) * len(each), "edited images")
