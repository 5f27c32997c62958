"""Which release of onnxruntime a graph needs, where the installed one says that the graph is newer."""

from __future__ import annotations

import re

# A release of onnxruntime with the newest opset and the newest IR version that it reads, as found by opening graphs of
# one node; releases in between read what the one before them reads.
_RELEASES = (
    ("1.20", 21, 10),
    ("1.21", 22, 10),
    ("1.23", 23, 11),
    ("1.24", 25, 13),
    ("1.25", 26, 13),
    ("1.32", 28, 14),
)  # fmt: skip

_NEWEST_OPSET = re.compile(r"support for domain ai\.onnx is till opset (\d+)")
_NEWEST_IR = re.compile(r"max supported IR version: (\d+)")


def what_it_needs(reason: str, opset: int, ir_version: int, installed: str, wheel: str) -> str | None:
    """Return what to do about a graph that is newer than onnxruntime; None where it is not refused for that.

    Args:
        reason: why onnxruntime did not open it; it names the newest version that it reads.
        opset: the graph's.
        ir_version: the graph's.
        installed: onnxruntime's version.
        wheel: the distribution that it was installed from.
    """
    for kind, version, newest in (("opset", opset, _NEWEST_OPSET), ("IR version", ir_version, _NEWEST_IR)):
        reads = newest.search(reason)
        if reads is not None:
            return (
                f"needs onnxruntime {_first_release(opset, ir_version, installed)}, have {installed}: it is of "
                f"{kind} {version}, and that one reads up to {reads[1]}. Mend it with: "
                f"pip install --upgrade {wheel}; or export it with an older --opset"
            )
    return None


def _first_release(opset: int, ir_version: int, installed: str) -> str:
    for release, newest_opset, newest_ir in _RELEASES:
        if opset <= newest_opset and ir_version <= newest_ir:
            return f">= {release}"
    return f"> {installed}"
