"""Draw a set of gray 24x24 faces and write it to an .npz file.

Usage: python data/draw_faces.py -n 6000 --seed 0 -o data/faces24.npz [--preview sheet.png]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from face_drawing import IMAGE_SIZE, FaceSet, draw_faces

__all__ = ["FaceSet", "draw_faces", "main"]

PREVIEW_SIDE = 10
"""The preview shows the first 10 x 10 faces."""
PREVIEW_SCALE = 3


class Writer(Protocol):
    """Writes a set of faces to an open file."""

    def __call__(self, file: BinaryIO, faces: FaceSet) -> None:
        """Write the faces."""


def write_set(file: BinaryIO, faces: FaceSet) -> None:
    """Write the three arrays, compressed; no objects, so that no pickle is needed to read them."""
    np.savez_compressed(
        file,
        images=faces.images,
        # Column by column: equal numbers then stand together, which makes the file smaller.
        factors=np.asfortranarray(faces.factors),
        factor_names=np.array(faces.factor_names),
    )


def write_preview(file: BinaryIO, faces: FaceSet) -> None:
    """Write a PNG sheet of the first 100 faces, enlarged without smoothing."""
    from PIL import Image  # only this option needs Pillow

    shown = np.zeros((PREVIEW_SIDE**2, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    count = min(len(faces.images), len(shown))
    shown[:count] = faces.images[:count]
    side = PREVIEW_SIDE * IMAGE_SIZE
    grid = shown.reshape(PREVIEW_SIDE, PREVIEW_SIDE, IMAGE_SIZE, IMAGE_SIZE)
    sheet = Image.fromarray(grid.transpose(0, 2, 1, 3).reshape(side, side))
    enlarged = (side * PREVIEW_SCALE, side * PREVIEW_SCALE)
    sheet.resize(enlarged, Image.Resampling.NEAREST).save(file, format="PNG", optimize=True)


def write_whole(path: Path, faces: FaceSet, write: Writer) -> None:
    """Write to a temporary name beside path, then rename: path never holds half a file."""
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        with part.open("wb") as file:
            write(file, faces)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line and refuse what cannot work before anything is drawn."""
    parser = argparse.ArgumentParser(
        description="Draw gray 24x24 faces from random numbers and write them to an .npz file."
    )
    parser.add_argument("-n", type=int, default=6000, help="number of faces (default 6000)")
    parser.add_argument("--seed", type=int, default=0, help="seed, 0 or more (default 0)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the .npz file to write")
    parser.add_argument("--preview", type=Path, help="also write a PNG sheet of the first 100")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    options = parser.parse_args(arguments)
    if options.n < 1:
        parser.error(f"-n must be at least 1, got {options.n}")
    if options.seed < 0:
        parser.error(f"--seed must be 0 or more, got {options.seed}")
    for path in (options.output, options.preview):
        if path is None:
            continue
        if not path.absolute().parent.is_dir():
            parser.error(f"no such folder: {path.parent}")
        if path.is_dir():
            parser.error(f"{path} is a folder")
        if path.exists() and not options.overwrite:
            parser.error(f"{path} exists; give --overwrite to replace it")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parse_arguments(arguments)
    faces = draw_faces(options.n, options.seed)
    try:
        write_whole(options.output, faces, write_set)
        if options.preview is not None:
            write_whole(options.preview, faces, write_preview)
    except OSError as error:
        sys.stderr.write(f"draw_faces: cannot write: {error}\n")
        return 1
    sys.stdout.write(f"{options.output}: {options.n} faces, {options.output.stat().st_size} bytes\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
