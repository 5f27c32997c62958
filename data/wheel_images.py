"""Puts the images of the embedded set into the wheel, and not the factors, which no command reads.

hatchling runs this while it builds (`pyproject.toml` names it). In a checkout the whole set is read.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SET, _ARRAY = "data/faces24.npz", "images.npy"
_PLACE = "vae_training/data/faces24.npz"


class WheelImages(BuildHookInterface):  # type: ignore[misc]  # where nothing is built there is no hatchling
    """Adds one file to what hatchling packs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the smaller set, and have it packed. An editable install reads the checkout's."""
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        smaller = Path(self._folder.name, "faces24.npz")
        copy_images(Path(self.root, _SET), smaller)
        build_data["force_include"][str(smaller)] = _PLACE

    def finalize(self, version: str, *_: object) -> None:
        """Take away what was packed."""
        if version != "editable":
            self._folder.cleanup()


def copy_images(whole: Path, smaller: Path) -> None:
    """Write an .npz with the images alone, with nothing but the standard library: a build has no numpy."""
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(smaller, "w") as copy:
        member = archive.getinfo(_ARRAY)
        copy.writestr(member, archive.read(member), compress_type=zipfile.ZIP_DEFLATED, compresslevel=9)
