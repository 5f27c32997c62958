"""A graph that is newer than onnxruntime: refused with the release that it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx_bytes import graph, message, node, read_card, tensor_type

from vae_runtime import BundleError
from vae_runtime.installation import import_onnxruntime
from vae_runtime.releases import _RELEASES, what_it_needs
from vae_runtime.session import Graph


def identity(card_source: Path, opset: int, ir_version: int) -> bytes:
    """A decoder of a version, whose output is not what it should be: that is found later."""
    data = graph(
        inputs=[tensor_type("latent", ["batch", 3])],
        outputs=[tensor_type("image", ["batch", 3])],
        nodes=[node("Relu", ["latent"], ["image"])],
        card=read_card((card_source / "decoder.onnx").read_bytes()),
        opset=opset,
    )
    assert data.startswith(message((1, 8)))
    return message((1, ir_version)) + data[len(message((1, 8))) :]


def installed() -> tuple[int, ...]:
    return tuple(int(part) for part in import_onnxruntime().__version__.split(".")[:2])


def row_of_installed() -> tuple[int, int]:
    """What the table says of the installed onnxruntime."""
    rows = [row[1:] for row in _RELEASES if tuple(map(int, row[0].split("."))) <= installed()]
    return rows[-1]


def test_the_table_says_of_the_installed_onnxruntime_what_it_says_itself(gray_bundle: Path) -> None:
    if installed() > tuple(map(int, _RELEASES[-1][0].split("."))):
        pytest.skip("this onnxruntime is newer than the table")
    opset, ir_version = row_of_installed()
    with pytest.raises(BundleError, match="its outputs are"):  # so it was opened
        Graph("decoder", identity(gray_bundle, opset, ir_version), source="b", provider="cpu")
    with pytest.raises(BundleError, match=f"opset {opset + 1}, and that one reads up to {opset}\\."):
        Graph("decoder", identity(gray_bundle, opset + 1, ir_version), source="b", provider="cpu")
    with pytest.raises(BundleError, match=f"IR version {ir_version + 1}, .* reads up to {ir_version}\\."):
        Graph("decoder", identity(gray_bundle, opset, ir_version + 1), source="b", provider="cpu")


@pytest.mark.parametrize("provider", ["cpu", "auto"])
@pytest.mark.parametrize(("opset", "ir_version", "kind"), [(900, 8, "opset 900"), (17, 90, "IR version 90")])
def test_a_graph_of_the_future_needs_a_newer_onnxruntime(
    gray_bundle: Path, opset: int, ir_version: int, kind: str, provider: str
) -> None:
    have = import_onnxruntime().__version__
    with pytest.raises(
        BundleError,
        match=rf"^b/decoder\.onnx: needs onnxruntime > {have}, have {have}: it is of {kind}, .*"
        r"pip install --upgrade onnxruntime.*; or export it with an older --opset$",
    ) as refused:
        Graph("decoder", identity(gray_bundle, opset, ir_version), source="b", provider=provider)
    assert refused.value.exit_code == 3


TOO_NEW = "Opset 27 is under development ... Current official support for domain ai.onnx is till opset 26."
TOO_NEW_IR = "Unsupported model IR version: 11, max supported IR version: 10"


@pytest.mark.parametrize(
    ("reason", "opset", "ir_version", "needs"),
    [
        (TOO_NEW, 27, 8, ">= 1.32, have 1.23.2: it is of opset 27, and that one reads up to 26."),
        (TOO_NEW, 24, 8, ">= 1.24, "),
        (TOO_NEW, 24, 14, ">= 1.32, "),
        (TOO_NEW, 29, 8, "> 1.23.2, "),
        (TOO_NEW_IR, 17, 11, ">= 1.23, have 1.23.2: it is of IR version 11, and that one reads up to 10."),
        (TOO_NEW_IR, 17, 15, "> 1.23.2, "),
    ],
)
def test_the_first_release_that_reads_both_versions_is_named(
    reason: str, opset: int, ir_version: int, needs: str
) -> None:
    said = what_it_needs(reason, opset, ir_version, "1.23.2", "onnxruntime-gpu")
    assert said is not None
    assert said.startswith(f"needs onnxruntime {needs}")
    assert "pip install --upgrade onnxruntime-gpu;" in said


def test_other_reasons_are_not_explained_so() -> None:
    assert what_it_needs("This is an invalid model: opset 17", 17, 8, "1.32.0", "onnxruntime") is None
