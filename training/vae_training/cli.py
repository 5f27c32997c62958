"""`vae-train`: trains a VAE on images, with one command; `vae-train evaluate` measures what came out."""

from __future__ import annotations

import dataclasses
import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from vae_runtime._version import __version__
from vae_runtime.cli.exits import run_command
from vae_runtime.cli.options import Number, Size
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
from vae_training.evaluation.command import evaluate
from vae_training.options import Widths

if TYPE_CHECKING:
    from vae_training.checkpoint import Checkpoint
    from vae_training.data import ImageSet
    from vae_training.loop import Trainer

_RUNS = Path("runs")


def main() -> None:
    """Run `vae-train` as a process."""
    run_command(vae_train, "vae-train")


def _default(section: type, name: str) -> str:
    value = next(f.default for f in dataclasses.fields(section) if f.name == name)
    shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
    return f" [default: {shown}]"


class _TrainingUnlessNamed(click.Group):
    """Trains, unless another command is named."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; what is none is no name of a command that somebody mistyped, but too much."""
        if self.get_command(ctx, args[0]) is None:
            ctx.fail(f"Got unexpected extra argument ({args[0]})")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_TrainingUnlessNamed,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    subcommand_metavar="[evaluate ...]",
)
@click.option(
    "--data",
    "source",
    metavar="SOURCE",
    help=(
        "What to train on: a .npy or .npz file, a folder of pictures, or a name: faces, lfw, olivetti, lfw-subset, "
        "digits, mnist, fashion-mnist, celeba." + _default(DataConfig, "source")
    ),
)
@click.option("--array", metavar="NAME", help="Which array of an .npz holds the images.")
@click.option(
    "--groups",
    metavar="NAME",
    help="Which array of an .npz says what belongs together (one person), "
    "so that validation is held out by group.",
)
@click.option("--image-size", type=Size(), help="Crop about the centre and resize to H or HxW.")
@click.option("--channels", type=click.Choice(["1", "3"]), help="Train on gray (1) or colour (3).")
@click.option(
    "--validation",
    type=Number(0, 0.9),
    help="Share of the images to hold out." + _default(DataConfig, "validation"),
)
@click.option("--skip-bad", is_flag=True, default=None, help="Leave out pictures that cannot be read.")
@click.option(
    "--latent-size",
    type=click.IntRange(1, WIDEST),
    help="Number of latents." + _default(ModelConfig, "latent_size"),
)
@click.option(
    "--architecture",
    type=click.Choice(ARCHITECTURES),
    help="The layers; residual is for larger images." + _default(ModelConfig, "architecture"),
)
@click.option(
    "--filters",
    type=Widths(),
    help="Output channels of the convolutions that halve the image, one after the other; of the residual "
    "architecture by default what suits the images' size. [default: 32,64]",
)
@click.option(
    "--blocks",
    type=click.IntRange(0, MOST_BLOCKS),
    help="Residual blocks behind each of them." + _default(ModelConfig, "blocks"),
)
@click.option(
    "--epochs",
    type=click.IntRange(1, MOST),
    help="Passes over the images." + _default(TrainingConfig, "epochs"),
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, MOST),
    help="Images a step." + _default(TrainingConfig, "batch_size"),
)
@click.option(
    "--learning-rate",
    type=Number(0, min_open=True),
    help="Adam's step size." + _default(TrainingConfig, "learning_rate"),
)
@click.option(
    "--schedule",
    type=click.Choice(SCHEDULES),
    help="How the learning rate changes." + _default(TrainingConfig, "schedule"),
)
@click.option(
    "--clip-gradient",
    type=Number(0),
    metavar="NORM",
    help="Scale gradients down to this norm; 0 for never." + _default(TrainingConfig, "clip_gradient"),
)
@click.option(
    "--likelihood",
    type=click.Choice(LIKELIHOODS),
    help="How probable an image is where the decoder draws another." + _default(TrainingConfig, "likelihood"),
)
@click.option(
    "--noise-scale",
    metavar="SCALE",
    help="How pixels spread about what is drawn: auto (the best for each batch of a Gaussian, else learned), learned, "
    "or a number, pixels being 0 to 1." + _default(TrainingConfig, "noise_scale"),
)
@click.option(
    "--beta", type=Number(0), help="Weight of the KL divergence." + _default(TrainingConfig, "beta")
)
@click.option(
    "--beta-schedule",
    type=click.Choice(BETA_SCHEDULES),
    help="How that weight changes: not, up over the first quarter, or up four times."
    + _default(TrainingConfig, "beta_schedule"),
)
@click.option(
    "--free-bits",
    type=Number(0),
    metavar="NATS",
    help="KL divergence that each latent has for free." + _default(TrainingConfig, "free_bits"),
)
@click.option(
    "--capacity",
    type=Number(0),
    metavar="NATS",
    help="KL divergence per image that is aimed at, instead of none.",
)
@click.option(
    "--prior",
    type=click.Choice(PRIORS),
    help="Where samples are drawn from: the standard normal; a flow or a mixture of normal distributions, fitted to "
    "where images are; or the best of these two." + _default(TrainingConfig, "prior"),
)
@click.option(
    "--sharpen-epochs",
    type=click.IntRange(0, MOST),
    help="Passes more, in which the decoder learns to draw what a discriminator takes for real."
    + _default(TrainingConfig, "sharpen_epochs"),
)
@click.option("--flip", is_flag=True, default=None, help="Mirror every other image that is trained on.")
@click.option(
    "--shift",
    type=click.IntRange(0, LONGEST_SIDE),
    metavar="PIXELS",
    help="Move images that are trained on by up to so much." + _default(TrainingConfig, "shift"),
)
@click.option(
    "--brightness",
    type=Number(0, 1),
    metavar="AMOUNT",
    help="Make images that are trained on lighter or darker by up to so much, pixels being 0 to 1."
    + _default(TrainingConfig, "brightness"),
)
@click.option(
    "--ema",
    type=Number(0, 1, max_open=True),
    metavar="DECAY",
    help="Keep the exponential moving average of the weights, of this decay (0.999, say), instead of the last ones; "
    "0 for none." + _default(TrainingConfig, "ema"),
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    help="Seed of everything random." + _default(TrainingConfig, "seed"),
)
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    help="Where to train; auto takes CUDA where there is one." + _default(TrainingConfig, "device"),
)
@click.option(
    "--compile",
    type=click.Choice(COMPILE_CHOICES),
    help="torch.compile; auto where the run is long "
    "enough to repay it." + _default(TrainingConfig, "compile"),
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Settings as TOML, such as the config.toml of another run; options given here go before.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The run's folder. [default: runs/NAME-NUMBER]"
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    help="Go on with the run in this folder; --epochs lengthens it.",
)
@click.option(
    "--init-from",
    metavar="RUN",
    help="Begin a new run with the weights, and nothing else, of another: its folder, or one checkpoint.",
)
@click.option(
    "--save-every",
    type=click.IntRange(1, MOST),
    metavar="STEPS",
    help="Save inside of epochs too, every so many steps. [default: every ten minutes]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what the run would cost and which settings it would have; write nothing.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@click.version_option(__version__, prog_name="vae-train")
@click.pass_context
def vae_train(
    context: click.Context,
    /,
    config_file: Path | None,
    output: Path | None,
    resume: Path | None,
    save_every: int | None,
    *,
    dry_run: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Train a variational autoencoder on images.

    Without options it trains the classic recipe on the embedded faces: two convolutions down, 20 latents,
    two transposed convolutions up, binary cross-entropy + 0.5 KL, Adam 1e-3, batches of 64, 5 epochs.

    \b
    vae-train                                        the embedded faces
    vae-train --data photos/ --image-size 32         a folder of pictures
    vae-train --data faces.npz --array images24      an array of an archive
    vae-train --resume runs/faces-1 --epochs 20      fifteen epochs more
    vae-train --init-from runs/faces-1 --data mine/  from there, on other images
    vae-train --data photos/ --image-size 64 --architecture residual --dry-run   what that would cost
    vae-train evaluate runs/faces-1                  what it is worth
    """  # noqa: D301 - \b is click's mark for lines to leave as they are
    if context.invoked_subcommand is not None:
        _refuse_before_command(context)
        return
    logging.basicConfig(format="vae-train: %(message)s", level=logging.WARNING)
    options = {name: value for name, value in given.items() if value is not None}
    if dry_run and resume is not None:
        raise click.UsageError(
            "--dry-run is for new runs; what one that was begun costs, its metrics.jsonl tells"
        )
    if resume is not None:
        _refuse_with_resume(options, config_file, output)
        _resume(resume, options, save_every, quiet=quiet)
    else:
        _start(_settings(config_file, options), output, save_every, dry_run=dry_run, quiet=quiet)


vae_train.add_command(evaluate)


def _refuse_before_command(context: click.Context) -> None:
    """Raise for options of the training that stand before another command: they would mean nothing."""
    given = [
        max(param.opts, key=len)
        for param in vae_train.params
        if param.name and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        command = context.invoked_subcommand
        raise click.UsageError(
            f"{', '.join(given)}: for training, not for {command}; options of {command} come after its name"
        )


def _settings(config_file: Path | None, options: dict[str, Any]) -> Config:
    """Return the settings of a new run: the file's, else the defaults, with the options in their places."""
    if config_file:
        return _override(Config.from_toml(config_file), options)
    source = options.get("init_from")
    # Weights say what model they are of; an option that says otherwise is refused when they are put in.
    return _override(Config(model=_read_initial(source).config.model) if source else Config(), options)


def _start(
    config: Config, output: Path | None, save_every: int | None, *, dry_run: bool, quiet: bool
) -> None:
    from vae_training.device import respect_quota
    from vae_training.loop import Trainer, fit_model_to_images
    from vae_training.run_folder import RunFolder, next_free_folder

    respect_quota()
    images = _load(config, quiet=quiet)
    config = fit_model_to_images(config, images)
    folder = RunFolder(output or next_free_folder(_RUNS, images.name))
    folder.refuse_in_use()
    folder.refuse_used()
    trainer = Trainer(config, images, folder, _observer(quiet=quiet), save_every=save_every)
    del images  # the trainer has its own copy
    _begin(trainer)
    if dry_run:
        from vae_training.dry_run import describe_run

        click.echo(describe_run(trainer), nl=False)
        return
    with folder.locked():
        folder.refuse_used()  # now that nobody else can begin in it
        folder.write_config(config)
        trainer.run()
    _point_out(folder.path, quiet=quiet)


def _resume(path: Path, options: dict[str, Any], save_every: int | None, *, quiet: bool) -> None:
    from vae_training.checkpoint import newest_checkpoint
    from vae_training.device import respect_quota
    from vae_training.loop import Trainer, fit_model_to_images
    from vae_training.run_folder import RunFolder

    respect_quota()
    folder = RunFolder(path)
    folder.require_run()
    with folder.locked():
        folder.tidy()
        checkpoint = None if folder.is_unbegun() else newest_checkpoint(folder.checkpoints)
        config = _override(checkpoint.config if checkpoint else Config.from_toml(folder.config), options)
        if checkpoint and checkpoint.is_complete(config):
            done = checkpoint.position.epoch
            raise click.UsageError(f"{path} is complete: {done} epochs are done. Give more with --epochs")
        images = _load(config, quiet=quiet)
        if checkpoint is None:
            if not quiet:
                click.echo(f"{path} was stopped before its first checkpoint: it begins anew", err=True)
            config = fit_model_to_images(config, images)
        trainer = Trainer(config, images, folder, _observer(quiet=quiet), save_every=save_every)
        del images  # the trainer has its own copy
        if checkpoint:
            trainer.resume(checkpoint)
        else:
            _begin(trainer)
        folder.write_config(config)
        trainer.run()
    _point_out(folder.path, quiet=quiet)


def _begin(trainer: Trainer) -> None:
    """Give a new run the weights that it is to begin with, where it is not to be random ones."""
    source = trainer.config.training.init_from
    if source is not None:
        checkpoint = _read_initial(source)
        trainer.begin_with(checkpoint.weights, str(checkpoint.path))


def _read_initial(source: str) -> Checkpoint:
    from vae_training.run_folder import read_checkpoint

    return read_checkpoint(Path(source))


def _override(config: Config, options: dict[str, Any]) -> Config:
    """Return the settings with the options of the command line in their places."""
    record = config.to_dict()
    if options.get("architecture", config.model.architecture) != config.model.architecture:
        for name in ("filters", "blocks", "fc_relu"):  # mean something else there
            record["model"].pop(name, None)
    for section in dataclasses.fields(Config):
        known = {f.name for f in dataclasses.fields(getattr(config, section.name))}
        record[section.name].update({name: value for name, value in options.items() if name in known})
    if "channels" in options:
        record["data"]["channels"] = record["model"]["channels"] = int(options["channels"])
    return Config.from_dict(record, "options")


def _refuse_with_resume(options: dict[str, Any], config_file: Path | None, output: Path | None) -> None:
    refused = [
        f"--{name.replace('_', '-')}"
        for name in options
        if name not in ("epochs", "sharpen_epochs", "device", "source")
    ]
    refused += ["--config"] * (config_file is not None) + ["--output"] * (output is not None)
    if refused:
        raise click.UsageError(f"{', '.join(refused)} cannot be changed by --resume; start a new run instead")


def _load(config: Config, *, quiet: bool) -> ImageSet:
    from vae_training.data import load_configured

    return load_configured(config.data, None if quiet or not sys.stderr.isatty() else _loading_bar())


def _loading_bar() -> Any:
    """Return a callback that shows how many pictures are read."""

    def show(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        click.echo(f"\rreading pictures: {done:,} of {total:,}{end}", err=True, nl=False)

    return show


def _observer(*, quiet: bool) -> Any:
    from vae_training.progress import choose_observer

    return choose_observer(quiet=quiet)


def _point_out(path: Path, *, quiet: bool) -> None:
    if quiet:
        return
    click.echo(f"run      {path}")
    click.echo(f"curve    {path / 'loss.png'}")
    click.echo(f"samples  {path / 'samples'}")
    if (path / "reconstructions.png").exists():
        click.echo(f"images   {path / 'reconstructions.png'}  (held out, each left of its reconstruction)")
    click.echo(f"next     vae-export {shlex.quote(str(path))} -o {shlex.quote(str(path / 'bundle'))}")
