"""The commands that change images: along a direction, where pixels are missing, and where there is noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vae_runtime.cli.options import Box, File, Number, Strengths
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
from vae_runtime.cli.work import Work

if TYPE_CHECKING:
    from vae_runtime.requests import ImageArray

_STEPS = 5  # from one strength to another


@click.command()
@click.option("--with", "have", multiple=True, required=True, type=File(),
              help="Images that have it: a picture, a folder, a .npy or .npz. May be given several times.")  # fmt: skip
@click.option("--without", "lack", multiple=True, required=True, type=File(),
              help="Images that do not.")  # fmt: skip
@skip_bad_option
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

        groups = [work.read_images(paths) for paths in (have, lack)]
        means = []
        for group in groups:
            work.given = group
            means.append(mean_latent(work.model, group))
        found = attribute_direction(*means)
        write_direction(work, found)
        work.announce(f"direction from {len(groups[1])} images without it to {len(groups[0])} with it")


@click.command()
@images_argument
@click.option("--direction", "path", required=True, type=File(),
              help="What `vae-run direction` wrote, or a .npy of (D,).")  # fmt: skip
@click.option("--strength", "strengths", type=Strengths(), default="1", show_default=True,
              help="How far: 1 is from the mean without to the mean with; LOW..HIGH for several.")  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(2, MOST), help=f"How many, from LOW to HIGH. [default: {_STEPS}]"
)
@limit_option
@skip_bad_option
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

        along = read_direction(path, work.model)
        given = work.read_images(images, limit)
        each = np.linspace(*strengths, steps or _STEPS) if len(strengths) == 2 else np.array(strengths)
        if work.layout.rows is work.layout.columns is None:
            work.layout = replace(work.layout, columns=len(each))
        latents = (moved(posterior.mean, along, each) for posterior in work.model.encode_stream(given))
        made = work.model.decode_stream(latents, dtype=work.dtype)
        work.write_images(made, len(given) * len(each), "edited images")


@click.command()
@images_argument
@click.option("--mask", type=File(),
              help="A picture, white where pixels are missing; or a .npy of bool, (H, W) or (N, H, W).")  # fmt: skip
@click.option("--box", "boxes", type=Box(), multiple=True,
              help="What is missing, in the model's pixels from the upper left; several if need be.")  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0), help="Draw from what is probable. [default: the most probable]"
)
@limit_option
@skip_bad_option
@picture_options
@output_options("inpainted.png")
@finite_option
@model_options
def inpaint(
    images: tuple[Path, ...],
    mask: Path | None,
    boxes: tuple[tuple[int, int, int, int], ...],
    seed: int | None,
    limit: int | None,
    **options: Any,
) -> None:
    """Fill in missing pixels with what is most probable beside the others: in a PNG, right of what was there.

    IMAGES are picture files, folders of them, or one .npy or .npz.

    \b
    vae-run inpaint faces/ --box 4,6,16,8 -o eyes.png
    vae-run inpaint photographs.npy --mask scratches.png -o whole.npy
    """  # noqa: D301
    with Work(options) as work:
        from vae_runtime.cli.masks import read_mask, with_holes

        given = work.read_images(images, limit).whole()
        missing = read_mask(mask, boxes, len(given), work.model)
        filled = work.model.inpaint(given, missing, seed=seed, dtype=work.dtype)
        _write_beside(work, with_holes(given, missing), filled, "inpainted images")


@click.command()
@images_argument
@click.option("--noise-scale", type=Number(0, 10, min_open=True), required=True,
              help="Standard deviation of the noise in a pixel, pixels being 0 to 1.")  # fmt: skip
@limit_option
@skip_bad_option
@picture_options
@output_options("denoised.png")
@finite_option
@model_options
def denoise(images: tuple[Path, ...], noise_scale: float, limit: int | None, **options: Any) -> None:
    """Take noise of a known strength away: in a PNG, right of what was there.

    `reconstruct` shows what the model makes of an image; this keeps as much of its own pixels as can be believed
    under the noise.

    IMAGES are picture files, folders of them, or one .npy or .npz.
    """
    with Work(options) as work:
        given = work.read_images(images, limit).whole()
        clean = work.model.denoise(given, noise_scale, dtype=work.dtype)
        _write_beside(work, given, clean, "denoised images")


def _write_beside(work: Work, before: ImageArray, after: ImageArray, what: str) -> None:
    """Write images: in a PNG each right of what it was made of, in other outputs alone."""
    if work.output.is_sheet:
        from vae_runtime.cli.sheets import beside_each_other

        work.output.write_sheet(beside_each_other(before, after), work.layout)
        work.announce(f"{len(after)} {what}, each right of what it was made of")
    else:
        work.write_images([after], len(after), what)
