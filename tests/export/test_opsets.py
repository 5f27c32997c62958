"""Which opsets can be written: 15 to the newest, and a usage error that lists them for any other."""

from __future__ import annotations

import onnx
import onnxruntime
import pytest
from onnx import helper
from onnxscript import onnx_opset

from vae_export import opsets
from vae_export.errors import OpsetError
from vae_export.opsets import ir_version_for, require_supported, supported_opsets


def test_opsets_from_15_on_without_a_gap_are_supported_17_among_them() -> None:
    supported = supported_opsets()
    assert supported[0] == 15
    assert list(supported) == list(range(15, supported[-1] + 1))
    assert 17 in supported
    assert supported[-1] >= 20


def test_the_newest_is_one_that_the_exporter_writes_and_onnxruntime_opens() -> None:
    newest = supported_opsets()[-1]
    assert newest <= max(version for domain, version in onnx_opset.all_opsets if domain == "")
    assert newest <= onnx.defs.onnx_opset_version()
    values = [helper.make_tensor_value_info(name, 1, ["n"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "g", values[:1], values[1:])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", newest)], ir_version=ir_version_for(newest)
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def test_where_onnxruntime_is_older_than_the_exporter_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opsets, "_onnxruntime_opens", lambda opset: opset <= 19)
    assert supported_opsets() == range(15, 20)


def test_every_supported_opset_is_let_through() -> None:
    for opset in supported_opsets():
        require_supported(opset)


@pytest.mark.parametrize("opset", [-1, 0, 14, 99])
def test_any_other_is_a_usage_error_that_lists_the_supported_ones(opset: int) -> None:
    with pytest.raises(OpsetError, match=f"opset {opset} cannot be written here") as refused:
        require_supported(opset)
    assert refused.value.exit_code == 2
    listed = str(refused.value).split("expected one of ")[1]
    assert listed == ", ".join(str(opset) for opset in supported_opsets())


@pytest.mark.parametrize(
    ("opset", "version"), [(15, 8), (16, 8), (17, 8), (18, 8), (19, 9), (20, 9), (21, 10)]
)
def test_the_file_format_is_the_oldest_that_carries_the_opset(opset: int, version: int) -> None:
    assert ir_version_for(opset) == version
