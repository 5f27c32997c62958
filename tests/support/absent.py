"""Code to begin a process with, in which some of what is installed is not."""

from __future__ import annotations

_WALL = """
import importlib.abc, sys
class Wall(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Wall())
"""

UNREGISTERED_ONNXRUNTIME = """
import importlib.metadata
found = importlib.metadata.version
def version(name):
    if name.startswith("onnxruntime"):
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.version = version
"""
"""No wheel of onnxruntime is known to be installed, whether or not it can be imported."""


def wall(*blocked: str) -> str:
    """Importing these packages fails as if they were not installed."""
    return _WALL.format(blocked=blocked)


# Its metadata must be gone too, or it counts as installed and broken.
NO_ONNXRUNTIME = wall("onnxruntime") + UNREGISTERED_ONNXRUNTIME
