"""Picture files as arrays, through Pillow: the one place that says how the one becomes the other.

The rules: EXIF rotation is applied; transparency is laid on white; 16-bit gray is scaled to 8 bits;
of an animation the first frame is taken, and the log says so; the picture is cropped about its centre to
the model's aspect ratio and resized to its size. Links to files are followed, links to folders are not. In folders
what is hidden is left out: names that begin with a dot, such as the `._photo.png` that macOS leaves beside photo.png.
"""

from __future__ import annotations

import errno
import io
import itertools
import logging
import math
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vae_runtime.cli import libtiff
from vae_runtime.errors import (
    EnvironmentProblem,
    InputError,
    ResourceLimitError,
    VaeError,
    one_line,
    printable,
)
from vae_runtime.memory import require_memory

_log = logging.getLogger(__name__)

Pixels = npt.NDArray[np.uint8]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")

# Only these decoders may see a file, whatever its name: some others start programs (EPS).
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

# As Pillow warns of a decompression bomb from here on; of a warning one would only read, after the fact.
_MOST_PIXELS = 89_478_485
_MOST_BYTES = 8 * _MOST_PIXELS  # that many pixels of four channels with 16 bits each, not packed

# Opening must not wait for somebody who writes into a pipe, nor take a terminal for its own.
_OPEN_FLAGS = sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY"))

# Said of this process or machine, not of the file.
_NO_FAULT_OF_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def find_pictures(folder: Path) -> list[Path]:
    """List the picture files below a folder, searched recursively, in the order of their names' bytes.

    Hidden files and folders below it, whose names begin with a dot, are left out.

    Raises:
        InputError: there is none, or a folder below it cannot be searched.
    """
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_refuse_unsearchable):
        folders[:] = filter(_is_shown, folders)
        found += [
            Path(parent, name) for name in filter(_is_shown, names) if name.lower().endswith(PICTURE_SUFFIXES)
        ]
    if not found:
        raise InputError(
            f"{folder} holds no pictures (looked for {', '.join(PICTURE_SUFFIXES)}, recursively, hidden ones left out)"
        )
    return sorted(found, key=lambda path: os.fsencode(path))


def _is_shown(name: str) -> bool:
    return not name.startswith(".")


def load_picture(path: Path, height: int, width: int, channels: int) -> Pixels:
    """Read one picture file, cropped about its centre and resized.

    Returns:
        (height, width) uint8 where `channels` is 1, else (height, width, 3) uint8.

    Raises:
        InputError: not a picture, cut short, too large, or of a kind that has no faithful 8-bit form.
        EnvironmentProblem: the machine does not let files be opened or read.
        ResourceLimitError: it does not fit into memory.
    """
    try:
        data = _read(path)
        with libtiff.errors_raised(), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _refuse_bombs(path, image)
            _refuse_other_depths(path, image)
            _refuse_lost_palettes(path, image)
            _mention_other_frames(path, image)
            opened = ImageOps.exif_transpose(image)
            pixels = _to_eight_bits(path, opened, "L" if channels == 1 else "RGB", file_format=image.format)
            fitted = ImageOps.fit(pixels, (width, height), method=Image.Resampling.LANCZOS)
    except VaeError:
        raise
    except MemoryError as error:
        raise ResourceLimitError(f"{path}: the picture does not fit into memory") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: not a picture that can be read (expected one of {', '.join(_FORMATS)})"
        ) from error
    except Exception as error:
        # Pillow has no exception of its own for a broken file: its decoders raise almost any.
        raise InputError(f"{path}: not a picture that can be read ({one_line(error)})") from error
    return np.asarray(fitted, dtype=np.uint8)


def list_pictures(paths: Iterable[Path]) -> list[Path]:
    """Return picture files, with every folder replaced by the pictures below it."""
    files: list[Path] = []
    for path in paths:
        is_folder = os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where the name is too long
        files.extend(find_pictures(path) if is_folder else [path])
    return files


def load_pictures(
    files: Sequence[Path], height: int, width: int, channels: int, *, skip_bad: bool = False
) -> tuple[Sequence[Path], Pixels]:
    """Read picture files, in order, as one array.

    Args:
        files: their paths.
        height: of all of them, as `load_picture` brings them to it.
        width: the same.
        channels: 1 or 3.
        skip_bad: log a file that is no picture, and leave it out, instead of failing.

    Returns:
        The files that were read, and their pictures, (N, height, width) or (N, height, width, 3) uint8.

    Raises:
        InputError: as `load_picture`; or no file can be read.
        EnvironmentProblem, ResourceLimitError: as `load_picture`.
    """
    shape = (len(files), height, width, *([] if channels == 1 else [channels]))
    require_memory(math.prod(shape), f"{len(files)} pictures of {height}x{width}")
    pictures = np.empty(shape, np.uint8)
    failures: list[InputError | None] = []
    for picture, path in zip(pictures, files, strict=True):
        try:
            picture[...] = load_picture(path, height, width, channels)
            failures.append(None)
        except InputError as error:
            if not skip_bad:
                raise
            failures.append(error)
    good = leave_out(failures)
    return (files, pictures) if all(good) else (list(itertools.compress(files, good)), pictures[good])


def leave_out(failures: Sequence[InputError | None], folder: str = "") -> npt.NDArray[np.bool_]:
    """Tell which of some pictures could be read, and log what was wrong with the others, and how many they are.

    Args:
        failures: of each picture, None where there was none.
        folder: where they all are, for messages.

    Returns:
        (N,) bool, True for those that could be read.

    Raises:
        InputError: there is none among them.
    """
    where = f"{folder}: " if folder else ""
    bad = [failure for failure in failures if failure is not None]
    for failure in bad:
        _log.warning("left out: %s", one_line(failure))
    if failures and len(bad) == len(failures):
        raise InputError(f"{where}none of {len(bad)} pictures can be read")
    if bad:
        _log.warning("%sleft out %d of %d pictures", where, len(bad), len(failures))
    return np.array([failure is None for failure in failures], dtype=bool)


def _read(path: Path) -> bytes:
    """Return the bytes of a picture file.

    Pillow gets these and no file: some it would map into memory, and if such a one were cut short meanwhile,
    the system would end the process.

    Raises:
        InputError: missing, not a regular file, larger than any picture, or cut short while it was read.
        EnvironmentProblem: the machine does not let files be opened or read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a device may already do something
            raise _no_file(path)
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _OPEN_FLAGS)) as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise _no_file(path)
            if found.st_size > _MOST_BYTES:
                raise InputError(
                    f"{path}: {found.st_size} bytes; expected a picture of at most {_MOST_BYTES}"
                )
            data = file.read(found.st_size)
    except FileNotFoundError as error:
        raise InputError(f"{path}: expected a picture file; there is none") from error
    except OSError as error:
        kind = EnvironmentProblem if error.errno in _NO_FAULT_OF_THE_FILE else InputError
        raise kind(f"{path}: expected a picture file; it cannot be read ({error.strerror})") from error
    if len(data) != found.st_size:
        raise InputError(f"{path}: was cut short while it was read: {len(data)} of {found.st_size} bytes")
    return data


def _no_file(path: Path) -> InputError:
    return InputError(f"{path}: expected a picture file; not a file")


def _refuse_bombs(path: Path, image: Image.Image) -> None:
    if image.width * image.height > _MOST_PIXELS:
        raise InputError(
            f"{path}: {image.width}x{image.height} pixels; expected at most {_MOST_PIXELS} in all"
        )


def _refuse_other_depths(path: Path, image: Image.Image) -> None:
    """Raise where a TIFF's numbers do not mean what those of 16 bits mean, and Pillow gives them as if they did."""
    if not image.mode.startswith("I;16"):
        return
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(ExifTags.Base.BitsPerSample, (16,))[0]
    inverted = tags.get(ExifTags.Base.PhotometricInterpretation, 1) == 0
    if bits != 16 or inverted:
        found = f"gray of {bits} bits{' in which 0 is white' if inverted else ''}"
        raise InputError(f"{path}: {found}; expected 8 bits, or 16 in which 0 is black")


def _refuse_lost_palettes(path: Path, image: Image.Image) -> None:
    if image.mode == "P" and image.palette is None:  # of a damaged PNG; Pillow takes all of it for black
        raise InputError(f"{path}: not a picture that can be read (its pixels number colours of no palette)")


def _mention_other_frames(path: Path, image: Image.Image) -> None:
    if getattr(image, "is_animated", False):
        _log.warning("%s: holds several frames or pages; the first is taken", printable(str(path)))


def _refuse_unsearchable(error: OSError) -> NoReturn:
    # By default os.walk leaves out what it may not see, and the data set would silently be smaller.
    raise InputError(f"{error.filename}: cannot be searched for pictures ({error.strerror})") from error


def _to_eight_bits(path: Path, image: Image.Image, mode: str, *, file_format: str | None) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format == "PPM"):
        # Pillow's own conversion would clip every value above 255 to white. A PGM of 16 bits comes as "I".
        values = np.asarray(image)
        gray = (values // 257).astype(np.uint8)
        if "transparency" in image.info:
            gray[values == image.info["transparency"]] = 255
        return Image.fromarray(gray).convert(mode)
    if image.mode in ("I", "F"):
        raise InputError(f"{path}: {image.mode}-mode pixels (32 bits each); expected 8 or 16 bits a channel")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert(mode)
    return image.convert(mode)
