"""`vae-train`: trains a VAE on images, with one command; `vae-train evaluate` measures what came out."""

from __future__ import annotations

import logging
import shlex
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from vae_runtime._version import __version__
from vae_runtime.cli.exits import run_command
from vae_runtime.cli.logs import show_logs
from vae_runtime.cli.options import File, Name
from vae_runtime.errors import printable
from vae_training.config import MOST, Config
from vae_training.counting import CountingLine
from vae_training.errors import ConfigError
from vae_training.evaluation.command import evaluate
from vae_training.options import data_options, model_options, override, training_options

if TYPE_CHECKING:
    from vae_training.checkpoint import Checkpoint
    from vae_training.data import ImageSet
    from vae_training.loop import Trainer
    from vae_training.progress import Observer
    from vae_training.run_folder import RunFolder

_log = logging.getLogger(__name__)

_RUNS = Path("runs")
_CHANGED_BY_RESUME = ("epochs", "sharpen_epochs", "device", "source")


def main() -> None:
    """Run `vae-train` as a process."""
    run_command(vae_train, "vae-train")


class _TrainingUnlessNamed(click.Group):
    """Trains, unless another command is named."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; call anything else an extra argument, since commands need not be named."""
        if self.get_command(ctx, args[0]) is None:
            ctx.fail(f"Got unexpected extra argument ({args[0]})")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_TrainingUnlessNamed,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    subcommand_metavar="[evaluate ...]",
)
@data_options
@model_options
@training_options
@click.option(
    "--config",
    "config_file",
    type=File(),
    help="Settings as TOML, such as the config.toml of another run; options given here go before.",
)
@click.option("-o", "--output", type=File(), help="The run's folder. [default: runs/NAME-NUMBER]")
@click.option(
    "--resume",
    type=File(),
    help="Go on with the run in this folder; --epochs lengthens it.",
)
@click.option(
    "--init-from",
    type=Name(),
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
    from vae_training.busy_machine import sleep_where_busy

    show_logs("vae-train")
    sleep_where_busy()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its advice on caches is none for who trains
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
        return override(Config.from_toml(config_file), options)
    source = options.get("init_from")
    # Weights say what model they are of; an option that says otherwise is refused when they are put in.
    return override(Config(model=_read_initial(source).config.model) if source else Config(), options)


def _start(
    config: Config, output: Path | None, save_every: int | None, *, dry_run: bool, quiet: bool
) -> None:
    from vae_training.device import choose_device
    from vae_training.loop import Trainer, fit_model_to_images
    from vae_training.run_folder import RunFolder, next_free_folder_locked

    _prepare_process()
    # What would be refused in the end is refused before images are read.
    choose_device(config.training.device)
    if output is not None:
        RunFolder(output).refuse_in_use()
        RunFolder(output).refuse_used()
    images = _load(config, quiet=quiet)
    config = fit_model_to_images(config, images)
    if dry_run:
        from vae_training.dry_run import describe_run

        trainer = Trainer(config, images, RunFolder(output or _RUNS), save_every=save_every)
        _begin(trainer)
        click.echo(describe_run(trainer), nl=False)
        return
    with ExitStack() as stack:
        if output is None:
            folder = stack.enter_context(next_free_folder_locked(_RUNS, images.name))
        else:
            folder = RunFolder(output)
            stack.enter_context(folder.locked_unused())
        trainer = Trainer(config, images, folder, _observer(quiet=quiet), save_every=save_every)
        del images  # the trainer has its own copy
        _begin(trainer)
        folder.write_config(config)
        _run(trainer)
    _point_out(folder.path, quiet=quiet)


def _prepare_process() -> None:
    from vae_training.allocator import keep_freed_memory
    from vae_training.device import respect_quota

    respect_quota()
    keep_freed_memory()


def _run(trainer: Trainer) -> None:
    from vae_training.compiling import keep_compiled_code

    if trainer.learner.compiling.described:
        keep_compiled_code()
    trainer.run()


def _resume(path: Path, options: dict[str, Any], save_every: int | None, *, quiet: bool) -> None:
    from vae_training.checkpoint import newest_checkpoint
    from vae_training.device import choose_device
    from vae_training.loop import Trainer, fit_model_to_images
    from vae_training.run_folder import RunFolder

    _prepare_process()
    folder = RunFolder(path)
    folder.require_run()
    with folder.locked():
        folder.tidy()
        checkpoint = None if folder.is_unbegun() else newest_checkpoint(folder.checkpoints)
        config = override(_settings_to_go_on_with(folder, checkpoint), options)
        if checkpoint and checkpoint.is_complete(config):
            done = checkpoint.position.epoch
            raise click.UsageError(f"{path} is complete: {done} epochs are done. Give more with --epochs")
        choose_device(config.training.device)
        images = _load(config, quiet=quiet, once_of=path)
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
        _run(trainer)
    _point_out(folder.path, quiet=quiet)


def _settings_to_go_on_with(folder: RunFolder, checkpoint: Checkpoint | None) -> Config:
    """Return the settings of a run: its checkpoint's, but what `--resume` may change as its config.toml says.

    That is written first: a run that was lengthened, and killed before it saved anything, is as long as it was to be.
    """
    if checkpoint is None:
        return Config.from_toml(folder.config)
    try:
        written = Config.from_toml(folder.config)
    except ConfigError:
        return checkpoint.config  # and it is written anew
    wished = {name: getattr(written.training, name) for name in _CHANGED_BY_RESUME if name != "source"}
    config = override(checkpoint.config, {**wished, "source": written.data.source})
    if config != written:
        may = ", ".join(_CHANGED_BY_RESUME)
        _log.warning("%s: settings other than %s stay as the run began with them", folder.config, may)
    return config


def _begin(trainer: Trainer) -> None:
    """Give a new run the weights that it is to begin with, where it is not to be random ones."""
    source = trainer.config.training.init_from
    if source is not None:
        checkpoint = _read_initial(source)
        trainer.begin_with(checkpoint.weights, str(checkpoint.path))


def _read_initial(source: str) -> Checkpoint:
    from vae_training.run_folder import read_checkpoint

    return read_checkpoint(Path(source))


def _refuse_with_resume(options: dict[str, Any], config_file: Path | None, output: Path | None) -> None:
    refused = [f"--{name.replace('_', '-')}" for name in options if name not in _CHANGED_BY_RESUME]
    refused += ["--config"] * (config_file is not None) + ["--output"] * (output is not None)
    if refused:
        raise click.UsageError(f"{', '.join(refused)} cannot be changed by --resume; start a new run instead")


def _load(config: Config, *, quiet: bool, once_of: Path | None = None) -> ImageSet:
    from vae_training.data import load_configured

    with CountingLine(quiet=quiet) as line:
        return load_configured(config.data, partial(line, "reading pictures"), once_of=once_of)


def _observer(*, quiet: bool) -> Observer:
    from vae_training.progress import choose_observer

    return choose_observer(quiet=quiet)


def _point_out(path: Path, *, quiet: bool) -> None:
    if quiet:
        return
    lines = [f"run      {path}", f"curve    {path / 'loss.png'}", f"samples  {path / 'samples'}"]
    if (path / "reconstructions.png").exists():
        lines += [f"images   {path / 'reconstructions.png'}  (held out, each left of its reconstruction)"]
    lines += [f"next     vae-export {shlex.quote(str(path))} -o {shlex.quote(str(path / 'bundle'))}"]
    for line in lines:
        click.echo(printable(line))  # a name may hold what no terminal takes, or obeys
