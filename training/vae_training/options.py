"""The settings of a run as options of `vae-train`: groups of them, and what those that are typed make of a `Config`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar

import click

from vae_runtime.cli.options import MOST_DIGITS, Name, Number, Several, Size, is_size
from vae_training.config import (
    ARCHITECTURES,
    BETA_SCHEDULES,
    COMPILE_CHOICES,
    DEVICES,
    LIKELIHOODS,
    LONGEST_SIDE,
    MOST,
    MOST_BLOCKS,
    PRIORS,
    SCHEDULES,
    WIDEST,
    Config,
    DataConfig,
    ModelConfig,
    TrainingConfig,
)
from vae_training.errors import ConfigError, DataError

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Option(Protocol):
    def __call__(self, command: _Command, /) -> _Command: ...


class Widths(Several):
    """Numbers with commas between them: `16,32,64`, as (16, 32, 64)."""

    name = "widths"
    metavar = "N,N[,N...]"
    expected = f"numbers above 0 of at most {MOST_DIGITS} digits, as in 32,64"

    def parse(self, typed: str) -> tuple[int, ...] | None:
        """Return the numbers."""
        parts = typed.split(",")
        return tuple(map(int, parts)) if all(map(is_size, parts)) else None


def override(config: Config, given: dict[str, Any]) -> Config:
    """Return the settings with the options that were given in their places.

    Raises:
        click.UsageError: a value that its setting cannot have, or cannot have beside others.
    """
    record = config.to_dict()
    if given.get("architecture", config.model.architecture) != config.model.architecture:
        for name in ("filters", "blocks", "fc_relu"):  # mean something else there
            record["model"].pop(name, None)
    for section in dataclasses.fields(Config):
        known = {f.name for f in dataclasses.fields(getattr(config, section.name))}
        record[section.name].update({name: value for name, value in given.items() if name in known})
    if "channels" in given:
        record["data"]["channels"] = record["model"]["channels"] = int(given["channels"])
    try:
        if "image_size" in given:
            from vae_training.data.layout import require_image_size  # numpy waits until there is work

            require_image_size(given["image_size"])
        return Config.from_dict(record, "options")
    except (ConfigError, DataError) as error:
        raise click.UsageError(str(error)) from error


def _setting(section: type, *declarations: str, help: str, **attributes: Any) -> _Option:  # noqa: A002 - click's name
    """Return the option of one setting. Help shows the section's default; one that is not given is None."""
    name = declarations[-1].removeprefix("--").replace("-", "_")
    default = next(f.default for f in dataclasses.fields(section) if f.name == name)
    shown = "" if default is None or default is False else f" [default: {default}]"
    return click.option(*declarations, default=None, help=help + shown, **attributes)


def _in_this_order(*options: _Option) -> _Option:
    """Return what gives a command all of the options, the first one first in help."""

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_data = partial(_setting, DataConfig)
_model = partial(_setting, ModelConfig)
_training = partial(_setting, TrainingConfig)

data_options = _in_this_order(
    _data(
        "--data",
        "source",
        metavar="SOURCE",
        help="What to train on: a .npy or .npz file, a folder of pictures, or a name: faces, lfw, olivetti, "
        "lfw-subset, digits, mnist, fashion-mnist, celeba.",
    ),
    _data("--array", type=Name(), metavar="NAME", help="Which array of an .npz holds the images."),
    _data(
        "--groups",
        type=Name(),
        metavar="NAME",
        help="Which array of an .npz says what belongs together (one person), "
        "so that validation is held out by group.",
    ),
    _data("--image-size", type=Size(), help="Crop about the centre and resize to H or HxW."),
    _data("--channels", type=click.Choice(["1", "3"]), help="Train on gray (1) or colour (3)."),
    _data("--validation", type=Number(0, 0.9), help="Share of the images to hold out."),
    _data("--skip-bad", is_flag=True, help="Leave out pictures that cannot be read."),
)

model_options = _in_this_order(
    _model("--latent-size", type=click.IntRange(1, WIDEST), help="Number of latents."),
    _model(
        "--architecture", type=click.Choice(ARCHITECTURES), help="The layers; residual is for larger images."
    ),
    _model(
        "--filters",
        type=Widths(),
        help="Output channels of the convolutions that halve the image, one after the other; of the residual "
        "architecture by default what suits the images' size. [default: 32,64]",
    ),
    _model("--blocks", type=click.IntRange(0, MOST_BLOCKS), help="Residual blocks behind each of them."),
)

training_options = _in_this_order(
    _training("--epochs", type=click.IntRange(1, MOST), help="Passes over the images."),
    _training("--batch-size", type=click.IntRange(1, MOST), help="Images a step."),
    _training("--learning-rate", type=Number(0, min_open=True), help="Adam's step size."),
    _training("--schedule", type=click.Choice(SCHEDULES), help="How the learning rate changes."),
    _training(
        "--clip-gradient",
        type=Number(0),
        metavar="NORM",
        help="Scale gradients down to this norm; 0 for never.",
    ),
    _training(
        "--likelihood",
        type=click.Choice(LIKELIHOODS),
        help="How probable an image is where the decoder draws another.",
    ),
    _training(
        "--noise-scale",
        metavar="SCALE",
        help="How pixels spread about what is drawn: auto (the best for each batch of a Gaussian, else learned), "
        "learned, or a number, pixels being 0 to 1.",
    ),
    _training("--beta", type=Number(0), help="Weight of the KL divergence."),
    _training(
        "--beta-schedule",
        type=click.Choice(BETA_SCHEDULES),
        help="How that weight changes: not, up over the first quarter, or up four times.",
    ),
    _training(
        "--free-bits", type=Number(0), metavar="NATS", help="KL divergence that each latent has for free."
    ),
    _training(
        "--capacity",
        type=Number(0),
        metavar="NATS",
        help="KL divergence per image that is aimed at, instead of none.",
    ),
    _training(
        "--prior",
        type=click.Choice(PRIORS),
        help="Where samples are drawn from: the standard normal; a flow or a mixture of normal distributions, fitted "
        "to where images are; or the best of these two.",
    ),
    _training(
        "--sharpen-epochs",
        type=click.IntRange(0, MOST),
        help="Passes more, in which the decoder learns to draw what a discriminator takes for real.",
    ),
    _training("--flip", is_flag=True, help="Mirror each image that is trained on with probability one half."),
    _training(
        "--shift",
        type=click.IntRange(0, LONGEST_SIDE),
        metavar="PIXELS",
        help="Move images that are trained on by up to so much.",
    ),
    _training(
        "--brightness",
        type=Number(0, 1),
        metavar="AMOUNT",
        help="Make images that are trained on lighter or darker by up to so much, pixels being 0 to 1.",
    ),
    _training(
        "--ema",
        type=Number(0, 1, max_open=True),
        metavar="DECAY",
        help="Keep the exponential moving average of the weights, of this decay (0.999, say), instead of the last "
        "ones; 0 for none.",
    ),
    _training("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed of everything random."),
    _training(
        "--device", type=click.Choice(DEVICES), help="Where to train; auto takes CUDA where there is one."
    ),
    _training(
        "--compile",
        type=click.Choice(COMPILE_CHOICES),
        help="torch.compile; auto on a GPU, once the steps left will repay it. off does without CUDA graphs, too.",
    ),
    _training(
        "--bf16",
        is_flag=True,
        help="Compute layers in 16 bits (bfloat16), losses and weights in 32. Faster where the processor has units for "
        "it, slower where not: --dry-run measures.",
    ),
)
