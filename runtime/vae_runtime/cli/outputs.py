"""Where pictures and arrays go, told by the output's name.

faces.png          one picture, a grid
faces.npy          the array
faces.npz          the array by name, compressed
faces/             a folder of PNGs (also any name without a suffix)
-                  the array as .npy on stdout
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np
import numpy.typing as npt

from vae_runtime.atomic import atomic_file, atomic_folder, refuse_existing
from vae_runtime.cli.pictures import enlarge, save_png
from vae_runtime.errors import printable
from vae_runtime.images import to_uint8
from vae_runtime.memory import require_memory
from vae_runtime.tiling import grid

_KINDS = (".png", ".npy", ".npz")
_STDOUT = "-"


@dataclass(frozen=True)
class Layout:
    """How pictures are laid out in a grid."""

    rows: int | None = None
    columns: int | None = None
    padding: int = 0
    scale: int = 1


class Output:
    """A place to write to. Made before the work begins, so that a place that is taken costs no work."""

    def __init__(self, name: str, *, overwrite: bool, quiet: bool = False, arrays_only: bool = False) -> None:
        """Check the name.

        Raises:
            click.UsageError: a suffix that means nothing here.
            OutputExistsError: it is there already.
        """
        self.name = name
        self.path = Path(name)
        self.overwrite = overwrite
        self.quiet = quiet
        self.kind = _kind(name, arrays_only=arrays_only)
        if self.kind == _STDOUT:
            if sys.stdout.isatty():
                raise click.UsageError("-o - writes binary data; send it to a file or a program")
        else:
            refuse_existing(self.path, overwrite=overwrite)

    @property
    def is_picture(self) -> bool:
        """Whether it takes pictures rather than arrays."""
        return self.kind in (".png", "folder")

    def write_images(self, images: npt.NDArray[Any], layout: Layout) -> None:
        """Write (N, H, W[, C]) uint8 pictures or (N, C, H, W) float32 images."""
        if self.kind == ".png":
            sheet = grid(images, layout.rows, layout.columns, padding=layout.padding)
            require_memory(2 * sheet.size * layout.scale**2, f"a PNG {layout.scale} times as large")
            picture = enlarge(sheet, layout.scale)
            with atomic_file(self.path, overwrite=self.overwrite) as beside:
                save_png(beside, picture)
        elif self.kind == "folder":
            self._write_folder(images if images.dtype == np.uint8 else to_uint8(images), layout)
        else:
            self.write_arrays({"images": images})

    def write_arrays(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write arrays by name; .npy and stdout take the first of them."""
        first = next(iter(arrays.values()))
        if self.kind == _STDOUT:
            np.save(_Piecewise(sys.stdout.buffer), first, allow_pickle=False)
            sys.stdout.buffer.flush()
            return
        with atomic_file(self.path, overwrite=self.overwrite) as beside, beside.open("wb") as file:
            if self.kind == ".npz":
                np.savez_compressed(file, **dict[str, Any](arrays))
            else:
                np.save(_Piecewise(file), first, allow_pickle=False)

    def announce(self, what: str, *, ran_on: Sequence[str] = ()) -> None:
        """Say on stderr what was written where, and what ran it, unless nothing is to be said.

        Last of all, so that a command that fails says why and no more. Of an array that goes to stdout there is
        nothing to say but what ran it.
        """
        if self.quiet or (self.kind == _STDOUT and not ran_on):
            return
        place = "" if self.kind == _STDOUT else f" -> {printable(self.name)}"
        provider = f" (on {', '.join(ran_on)})" if ran_on else ""
        click.echo(f"{what}{place}{provider}", err=True)

    def _write_folder(self, pictures: npt.NDArray[np.uint8], layout: Layout) -> None:
        digits = max(4, len(str(len(pictures) - 1)))
        with atomic_folder(self.path, overwrite=self.overwrite, ours=_holds_numbered_pngs) as beside:
            for index, picture in enumerate(pictures):
                save_png(beside / f"{index:0{digits}d}.png", enlarge(picture, layout.scale))


class _Piecewise:
    """A file that can only be written to.

    Into a real one numpy writes by C's own means, which do not say why they failed, and ask a pipe for its position.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write


def _holds_numbered_pngs(folder: Path) -> bool:
    return all(path.suffix == ".png" and path.stem.isdigit() for path in folder.iterdir())


def _kind(name: str, *, arrays_only: bool) -> str:
    if name == _STDOUT:
        return _STDOUT
    if Path(name).name in ("", ".."):  # "", ".", "/": nothing can be put in their place
        raise click.UsageError(
            f"output {name!r}: expected a name of its own, such as samples.png or samples/"
        )
    suffix = Path(name).suffix.lower()
    kinds = tuple(kind for kind in _KINDS if not (arrays_only and kind == ".png"))
    if suffix in kinds:
        return suffix
    if not suffix and not arrays_only:
        return "folder"
    folder = "" if arrays_only else ", a name without suffix (a folder of PNGs)"
    raise click.UsageError(f"output {name!r}: expected a name in {', '.join(kinds)}{folder} or - for stdout")
