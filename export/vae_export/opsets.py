"""Which versions of the standard operator set can be written here."""

from __future__ import annotations

import logging

import onnx
from onnx import TensorProto, helper
from onnxscript import onnx_opset

from vae_export.errors import OpsetError
from vae_runtime.installation import import_onnxruntime

_log = logging.getLogger(__name__)

OLDEST_OPSET = 15


def supported_opsets() -> range:
    """Return the opsets from 15 to the newest that PyTorch's exporter and onnxruntime both do.

    PyTorch writes through onnxscript, whose operator sets say how far it goes; what the installed
    onnxruntime does is found by opening a graph of one node.
    """
    newest = max(version for domain, version in onnx_opset.all_opsets if domain == "")
    while newest > OLDEST_OPSET and not _onnxruntime_opens(newest):
        newest -= 1
    return range(OLDEST_OPSET, newest + 1)


def require_supported(opset: int) -> None:
    """Raise `OpsetError`, with the ones that can be written, unless `opset` is among them."""
    supported = supported_opsets()
    if opset not in supported:
        raise OpsetError(
            f"opset {opset} cannot be written here; expected one of {', '.join(map(str, supported))}"
        )


def ir_version_for(opset: int) -> int:
    """Return the oldest ONNX file format that carries an opset, which the most runtimes read."""
    return int(helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))


def _onnxruntime_opens(opset: int) -> bool:
    onnxruntime = import_onnxruntime()
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", values[:1], values[1:])
    model = onnx.helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version_for(opset)
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class but Exception
        _log.info("onnxruntime %s does not do opset %d: %s", onnxruntime.__version__, opset, error)
        return False
    return True
