"""Which installed wheels hold the module onnxruntime: there should be one."""

from __future__ import annotations

import os
import re
import sys

# Wheels that install the same module `onnxruntime`; the last one installed overwrites the others' files.
_WHEELS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-training",
    "ort-nightly",
    "ort-nightly-gpu",
)

_UNKNOWN = "of unknown version"

_RECORD = re.compile(r"([^-]+)-[^-]+\.(dist-info|egg-info|egg)")


def is_surely_alone() -> bool:
    """Whether the names of the folders on the path plainly show a single wheel; faster than `installed_wheels`."""
    found: list[str] = []
    for folder in dict.fromkeys(sys.path):
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - a third of the time, at every start
        except OSError:  # an archive, or nothing at all
            continue
        records = filter(None, map(_RECORD.fullmatch, names))
        found += [record[2] for record in records if record[1].lower().replace("_", "-") in _WHEELS]
    return found == ["dist-info"]


def installed_wheels() -> dict[str, str]:
    """Return name and version of every installed distribution that holds the module onnxruntime."""
    from importlib import metadata  # takes as long as opening a model

    versions: dict[str, str] = {}
    for name in _WHEELS:
        try:
            versions[name] = metadata.version(name) or _UNKNOWN
        except metadata.PackageNotFoundError:
            continue
        except (
            KeyError,
            DeprecationWarning,
        ):  # damaged metadata names no version; newer Pythons raise one of these
            versions[name] = _UNKNOWN
    return versions
