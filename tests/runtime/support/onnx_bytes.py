"""ONNX files by hand: small graphs, and edits of the card in a real one, without the onnx package.

A message of Protocol Buffers is a run of fields, each a number, a wire type (0: a number; 2: bytes with
their length in front) and a value. That is all that is needed here. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CARD = "vae_edge.card"
FLOAT, DOUBLE, INT64 = 1, 11, 7

_METADATA = 14  # ModelProto.metadata_props


def varint(value: int) -> bytes:
    """Encode a whole number from 0: seven bits a byte, the lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(*fields: tuple[int, Any]) -> bytes:
    """Encode fields: whole numbers, text and bytes."""
    out = []
    for number, value in fields:
        if isinstance(value, int):
            out += [varint(number << 3), varint(value)]
        else:
            data = value.encode() if isinstance(value, str) else value
            out += [varint(number << 3 | 2), varint(len(data)), data]
    return b"".join(out)


def raw_field(number: int, wire_type: int, payload: bytes) -> bytes:
    """Encode one field of any wire type, sound or not."""
    return varint(number << 3 | wire_type) + payload


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode the whole number at `at`; return it and where it ends.

    Raises:
        IndexError: the data end within it, or it goes on for more than ten bytes.
    """
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise IndexError


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Decode the fields of one message."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        value: Any
        value, at = read_varint(data, at)
        if tag & 7 == 2:
            value, at = data[at : at + value], at + value
        yield tag >> 3, value


def tensor_type(name: str, shape: Sequence[int | str], element: int = FLOAT) -> bytes:
    """A ValueInfoProto: text in the shape is a symbolic axis."""
    axes = [message((2 if isinstance(size, str) else 1, size)) for size in shape]
    kind = message((1, element), (2, message(*((1, axis) for axis in axes))))
    return message((1, name), (2, message((1, kind))))


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], *attributes: bytes) -> bytes:
    """A NodeProto."""
    return message(
        *((1, name) for name in inputs),
        *((2, name) for name in outputs),
        (4, operator),
        *((5, attribute) for attribute in attributes),
    )


def int_attribute(name: str, value: int) -> bytes:
    """An AttributeProto of one whole number; the field `i`."""
    return message((1, name), (3, value % 2**64), (20, 2))


def ints_attribute(name: str, values: Sequence[int]) -> bytes:
    """An AttributeProto of a list of whole numbers; the field `ints`."""
    return message((1, name), *((8, value % 2**64) for value in values), (20, 7))


def constant(name: str, array: npt.NDArray[Any]) -> bytes:
    """A TensorProto of float32 or int64."""
    kind = {"float32": FLOAT, "int64": INT64}[str(array.dtype)]
    return message(*((1, size) for size in array.shape), (2, kind), (8, name), (9, array.tobytes()))


def outside_constant(name: str, shape: Sequence[int], location: str) -> bytes:
    """A float32 TensorProto whose numbers lie in another file."""
    entry = message((1, "location"), (2, location))
    return message(*((1, size) for size in shape), (2, FLOAT), (8, name), (13, entry), (14, 1))


def graph(
    *,
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    nodes: Sequence[bytes],
    constants: Sequence[bytes] = (),
    card: str | dict[str, Any] | None = None,
    opset: int = 17,
) -> bytes:
    """A ModelProto."""
    body = message(
        *((1, item) for item in nodes),
        (2, "graph"),
        *((5, item) for item in constants),
        *((11, item) for item in inputs),
        *((12, item) for item in outputs),
    )
    data = message((1, 8), (7, body), (8, message((2, opset))))
    return data if card is None else with_card(data, card)


def read_card(data: bytes) -> dict[str, Any]:
    """The card of a graph."""
    for number, value in fields(data):
        if number == _METADATA:
            entry = dict(fields(value))
            if entry[1] == CARD.encode():
                card: dict[str, Any] = json.loads(entry[2])
                return card
    raise LookupError("no card")


def with_card(data: bytes, card: str | dict[str, Any] | None) -> bytes:
    """The same graph with another card, or with none."""
    kept = message(*((number, value) for number, value in fields(data) if number != _METADATA))
    if card is None:
        return kept
    text = card if isinstance(card, str) else json.dumps(card)
    return kept + message((_METADATA, message((1, CARD), (2, text))))


def changed_card(data: bytes, /, **changes: Any) -> bytes:
    """The same graph with fields of its card changed; `...` takes a field away."""
    card = {**read_card(data), **changes}
    return with_card(data, {key: value for key, value in card.items() if value is not ...})


def decoder_of(
    card_source: bytes, tail: Callable[[str, str], Sequence[bytes]], constants: Sequence[bytes] = ()
) -> bytes:
    """A decoder that is not a network, with the card of a real one.

    It repeats each latent's first number over the image, after what `tail(input, output)` makes of it.
    """
    card = read_card(card_source)
    shape = card["image_shape"]
    pixels = int(np.prod(shape))
    matrix = np.zeros((card["latent_size"], pixels), np.float32)
    matrix[0] = 1
    return graph(
        inputs=[tensor_type("latent", ["batch", card["latent_size"]])],
        outputs=[tensor_type("image", ["batch", *shape])],
        nodes=[
            node("MatMul", ["latent", "matrix"], ["flat"]),
            node("Reshape", ["flat", "shape"], ["shaped"]),
            *tail("shaped", "image"),
        ],
        constants=[
            constant("matrix", matrix),
            constant("shape", np.array([-1, *shape], np.int64)),
            *constants,
        ],
        card=card,
    )


def decoder_of_nan(card_source: bytes) -> bytes:
    """A decoder that makes nothing but NaN, with the card of a real one: the logarithm of what is below 0."""
    return decoder_of(
        card_source,
        lambda before, after: [
            node("Mul", [before, before], ["squared"]),
            node("Neg", ["squared"], ["negative"]),
            node("Log", ["negative"], [after]),
        ],
    )


def copy_bundle(
    source: Path, target: Path, changes: dict[str, bytes | None] | None = None, *, sums: bool = True
) -> Path:
    """Copy a bundle with files changed, added or (None) taken away; `sums` writes SHA256SUMS anew."""
    shutil.copytree(source, target)
    for name, data in (changes or {}).items():
        if data is None:
            (target / name).unlink()
        else:
            (target / name).write_bytes(data)
    if sums:
        lines = [
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            for path in sorted(target.iterdir())
            if path.name != "SHA256SUMS"
        ]
        (target / "SHA256SUMS").write_text("".join(lines), encoding="ascii", newline="\n")
    return target


def with_cards(source: Path, target: Path, /, **changes: Any) -> Path:
    """Copy a bundle with fields of its cards changed."""
    graphs = {path.name: changed_card(path.read_bytes(), **changes) for path in source.glob("*.onnx")}
    return copy_bundle(source, target, dict(graphs))
