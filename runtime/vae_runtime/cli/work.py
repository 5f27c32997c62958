"""What the commands that make something share: the output is claimed first, then the model opened."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from vae_runtime.cli.outputs import Layout, Output
    from vae_runtime.cli.rows import Rows
    from vae_runtime.latent import Posterior
    from vae_runtime.model import Model


class Work:
    """A model at work for one command; for a `with` block."""

    def __init__(
        self,
        options: dict[str, Any],
        *,
        count: int | None = None,
        arrays_only: bool = False,
        tables: bool = False,
    ) -> None:
        """Claim the output.

        Args:
            options: of the command: those of `model_options`, `output_options`, and `picture_options` unless only
                arrays are written.
            count: how many images there will be, where that is known.
            arrays_only: refuse pictures.
            tables: as `Output` takes it.

        Raises:
            click.UsageError: what was typed does not go together.
            OutputExistsError: the output is there already.
        """
        from vae_runtime.cli.outputs import Layout, Output

        self._options = dict(options)
        take = self._options.pop
        name, self.quiet = take("output"), take("quiet")
        self._skip_bad = take("skip_bad", False)
        as_float = take("as_float", False)
        places = {place: take(place, None) for place in ("rows", "columns")}
        self.layout = Layout(**places, padding=take("padding", 0), scale=take("scale", 1))
        _require_fit(count, **places)
        self.output = Output(
            name,
            overwrite=take("overwrite"),
            quiet=self.quiet,
            arrays_only=arrays_only,
            tables=tables,
            shard_size=take("shard_size", None),
        )
        self.dtype: Literal["float32", "uint8"] = "float32" if as_float else "uint8"
        self.given: Rows | None = None
        """What the model works on, where that is read from a file: what is wrong with its numbers is told of it."""
        _refuse_without_effect(self.output, self.layout, as_float=as_float)

    def __enter__(self) -> Work:
        self.model = open_model(self._options)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.model.close()
        from vae_runtime.errors import NumbersError

        if isinstance(error, NumbersError) and self.given is not None and self.given.path is not None:
            raise NumbersError(f"{self.given.path}: {error}") from error

    def read_images(self, paths: Sequence[Path], limit: int | None = None) -> Rows:
        """Read the images that the model is to work on; arguments and errors are those of `inputs.read_images`."""
        from vae_runtime.cli.inputs import read_images

        self.given = read_images(paths, self.model, limit, skip_bad=self._skip_bad)
        return self.given

    def write_images(self, batches: Iterable[Any], count: int, what: str) -> None:
        """Write images as they come, with a bar of progress, and say so."""
        import numpy as np

        from vae_runtime.cli.outputs import ArraySpec
        from vae_runtime.cli.progress import with_progress
        from vae_runtime.images import picture_shape

        image_shape = self.model.card.image_shape
        each = image_shape if self.dtype == "float32" else picture_shape(image_shape)
        batches = with_progress(batches, count, quiet=self.quiet)
        self.output.write(batches, ArraySpec(np.dtype(self.dtype), (count, *each)), self.layout)
        self.announce(f"{count} {what}")

    def write_posteriors(self, batches: Iterable[Posterior], count: int) -> None:
        """Write latents: the means as they come, or means and log-variances by name; and say so."""
        import numpy as np

        from vae_runtime.cli.outputs import ArraySpec, together
        from vae_runtime.cli.progress import with_progress

        size = self.model.card.latent_size
        pairs = with_progress((np.stack(posterior, axis=1) for posterior in batches), count, quiet=self.quiet)
        means = ArraySpec(np.dtype(np.float32), (count, size))
        if self.output.kind == ".npz":
            both = together(pairs, ArraySpec(means.dtype, (count, 2, size)))
            self.output.write_npz({"mean": both[:, 0], "logvar": both[:, 1]})
        else:
            self.output.write_array((batch[:, 0] for batch in pairs), means, "mean")
        self.announce(f"latents of {count} images, {size} each")

    def announce(self, what: str) -> None:
        """Say what was written, and what `--provider auto` has found."""
        found = self._options["provider"] == "auto"
        self.output.announce(what, ran_on=self.model.providers if found else ())


def open_model(options: dict[str, Any]) -> Model:
    """Open the model that the options of `model_options` say."""
    from vae_runtime import gpu_libraries
    from vae_runtime.model import load

    gpu_libraries.logs_to_stderr = False
    chosen = {name: value for name, value in options.items() if name != "model" and value is not None}
    model = load(options["model"], **chosen)
    gc.freeze()  # what was imported is no garbage now either
    gc.enable()  # from here on it may take hours
    return model


def _refuse_without_effect(output: Output, layout: Layout, *, as_float: bool) -> None:
    """Raise `click.UsageError` where something was asked for that this kind of output cannot have."""
    impossible = {
        "--padding is for one PNG": layout.padding > 0 and not output.is_sheet,
        "--scale is for PNGs": layout.scale > 1 and not output.is_picture,
        "--float is for arrays, not for PNGs": as_float and output.is_picture,
    }
    for why, asked in impossible.items():
        if asked:
            raise click.UsageError(f"{why}: it would change nothing of output {output.name!r}")


def _require_fit(count: int | None, rows: int | None, columns: int | None) -> None:
    if count and rows and columns and count > rows * columns:
        raise click.UsageError(f"{count} images do not fit into {rows} rows of {columns}")
