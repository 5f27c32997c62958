"""Puts the embedded set into the wheel: its images alone, in a form that packs to less than six tenths of the bytes.

hatchling runs this while it builds (`pyproject.toml` names it), with numpy and nothing of this project installed. No
command reads the factors, and a checkout has the whole set.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SET, _PLACE = "data/faces24.npz", "vae_training/data/faces24.npz"
_PACKING = Path(__file__).parents[1] / "training/vae_training/data/packed_images.py"


class WheelImages(BuildHookInterface):  # type: ignore[misc]  # where nothing is built there is no hatchling
    """Adds one file to what hatchling packs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the smaller set, and have it packed. An editable install reads the checkout's."""
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        smaller = Path(self._folder.name, "faces24.npz")
        write_packed(Path(self.root, _SET), smaller)
        build_data["force_include"][str(smaller)] = _PLACE

    def finalize(self, version: str, *_: object) -> None:
        """Take away what was packed."""
        if version != "editable":
            self._folder.cleanup()


def write_packed(whole: Path, smaller: Path) -> None:
    """Write an .npz of what `pack_images` makes of the set's images."""
    images = np.load(whole, allow_pickle=False)["images"]
    np.savez(smaller, **_packing().pack_images(images))


def _packing() -> Any:
    """Load the module by its path: the package around it may need what is not installed here."""
    found = importlib.util.spec_from_file_location("packed_images", _PACKING)
    if found is None or found.loader is None:
        raise ImportError(f"{_PACKING}: cannot be loaded")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
