"""Mutations of protobuf messages by their form: tags, wire types, lengths, nesting, and what ONNX means by them.

Written against the wire format alone, and not with the project's own scanner or list of fields, which are what
is being tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from onnx_bytes import read_varint, varint

from fuzzer.blind import EDGES

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # 3 and 4 begin and end groups, which ONNX has none of
_LARGEST_LOOKED_INTO = 1 << 16
_LARGEST_NUMBER = 64  # field numbers of onnx.proto are below

# Words that mean something to an ONNX parser: operators, domains, attributes, files.
_WORDS = (
    *b"If Loop Scan Constant ConstantOfShape Expand Range Tile Resize Pad RandomNormal SequenceConstruct Optional "
    b"Reshape Gather GatherND Slice Split Concat Conv ConvTranspose MaxPool AveragePool Gemm MatMul Einsum "
    b"com.microsoft ai.onnx.ml ai.onnx.training ai.onnx "
    b"then_branch else_branch body value sparse_value strides dilations pads group kernel_shape output_padding "
    b"output_shape auto_pad axis axes perm allowzero blocksize transA transB alpha epsilon keepdims num_outputs to "
    b"location offset length checksum canary ../canary latent image mean logvar batch".split(),
    b"", b"\xff\xfe", b"a\x00b", b"x" * 5_000,
)  # fmt: skip


@dataclass(frozen=True)
class Field:
    """One field of a message."""

    number: int
    wire: int
    value: int | bytes | tuple[Field, ...]
    """A number, bytes, or the fields of the message inside."""
    tag: bytes | None = None
    """The tag's bytes, where they are not the usual ones."""
    length: int | None = None
    """The length that it claims, where that is a lie."""


Message = tuple[Field, ...]
Place = tuple[int, ...]
"""Indices from the outermost message inwards."""


def encode(message: Message) -> bytes:
    return b"".join(map(_encode_field, message))


def parse(data: bytes) -> Message | None:
    """Return the fields of a message, those of messages inside it included; None for what is none."""
    message: list[Field] = []
    at = 0
    try:
        while at < len(data):
            tag, at = read_varint(data, at)
            number, wire = tag >> 3, tag & 7
            if not 1 <= number <= _LARGEST_NUMBER or wire not in (VARINT, FIXED64, LENGTH, FIXED32):
                return None
            if wire == VARINT:
                value, at = read_varint(data, at)
                message.append(Field(number, wire, value))
                continue
            size = {FIXED64: 8, FIXED32: 4}.get(wire, 0)
            if wire == LENGTH:
                size, at = read_varint(data, at)
            piece = data[at : at + size]
            if len(piece) < size:
                return None
            inside = parse(piece) if wire == LENGTH and 0 < size <= _LARGEST_LOOKED_INTO else None
            message.append(Field(number, wire, piece if inside is None else inside))
            at += size
    except IndexError:
        return None
    return tuple(message)


def mutate_message(message: Message, draw: Random, others: Sequence[Message]) -> bytes:
    """Return the bytes of `message` with one to three of its fields changed; `others` lend theirs."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = _places(message)
        if not places:
            break
        message = _changed(message, draw.choice(places), draw, others)
    return encode(message)


def _changed(message: Message, place: Place, draw: Random, others: Sequence[Message]) -> Message:
    """Change the field at `place`, or the run of fields that it stands in."""
    index, rest = place[0], place[1:]
    field = message[index]
    if rest:
        assert isinstance(field.value, tuple)
        inside = _changed(field.value, rest, draw, others)
        return (*message[:index], replace(field, value=inside), *message[index + 1 :])
    before, after = message[:index], message[index + 1 :]
    kind = draw.random()
    if kind < 0.45:
        return (*before, _other_value(field, draw), *after)
    if kind < 0.55:
        return (*before, _other_form(field, draw), *after)
    if kind < 0.63:
        return (*before, replace(field, number=_other_number(field.number, draw)), *after)
    if kind < 0.70:
        return (*before, *[field] * draw.choice((2, 2, 3, 100)), *after)
    if kind < 0.75:
        return (*before, *after)
    if kind < 0.80:
        fields = list(message)
        draw.shuffle(fields)
        return tuple(fields)
    if kind < 0.88:
        other = draw.choice(others)
        borrowed = _at(other, draw.choice(_places(other)))
        return (
            *before,
            field,
            replace(borrowed, number=draw.choice((borrowed.number, field.number))),
            *after,
        )
    if kind < 0.95:
        return (*before, field, _smuggled(draw), *after)
    return (*before, _nested(field, draw.choice((1, 2, 10, 100, 2000))), *after)


def _other_value(field: Field, draw: Random) -> Field:
    if isinstance(field.value, int):
        near = (field.value + 1, max(field.value - 1, 0), field.value ^ 1 << draw.randrange(8))
        return replace(field, value=draw.choice((*EDGES, *near, *near, *range(25))))
    if isinstance(field.value, tuple):
        return replace(field, value=draw.choice((b"", encode(field.value)[:-1], draw.choice(_WORDS))))
    if field.wire in (FIXED32, FIXED64):
        size = len(field.value)
        return replace(field, value=draw.choice((b"\x00", b"\xff", b"\x7f", b"\x80")) * size)
    word = draw.choice(_WORDS)
    packed = b"".join(varint(draw.choice(EDGES)) for _ in range(draw.randint(0, 10)))
    return replace(field, value=draw.choice((word, word, packed, field.value[:-1], field.value + b"\x00")))


def _other_form(field: Field, draw: Random) -> Field:
    """The same field as the format forbids it, or as parsers are known to disagree about it."""
    tag = field.number << 3 | field.wire
    kind = draw.randrange(5)
    if kind == 0:  # the tag in more bytes than it needs
        usual = varint(tag)
        return replace(
            field, tag=usual[:-1] + bytes([usual[-1] | 0x80]) + b"\x80" * draw.randrange(4) + b"\x00"
        )
    if kind == 1:  # a tag whose low 32 bits are another field's
        return replace(field, tag=varint(tag | 1 << draw.randint(32, 62)))
    if kind == 2:
        return replace(field, tag=varint(field.number << 3 | draw.randrange(8)))
    if kind == 3:
        return replace(field, wire=draw.choice((VARINT, FIXED64, LENGTH, FIXED32)))
    return replace(field, length=draw.choice(EDGES))


def _other_number(number: int, draw: Random) -> int:
    return draw.choice((0, max(number - 1, 0), number + 1, draw.randint(1, 30), 19_000, 2**28, 2**29 - 1))


def _smuggled(draw: Random) -> Field:
    """What has no place in a bundle's graph, under the number that ONNX gives it."""
    location = (Field(1, LENGTH, b"location"), Field(2, LENGTH, draw.choice((b"canary", b"../canary"))))
    tensor = (
        Field(1, VARINT, 4), Field(2, VARINT, 1), Field(8, LENGTH, b"smuggled"), Field(13, LENGTH, location),
        Field(14, VARINT, 1),
    )  # fmt: skip
    return draw.choice(
        (
            Field(13, LENGTH, location),  # TensorProto.external_data
            Field(14, VARINT, 1),  # TensorProto.data_location
            Field(5, LENGTH, tensor),  # GraphProto.initializer, AttributeProto.t
            Field(15, LENGTH, (Field(1, LENGTH, tensor), Field(2, LENGTH, tensor), Field(3, VARINT, 4))),
            Field(6, LENGTH, (Field(2, LENGTH, b"inner"), Field(5, LENGTH, tensor))),  # AttributeProto.g
            Field(25, LENGTH, (Field(1, LENGTH, b"f"),)),  # ModelProto.functions
            Field(20, LENGTH, (Field(1, LENGTH, (Field(5, LENGTH, tensor),)),)),  # ModelProto.training_info
            Field(14, LENGTH, (Field(1, LENGTH, b"ort_config"), Field(2, LENGTH, b'{"session_options":{}}'))),
        )
    )


def _nested(field: Field, depth: int) -> Field:
    """The field inside itself. As bytes: a tree as deep would be too deep to encode."""
    inside = _encode_field(field)
    for _ in range(depth):
        inside = varint(field.number << 3 | LENGTH) + varint(len(inside)) + inside
    return Field(field.number, LENGTH, inside)


def _places(message: Message, above: Place = ()) -> list[Place]:
    found: list[Place] = []
    for index, field in enumerate(message):
        here = (*above, index)
        found.append(here)
        if isinstance(field.value, tuple):
            found += _places(field.value, here)
    return found


def _at(message: Message, place: Place) -> Field:
    field = message[place[0]]
    if len(place) == 1:
        return field
    assert isinstance(field.value, tuple)
    return _at(field.value, place[1:])


def _encode_field(field: Field) -> bytes:
    tag = varint(field.number << 3 | field.wire) if field.tag is None else field.tag
    if isinstance(field.value, int):
        if field.wire == VARINT:
            return tag + varint(field.value)
        value = varint(field.value)
    else:
        value = encode(field.value) if isinstance(field.value, tuple) else field.value
    if field.wire == VARINT:
        return tag + varint(int.from_bytes(value[:8], "little"))
    if field.wire in (FIXED32, FIXED64):
        size = 4 if field.wire == FIXED32 else 8
        return tag + value[:size].ljust(size, b"\x00")
    return tag + varint(len(value) if field.length is None else field.length) + value
