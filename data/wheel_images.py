"""Puts the embedded set into the wheel: its images alone, in a form that packs to five sixths of the bytes.

hatchling runs this while it builds (`pyproject.toml` names it), with nothing but the standard library. No command reads
the factors, and a checkout has the whole set. What is made here `vae_training.data.differences` undoes.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SET, _PLACE = "data/faces24.npz", "vae_training/data/faces24.npz"
_WIDTH = 24


class WheelImages(BuildHookInterface):  # type: ignore[misc]  # where nothing is built there is no hatchling
    """Adds one file to what hatchling packs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the smaller set, and have it packed. An editable install reads the checkout's."""
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        smaller = Path(self._folder.name, "faces24.npz")
        write_differences(Path(self.root, _SET), smaller)
        build_data["force_include"][str(smaller)] = _PLACE

    def finalize(self, version: str, *_: object) -> None:
        """Take away what was packed."""
        if version != "editable":
            self._folder.cleanup()


def write_differences(whole: Path, smaller: Path) -> None:
    """Write an .npz of one array, `differences`: each pixel less the one before it, these less those a row above."""
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(smaller, "w") as packed:
        array = archive.read("images.npy")
        start = 10 + int.from_bytes(array[8:10], "little")  # of the numbers of a .npy of version 1
        header, pixels = array[:start], array[start:]
        member = zipfile.ZipInfo("differences.npy")  # of a fixed date: the same set gives the same bytes
        differences = less_earlier(less_earlier(pixels, 1), _WIDTH)
        packed.writestr(member, header + differences, zipfile.ZIP_DEFLATED, compresslevel=9)


def less_earlier(numbers: bytes, distance: int) -> bytes:
    """Return each number less the one so far before it, modulo 256; before the first there are zeros."""
    earlier = bytes(distance) + numbers
    return bytes((number - before) & 255 for number, before in zip(numbers, earlier, strict=False))
