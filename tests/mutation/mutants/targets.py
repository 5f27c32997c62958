"""Which files are changed, and which tests must notice: for each the few that cover it, in seconds."""

from __future__ import annotations

from typing import NamedTuple

Stage = tuple[str, ...]


class Target(NamedTuple):
    """One file and its tests."""

    path: str
    """From the root of the tree."""
    stages: tuple[Stage, ...]
    """What pytest is given, one run after another: a later one is begun only where the earlier ones pass."""


_WIRE = "tests/runtime/test_wire.py"
_REFUSALS = "tests/runtime/test_scan_refusals.py"
_SCAN = "tests/runtime/test_scan.py"
# Eight seconds for what other tests beside it say, too.
_FLIPPED = (
    "tests/runtime/test_bundle.py::test_a_thousand_flipped_bits_of_the_shipped_model_are_a_thousand_refusals"
)
_BUNDLE = (
    "tests/runtime/test_bundle.py",
    "tests/runtime/test_finding.py",
    f"--deselect={_FLIPPED}",
)
_MEMBERS = "tests/runtime/members"
# Imports PyTorch and training, so it comes last.
_AGAINST_ONNX = ("tests/export/test_scan_against_onnx.py",)


def _target(name: str, *stages: Stage) -> Target:
    return Target(f"runtime/vae_runtime/{name}", stages)


# What the tests import and is not ours.
LIBRARIES = (
    "hypothesis.strategies", "numpy", "PIL.Image", "click", "onnxruntime",
    "onnx", "onnxscript", "google.protobuf.unknown_fields", "torch", "torch.onnx", "torch._dynamo", "safetensors",
    "rich", "tomllib",
)  # fmt: skip

# The most important first.
TARGETS = {
    "wire.py": _target("wire.py", (_WIRE,), (_REFUSALS, _SCAN), _AGAINST_ONNX),
    "scan.py": _target("scan.py", (_REFUSALS,), (_SCAN,), _AGAINST_ONNX),
    "members.py": _target("members.py", (_MEMBERS,), _BUNDLE),
    "bundle.py": _target("bundle.py", _BUNDLE),
    "sums.py": _target("sums.py", _BUNDLE, ("tests/export/test_bundle.py",)),
    "card.py": _target("card.py", ("tests/runtime/test_card.py",), _BUNDLE),
    "strict_json.py": _target("strict_json.py", ("tests/runtime/test_strict_json.py",)),
    "onnx_schema.py": _target("onnx_schema.py", (_WIRE, _REFUSALS), (_SCAN,), _AGAINST_ONNX),
}
