"""Images from a .npy or .npz file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vae_runtime.arrays import read_npy, read_npz
from vae_training.data.image_set import ImageSet, short_name
from vae_training.data.layout import to_pictures
from vae_training.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

ARRAY_SUFFIXES = (".npy", ".npz")

Array = npt.NDArray[Any]


def load_npy(path: Path) -> ImageSet:
    """Load the images of a .npy file; uint8 ones in their final layout stay on disk, memory-mapped.

    Raises:
        DataError, InputError: the file or its array is not what `to_pictures` and `read_npy` accept.
    """
    pictures = to_pictures(str(path), read_npy(path, memory_map=True))
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
    members = read_npz(path, array)
    key = array or _only_images(path, members)
    pictures = to_pictures(f"{path}: array {key!r}", _require_array(path, key, members[key]))
    numbers = None
    if groups is not None:
        member = members[groups] if groups in members else read_npz(path, groups)[groups]
        numbers = _to_groups(path, groups, member, len(pictures))
    name = short_name(path)
    return ImageSet(pictures, numbers, name, source=f"the file {name}.npz, array {key!r}")


def _only_images(path: Path, members: dict[str, Array]) -> str:
    likely = [key for key, member in members.items() if _looks_like_images(member)]
    if len(likely) == 1:
        return likely[0]
    listed = ", ".join(f"{key} {_describe(members[key])}" for key in likely or members) or "nothing"
    found = "several arrays that look like images" if likely else "no array that looks like images"
    raise DataError(f"{path}: {found}; name one with --array (it holds {listed})")


def _looks_like_images(member: Array) -> bool:
    # A member that is no array at all comes as bytes.
    return (
        isinstance(member, np.ndarray)
        and member.ndim in (3, 4)
        and (member.dtype == np.uint8 or member.dtype.kind == "f")
    )


def _describe(member: Array) -> str:
    return f"{member.shape} {member.dtype}" if isinstance(member, np.ndarray) else "(not an array)"


def _require_array(path: Path, key: str, member: Array) -> Array:
    if not isinstance(member, np.ndarray):
        raise DataError(f"{path}: {key!r} is not an array")
    return member


def _to_groups(path: Path, key: str, member: Array, count: int) -> npt.NDArray[np.int64]:
    numbers = _require_array(path, key, member)
    if numbers.shape != (count,) or numbers.dtype.kind not in "iu":
        raise DataError(
            f"{path}: groups {key!r} {_describe(numbers)}; expected one whole number for each image: "
            f"({count},) of an integer type"
        )
    return numbers.astype(np.int64)
