"""Where pictures and arrays go, told by the output's name.

faces.png          one picture, a grid
faces.npy          the array
faces.npz          the array by name, compressed
faces/             a folder of PNGs (a slash behind the name, or no suffix), or of .npy files of so many each
scores.csv         a table for a spreadsheet
-                  the array as .npy on stdout
no name            a table on stdout, for people

Arrays are written as they come, batch by batch: they may be larger than memory. What is known beforehand not to fit
on the disk is not begun.
"""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import numpy as np
import numpy.lib.format as npy_format
import numpy.typing as npt

from vae_runtime.atomic import atomic_file, atomic_folder, refuse_existing
from vae_runtime.cli.png import enlarge, save_png
from vae_runtime.errors import EnvironmentProblem, InputError, printable
from vae_runtime.images import to_uint8
from vae_runtime.memory import readable_size, require_memory
from vae_runtime.tiling import grid

if TYPE_CHECKING:
    import zipfile

Array = npt.NDArray[Any]

_KINDS = (".png", ".npy", ".npz")
_TABLES = (".csv", ".npy", ".npz")
_STDOUT = "-"
_TERMINAL = ""
_FOLDER = "folder"
_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


@dataclass(frozen=True)
class Layout:
    """How pictures are laid out in a grid."""

    rows: int | None = None
    columns: int | None = None
    padding: int = 0
    scale: int = 1


@dataclass(frozen=True)
class ArraySpec:
    """Data type and shape of an array that is never whole in memory: it comes in batches."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size."""
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=object))

    def of(self, count: int) -> ArraySpec:
        """Return the same for so many of its rows."""
        return ArraySpec(self.dtype, (count, *self.shape[1:]))


class Output:
    """A place to write to. Made before the work begins, so that a place that is taken costs no work."""

    def __init__(
        self,
        name: str | None,
        *,
        overwrite: bool,
        quiet: bool = False,
        arrays_only: bool = False,
        tables: bool = False,
        shard_size: int | None = None,
    ) -> None:
        """Check the name.

        Args:
            name: what was typed; None where a table goes to stdout.
            overwrite: replace what is there.
            quiet: say nothing of what was written.
            arrays_only: refuse pictures.
            tables: take a .csv too, and no pictures.
            shard_size: a folder holds arrays of so many images, not pictures.

        Raises:
            click.UsageError: a suffix that means nothing here.
            OutputExistsError: it is there already.
            EnvironmentProblem: it is stdout, and that is closed.
        """
        self.name = name or ""
        self.path = Path(self.name)
        self.overwrite = overwrite
        self.quiet = quiet
        kinds = _TABLES if tables else tuple(kind for kind in _KINDS if not (arrays_only and kind == ".png"))
        self.kind = _TERMINAL if name is None else _kind(name, kinds)
        self.shard_size = shard_size
        if shard_size is not None and self.kind != _FOLDER:
            raise click.UsageError(
                f"--shard-size fills a folder with .npy files; expected an output without suffix, not {name!r}"
            )
        if self.kind == _STDOUT:
            if sys.__stdout__ is None:  # as the process was started; what stands in for it leads nowhere
                raise EnvironmentProblem(
                    "-o - writes to stdout, which is closed; send it to a file or a program"
                )
            if sys.stdout.isatty():
                raise click.UsageError("-o - writes binary data; send it to a file or a program")
        elif self.kind != _TERMINAL:
            refuse_existing(self.path, overwrite=overwrite)

    @property
    def is_picture(self) -> bool:
        """Whether it takes pictures rather than arrays."""
        return self.is_sheet or (self.kind == _FOLDER and self.shard_size is None)

    @property
    def is_sheet(self) -> bool:
        """Whether it takes one picture of all images."""
        return self.kind == ".png"

    @property
    def is_for_people(self) -> bool:
        """Whether it is a table on stdout."""
        return self.kind == _TERMINAL

    def write(self, batches: Iterable[Array], spec: ArraySpec, layout: Layout) -> None:
        """Write images: (N, H, W[, C]) uint8 pictures, or (N, C, H, W) float32 images where it takes arrays.

        Args:
            batches: consecutive rows of all.
            spec: what they are together.
            layout: of a PNG.
        """
        if self.kind == ".png":
            self.write_sheet(together(batches, spec), layout)
        elif self.shard_size is not None:
            self._write_shards(_Rows(batches), spec, self.shard_size)
        elif self.kind == _FOLDER:
            self._write_pngs(batches, spec.shape[0], layout)
        else:
            self.write_array(batches, spec, "images")

    def write_sheet(self, images: Array, layout: Layout) -> None:
        """Write one PNG with all images in a grid.

        Raises:
            InputError: there are none.
        """
        if len(images) == 0:
            raise InputError(f"{self.path}: a PNG of no images; expected at least one, or an output in .npy")
        sheet = grid(images, layout.rows, layout.columns, padding=layout.padding)
        require_memory(2 * sheet.size * layout.scale**2, f"a PNG {layout.scale} times as large")
        picture = enlarge(sheet, layout.scale)
        with atomic_file(self.path, overwrite=self.overwrite) as beside:
            save_png(beside, picture)

    def write_array(self, batches: Iterable[Array], spec: ArraySpec, name: str) -> None:
        """Write one array; `name` is what a .npz calls it."""
        if self.kind == _STDOUT:
            _write_npy(sys.stdout.buffer, batches, spec)
            sys.stdout.buffer.flush()
            return
        with self._file(spec.nbytes if self.kind == ".npy" else 0) as file:
            if self.kind == ".npy":
                _write_npy(file, batches, spec)
            else:
                with _archive(file) as archive:
                    _write_member(archive, name, batches, spec)

    def write_npz(self, arrays: Mapping[str, Array]) -> None:
        """Write several arrays by their names."""
        with self._file() as file, _archive(file) as archive:
            for name, array in arrays.items():
                _write_member(archive, name, [array], ArraySpec(array.dtype, array.shape))

    def write_table(self, heading: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a .csv in UTF-8; of a file's name what is no text is escaped."""
        with self._file() as file:
            table = csv.writer(_TextInto(file))
            table.writerow(heading)
            table.writerows(rows)

    def announce(self, what: str, *, ran_on: Sequence[str] = ()) -> None:
        """Say on stderr what was written where, and what ran it, unless nothing is to be said.

        Last of all, so that a command that fails says why and no more. Of an array that goes to stdout there is
        nothing to say but what ran it.
        """
        if self.quiet or (self.kind == _STDOUT and not ran_on):
            return
        place = "" if self.kind in (_STDOUT, _TERMINAL) else f" -> {printable(self.name)}"
        provider = f" (on {', '.join(ran_on)})" if ran_on else ""
        click.echo(f"{what}{place}{provider}", err=True)

    @contextlib.contextmanager
    def _file(self, size: int = 0) -> Iterator[IO[bytes]]:
        _require_disk(self.path, size)
        with atomic_file(self.path, overwrite=self.overwrite) as beside, beside.open("wb") as file:
            yield file

    def _write_pngs(self, batches: Iterable[Array], count: int, layout: Layout) -> None:
        digits = max(4, len(str(count - 1)))
        with self._folder() as beside:
            index = 0
            for images in batches:
                for picture in images if images.dtype == np.uint8 else to_uint8(images):
                    save_png(beside / f"{index:0{digits}d}.png", enlarge(picture, layout.scale))
                    index += 1

    def _write_shards(self, rows: _Rows, spec: ArraySpec, size: int) -> None:
        starts = range(0, spec.shape[0], size)
        digits = max(5, len(str(len(starts) - 1)))
        _require_disk(self.path, spec.nbytes)
        with self._folder() as beside:
            for index, start in enumerate(starts):
                count = min(size, spec.shape[0] - start)
                with (beside / f"{index:0{digits}d}.npy").open("wb") as file:
                    _write_npy(file, rows.take(count), spec.of(count))

    def _folder(self) -> contextlib.AbstractContextManager[Path]:
        return atomic_folder(self.path, overwrite=self.overwrite, ours=_holds_numbered_files)


class _TextInto:
    """Takes text, and keeps none: what a TextIOWrapper keeps it would write again where writing has failed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode("utf-8", "backslashreplace"))


class _Rows:
    """Batches of rows, to be taken in other numbers than they come in."""

    def __init__(self, batches: Iterable[Array]) -> None:
        self._batches = iter(batches)
        self._left: Array | None = None

    def take(self, count: int) -> Iterator[Array]:
        """Give the next so many rows."""
        while count > 0:
            rows = next(self._batches) if self._left is None else self._left
            taken, left = rows[:count], rows[count:]
            self._left = left if len(left) else None
            count -= len(taken)
            yield taken


def together(batches: Iterable[Array], spec: ArraySpec) -> Array:
    """Return batches as one array."""
    require_memory(spec.nbytes, f"{spec.shape[0]} images")
    whole = np.empty(spec.shape, spec.dtype)
    start = 0
    for batch in batches:
        whole[start : start + len(batch)] = batch
        start += len(batch)
    return whole


def _write_npy(file: IO[bytes], batches: Iterable[Array], spec: ArraySpec) -> None:
    """Write what numpy.save would, to a file that can only be written to.

    Into a real one numpy writes by C's own means, which do not say why they failed, and ask a pipe for its position.
    """
    descr = npy_format.dtype_to_descr(spec.dtype)
    npy_format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": spec.shape})
    for batch in batches:
        if batch.size:
            file.write(np.ascontiguousarray(batch).reshape(-1).view(np.uint8).data)


def _archive(file: IO[bytes]) -> zipfile.ZipFile:
    import zipfile  # brings three kinds of compression with it

    return zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)


def _write_member(archive: zipfile.ZipFile, name: str, batches: Iterable[Array], spec: ArraySpec) -> None:
    """Write what numpy.savez_compressed would."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        _write_npy(member, batches, spec)


def _require_disk(target: Path, size: int) -> None:
    """Raise where a disk has less left than is going to be written, before the time is spent and the disk filled."""
    try:
        folder = next(parent for parent in target.absolute().parents if parent.exists())
        left = shutil.disk_usage(folder).free
    except OSError:  # some network drives do not say; whatever else it means, writing will tell
        return
    if size > left:
        raise EnvironmentProblem(
            f"cannot write {target}: it would take {readable_size(size)}, and the disk has {readable_size(left)} "
            "left; nothing was changed there"
        )


def _holds_numbered_files(folder: Path) -> bool:
    return all(path.suffix in (".png", ".npy") and path.stem.isdigit() for path in folder.iterdir())


def _kind(name: str, kinds: Sequence[str]) -> str:
    if name == _STDOUT:
        return _STDOUT
    if Path(name).name in ("", ".."):  # "", ".", "/": nothing can be put in their place
        raise click.UsageError(
            f"output {name!r}: expected a name of its own, such as samples.png or samples/"
        )
    suffix = "" if name.endswith(_SEPARATORS) else Path(name).suffix.lower()  # `2.0/` is a folder
    takes_pictures = ".png" in kinds
    if suffix in kinds:
        return suffix
    if not suffix and takes_pictures:
        return _FOLDER
    folder = ", a name without suffix or with a slash behind it (a folder of PNGs)" if takes_pictures else ""
    raise click.UsageError(f"output {name!r}: expected a name in {', '.join(kinds)}{folder} or - for stdout")
