"""The one form in which training sees a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pathlib import Path

Pictures = npt.NDArray[np.uint8]
Size = tuple[int, int]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images to train on, and where they come from.

    Attributes:
        images: (N, H, W, C) uint8, C 1 (gray) or 3 (RGB), C-contiguous.
        groups: (N,) int64, or None. Images with the same number belong together (one person, say) and are
            never split between training and validation.
        name: short, for cards and messages: "faces", "lfw", the name of the file or folder.
        source: one line for a model card: where the images come from, and their licence where known.
    """

    images: Pictures
    groups: npt.NDArray[np.int64] | None
    name: str
    source: str

    def fingerprint(self) -> str:
        """Return a hash of the images and their groups: the same for the same data set, and for no other."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(self.images.data)
        if self.groups is not None:
            digest.update(self.groups.tobytes())
        return digest.hexdigest()


def short_name(path: Path) -> str:
    """Give a file's name without its suffix, or a folder's name, as text that any card can hold."""
    if path.name in ("", ".."):
        path = path.resolve()
    name = path.name if path.is_dir() else path.stem
    return as_utf8(name) or "images"


def as_utf8(name: str) -> str:
    """Return a name as text that can be written: Python holds what is not UTF-8 in one as lone surrogates."""
    return name.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")
