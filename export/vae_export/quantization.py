"""8-bit integers: weights and activations, with scales found on data that the model is made for.

Static quantization by onnxruntime's own quantizer, in pairs of QuantizeLinear and DequantizeLinear around each
operator, which every runtime understands and onnxruntime turns into integer kernels. What was found by
measurement (onnxruntime 1.32, AVX-512 VNNI, one thread, batches of 64, the 24x24 model):

- Weights have a scale for each output channel: one for all costs 4 dB.
- Weights have 7 bits. Processors without VNNI add products of 8 bits in 16, which overflow; with 7 they do not,
  so that pictures are the same everywhere. That costs 1 dB and no time.
- The encoder's first convolution stays in float32: of its 16 products for each output little is saved, and the
  images need no rounding. Its last layers put out float32: means lie far outside of what calibration saw for
  images of another kind, and there would be cut off.
- The decoder's sigmoid, and what moves its pixels, stay in float32. Its logits need no more than 8 bits, if these
  are not spent on differences that nobody sees: beyond 7 a pixel is black or white. That gains up to 2 dB.
- Ranges are the smallest and largest values seen. Cutting off a percentile gains 1 dB on average and loses 10 on
  the worst picture.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from vae_export.errors import PrecisionError
from vae_runtime.errors import one_line
from vae_runtime.installation import import_onnxruntime

_BATCH = 64

# A pixel of this logit is 1 - 0.0009, a quarter of the step between two of 256 shades.
_LARGEST_LOGIT = 7.0

# Operators whose inputs and outputs become integers: those that compute, and those that only move what is between.
_QUANTIZED = ("Add", "Conv", "Gemm", "Relu", "Reshape", "Transpose")


def quantize(graph: onnx.ModelProto, role: str, inputs: npt.NDArray[np.float32]) -> onnx.ModelProto:
    """Return a graph whose layers compute in 8-bit integers.

    Args:
        graph: float32.
        role: `encoder` or `decoder`.
        inputs: (N, ...) what the graph will be given: ranges of activations are those that are seen with it.

    Raises:
        PrecisionError: the quantizer cannot do it.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if role == "encoder":
        kept_exact = [_first(graph, "Conv").name]
        options: dict[str, Any] = {"OpTypesToExcludeOutputQuantization": ["Gemm"]}
    else:
        kept_exact = []
        options = {"TensorQuantOverrides": _logit_range(graph, inputs)}
    with tempfile.TemporaryDirectory(prefix="vae-export-") as folder, _quiet_quantizer():
        path = Path(folder) / "quantized.onnx"
        try:
            quantize_static(
                _copy(graph),  # the quantizer takes the weights out of what it is given
                path,
                _Batches(graph.graph.input[0].name, inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTIZED),
                nodes_to_exclude=kept_exact,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options=options,
            )
            return onnx.load(path)
        except (OSError, MemoryError):
            raise  # the disk or the memory is full, not the graph at fault
        except Exception as error:  # the quantizer's errors share no base class
            raise PrecisionError(
                f"the {role} cannot be brought to 8-bit integers: {one_line(error)}"
            ) from error


class _Batches:
    """What onnxruntime's calibration asks for: one batch after the other, then None."""

    def __init__(self, name: str, inputs: npt.NDArray[np.float32]) -> None:
        self._batches = iter([{name: inputs[at : at + _BATCH]} for at in range(0, len(inputs), _BATCH)])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def _copy(graph: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    return copy


def _logit_range(graph: onnx.ModelProto, latents: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Return the range of a decoder's logits that is worth its bits, as the quantizer wants to be told."""
    options = import_onnxruntime().SessionOptions()
    options.log_severity_level = 4
    session = import_onnxruntime().InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (name,) = (value.name for value in graph.graph.input)
    batches = (latents[at : at + _BATCH] for at in range(0, len(latents), _BATCH))
    pixels = [(images.min(), images.max()) for (images,) in (session.run(None, {name: z}) for z in batches)]
    largest = 1 / (1 + np.exp(-_LARGEST_LOGIT))
    ends = np.clip([np.min(pixels), np.max(pixels)], 1 - largest, largest)
    low, high = np.log(ends / (1 - ends)).astype(np.float32)
    return {_first(graph, "Sigmoid").input[0]: [{"rmin": low, "rmax": high}]}


def _first(graph: onnx.ModelProto, operator: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(node for node in graph.graph.node if node.op_type == operator)
    return found


@contextlib.contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """Silence advice on pre-processing, which is of no use here; it comes by the root logger."""
    root, quiet = logging.getLogger(), logging.NullHandler()
    before = logging.root.manager.disable
    root.addHandler(quiet)  # or the logging module would install one of its own, for ever
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        root.removeHandler(quiet)
