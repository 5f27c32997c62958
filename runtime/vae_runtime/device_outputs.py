"""What a graph gives on a GPU besides: pictures, made where the images are, and sums that tell of NaN.

A picture comes to memory in a quarter of its image's bytes then, and no processor need round it; what stays on the GPU
need not be looked at elsewhere. On the CPU they would gain nothing.

The nodes are written behind the file's bytes: of two messages that follow each other protobuf makes one, merging what
stands once and joining what is repeated (https://protobuf.dev/programming-guides/encoding/#last-one-wins). This is done
to bytes that the scan has let through, and never written to a file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from vae_runtime.images import Images

_OURS = "vae_runtime."
PICTURE = f"{_OURS}picture"
"""The output that is added for pictures, (N, H, W, C) uint8: bit for bit what `to_uint8` makes of the images."""
SUM = f"{_OURS}sum"
"""The output that is added for the sum of each image or latent, (N, 1) float32: not finite where a number is not."""

ADDED: Mapping[str, tuple[str, ...]] = {"decoder": (PICTURE, SUM), "prior": (SUM,)}
"""By a graph's role, the outputs that are added behind its own."""

# Field numbers and types of onnx.proto; `onnx_schema` has the names of those that stand as numbers below.
_GRAPH = 7
_NODE, _INITIALIZER, _OUTPUT = 1, 5, 12
_FLOAT, _UINT8 = 1, 2
_INT, _INTS = 2, 7

_Value: TypeAlias = int | str | bytes


def with_pictures(decoder: bytes, image_shape: tuple[int, int, int]) -> bytes:
    """Return a decoder's ONNX file with two more outputs, `PICTURE` and `SUM`; its images are (N, C, H, W) float32."""
    channels, height, width = image_shape
    levels, rounded, clipped, whole = (_OURS + str(step) for step in range(4))
    zero, most = f"{_OURS}zero", f"{_OURS}most"
    nodes = (
        _node("Mul", ("image", most), levels),
        _node("Round", (levels,), rounded),
        _node("Clip", (rounded, zero, most), clipped),
        _node("Cast", (clipped,), whole, _message((1, "to"), (3, _UINT8), (20, _INT))),
        _node(
            "Transpose",
            (whole,),
            PICTURE,
            _message((1, "perm"), *((8, axis) for axis in (0, 2, 3, 1)), (20, _INTS)),
        ),
    )
    added = (
        *((_NODE, node) for node in nodes),
        (_INITIALIZER, _initializer(zero, np.zeros((), np.float32))),
        (_INITIALIZER, _initializer(most, np.full((), 255.0, np.float32))),
        (_OUTPUT, _output(PICTURE, _UINT8, ("batch", height, width, channels))),
    )
    return decoder + _message((_GRAPH, _message(*added, *_sum_of("image", math.prod(image_shape)))))


def with_sums(prior: bytes, latent_size: int) -> bytes:
    """Return a prior's ONNX file with one more output, `SUM`; its latents are (N, D) float32."""
    return prior + _message((_GRAPH, _message(*_sum_of("latent", latent_size))))


def _sum_of(output: str, size: int) -> tuple[tuple[int, bytes], ...]:
    """Return the fields of a graph that add up the numbers of each row of an output."""
    flat, ones = f"{_OURS}flat", f"{_OURS}ones"
    return (
        (_NODE, _node("Flatten", (output,), flat)),
        (_NODE, _node("MatMul", (flat, ones), SUM)),
        (_INITIALIZER, _initializer(ones, np.ones((size, 1), np.float32))),
        (_OUTPUT, _output(SUM, _FLOAT, ("batch", 1))),
    )


def _node(operator: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    return _message(
        *((1, name) for name in inputs), (2, output), (4, operator), *((5, each) for each in attributes)
    )


def _initializer(name: str, values: Images) -> bytes:
    data = values.astype("<f4").tobytes()
    return _message(*((1, side) for side in values.shape), (2, _FLOAT), (8, name), (9, data))


def _output(name: str, element: int, shape: Sequence[int | str]) -> bytes:
    sides = [_message((2 if isinstance(side, str) else 1, side)) for side in shape]
    tensor = _message((1, element), (2, _message(*((1, side) for side in sides))))
    return _message((1, name), (2, _message((1, tensor))))


def _message(*fields: tuple[int, _Value]) -> bytes:
    """Encode fields by number: whole numbers from 0, text, and bytes."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_varint(number << 3), _varint(value)]
        else:
            data = value.encode() if isinstance(value, str) else value
            parts += [_varint(number << 3 | 2), _varint(len(data)), data]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    """Encode a number as protobuf does: seven bits a byte, the lowest first."""
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])
