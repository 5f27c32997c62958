"""Images from a .npy or .npz file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vae_runtime.arrays import npz_shapes, read_npy, read_npz
from vae_training.data.image_set import ImageSet, short_name
from vae_training.data.layout import to_pictures
from vae_training.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

ARRAY_SUFFIXES = (".npy", ".npz")

Array = npt.NDArray[Any]
Shapes = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


def load_npy(path: Path) -> ImageSet:
    """Load the images of a .npy file. They are read, not mapped: one that is cut short meanwhile is an error then.

    Raises:
        DataError, InputError: the file or its array is not what `to_pictures` and `read_npy` accept.
    """
    pictures = to_pictures(str(path), read_npy(path))
    name = short_name(path)
    return ImageSet(pictures, groups=None, name=name, source=f"the file {name}.npy")


def load_npz(path: Path, *, array: str | None, groups: str | None) -> ImageSet:
    """Load the images of a .npz archive.

    Args:
        path: the archive.
        array: which array; by default the only one that looks like images.
        groups: the (N,) integer array that tells which images belong together, if any.

    Raises:
        DataError, InputError: no such array, several that could be meant, or not images.
    """
    shapes = npz_shapes(path)
    key = array or _only_images(path, shapes)
    pictures = to_pictures(f"{path}: array {key!r}", read_npz(path, key)[key])
    numbers = None if groups is None else _read_groups(path, groups, shapes, len(pictures))
    name = short_name(path)
    return ImageSet(pictures, numbers, name, source=f"the file {name}.npz, array {key!r}")


def _only_images(path: Path, shapes: Shapes) -> str:
    likely = [key for key, (shape, dtype) in shapes.items() if _looks_like_images(shape, dtype)]
    if len(likely) == 1:
        return likely[0]
    listed = ", ".join(f"{key} {shapes[key][0]} {shapes[key][1]}" for key in likely or shapes) or "nothing"
    found = "several arrays that look like images" if likely else "no array that looks like images"
    raise DataError(f"{path}: {found}; name one with --array (it holds {listed})")


def _looks_like_images(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return len(shape) in (3, 4) and (dtype == np.uint8 or dtype.kind == "f")


def _read_groups(path: Path, key: str, shapes: Shapes, count: int) -> npt.NDArray[np.int64]:
    # What is not there is left for `read_npz` to say.
    shape, dtype = shapes.get(key, ((count,), np.dtype(np.int64)))
    if shape != (count,) or dtype.kind not in "iu":
        raise DataError(
            f"{path}: groups {key!r} {shape} {dtype}; expected one whole number for each image: "
            f"({count},) of an integer type; of names, numpy.unique(names, return_inverse=True)[1]"
        )
    return read_npz(path, key)[key].astype(np.int64)
