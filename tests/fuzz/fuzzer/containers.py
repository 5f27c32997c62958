"""Mutations of the formats that hold arrays, part by part and put together again: .npy, .npz, safetensors."""

from __future__ import annotations

import io
import json
import struct
import warnings
import zipfile
from collections.abc import Mapping
from random import Random
from typing import Any

from fuzzer.blind import EDGES, flip_bits
from fuzzer.json_text import mutate_text

_TYPES = (
    "|u1", "<f4", ">f4", "<f8", "<f2", "<i8", "|b1", "|O", "<c8", "<M8[D]", "<U3", "|S5", "|V4", "|S0", "f4", "",
    "<f16", "<f3", "x" * 99, [("a", "<f4")], [("a", "|O")], [], ("<f4", (2, 2)), None, 4,
)  # fmt: skip
_SHAPES: tuple[Any, ...] = (
    (), (0,), (1,), (-1,), (2, -3), (True,), (1.0,), (2**31,), (2**63,), (2**64, 0), (0, 2**62, 2**62), (1,) * 33,
    (1,) * 70, (2,) * 64, "3", [4, 4], None, (None,), ((1,),), (10**400,),
)  # fmt: skip
_HEADERS = (
    "", "{", "{}", "[]", "None", "{'descr': '<f4', 'fortran_order': False, 'shape': (4,)",
    "(" * 3_000, "{'a':" * 500, "__import__('os').system('true')", "{**{}}", "lambda: 0", "1" * 9_000, "\x00" * 50, "#",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4,), 'shape': (5,)}", "-" * 9_000 + "1", "é" * 100,
)  # fmt: skip
_MEMBERS = (
    "images.npy", "images", "../canary", "/etc/passwd", ".npy", "a/../../canary", "images.npy", "\\canary", "x" * 300,
)  # fmt: skip


def mutate_npy(data: bytes, draw: Random) -> bytes:
    """Return a .npy with another header over the same numbers, or with lies about the header's length."""
    old_length = struct.unpack_from("<H", data, 8)[0]
    header, numbers = data[10 : 10 + old_length].decode("latin-1"), data[10 + old_length :]
    kind = draw.random()
    if kind < 0.15:
        header = draw.choice(_HEADERS)
    elif kind < 0.8:
        shape = draw.choice((*_SHAPES, (len(numbers),), (len(numbers) // 4,)))
        fields = {
            "descr": draw.choice(_TYPES),
            "fortran_order": draw.choice((True, False, False, 1, None, "yes")),
            "shape": shape if draw.random() < 0.7 else eval_shape(header),
            **({"more": 1} if draw.random() < 0.1 else {}),
        }
        header = repr(fields)
    version = draw.choice((1, 1, 1, 2, 3, 0, 255))
    raw = header.encode("utf-8" if version == 3 else "latin-1", "replace")
    raw += b" " * (-(len(raw) + 11) % 64) + b"\n"
    length = draw.choice(EDGES) if draw.random() < 0.15 else len(raw)
    packed = (
        struct.pack("<H", length % 2**16)
        if version < 2 or version == 255
        else struct.pack("<I", length % 2**32)
    )
    if draw.random() < 0.2:
        numbers = draw.choice((numbers[:-1], numbers + b"\x00", b"", numbers * 3))
    return b"\x93NUMPY" + bytes([version, draw.choice((0, 0, 0, 1))]) + packed + raw + numbers


def eval_shape(header: str) -> tuple[int, ...]:
    """Return the shape that a header of numpy's own writing states."""
    inside = header[header.index("(") + 1 : header.index(")")]
    return tuple(int(size) for size in inside.split(",") if size.strip())


def mutate_npz(members: Mapping[str, bytes], draw: Random) -> bytes:
    """Return an archive with other arrays, names or sizes in it; its checksums are right."""
    archive = io.BytesIO()
    packing = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with warnings.catch_warnings(), zipfile.ZipFile(archive, "w", packing) as file:
        warnings.simplefilter("ignore")  # a name that stands twice
        harmed = draw.sample(sorted(members), draw.choice((0, 1, 1, 1, 2, len(members))))
        for name, data in members.items():
            if name not in harmed:
                file.writestr(name, data)
            elif draw.random() < 0.9:
                written = draw.choice(_MEMBERS) if draw.random() < 0.2 else name
                file.writestr(written, _other_member(data, draw))
    packed = archive.getvalue()
    return _with_a_lie_about_sizes(packed, draw) if draw.random() < 0.3 else packed


def _other_member(data: bytes, draw: Random) -> bytes:
    kind = draw.random()
    if kind < 0.005:
        return data[:128] + bytes(1 << 24)  # packs to nothing
    if kind < 0.7:
        return mutate_npy(data, draw)
    return flip_bits(data, draw) if kind < 0.9 else data


def _with_a_lie_about_sizes(packed: bytes, draw: Random) -> bytes:
    """Overwrite a size or an offset in the archive's directory."""
    start = packed.find(b"PK\x01\x02")
    if start < 0:
        return packed
    at = start + draw.choice((8, 10, 20, 24, 28, 30, 42))  # flags, method, sizes, lengths of names, offset
    return packed[:at] + struct.pack("<I", draw.choice(EDGES) % 2**32) + packed[at + 4 :]


def mutate_safetensors(data: bytes, draw: Random) -> bytes:
    """Return a safetensors file with another header before the same numbers, or with a lie about its length."""
    length = struct.unpack_from("<Q", data)[0]
    header, numbers = data[8 : 8 + length].decode(), data[8 + length :]
    if draw.random() < 0.75:
        header = mutate_text(header, draw)
    raw = header.encode("utf-8", "surrogatepass")
    claimed = draw.choice(EDGES) if draw.random() < 0.15 else len(raw)
    if draw.random() < 0.25:
        numbers = draw.choice((numbers[:-1], numbers + b"\x00", b"", flip_bits(numbers, draw)))
    if draw.random() < 0.1:
        numbers = b"\xff" * len(numbers)  # every number a NaN
    return struct.pack("<Q", claimed % 2**64) + raw + numbers


def mutate_toml(text: str, draw: Random) -> str:
    """Return settings with other values, of other types, in other places."""
    lines = text.splitlines()
    for _ in range(draw.choice((1, 1, 2, 3))):
        if not lines:
            break
        index = draw.randrange(len(lines))
        line = lines[index]
        kind = draw.random()
        if "=" in line and kind < 0.7:
            lines[index] = f"{line.partition('=')[0]}= {draw.choice(_TOML_VALUES)}"
        elif kind < 0.8:
            lines.insert(draw.randrange(len(lines)), line)
        elif kind < 0.9:
            del lines[index]
        else:
            lines.insert(index, draw.choice(_TOML_LINES))
    return "\n".join(lines) + "\n"


_TOML_VALUES = (
    "true", "false", "0", "-1", "1", "8", "9", "1e400", "nan", "inf", "-inf", "-0.0", "0.5", "1e-320", "9" * 5_000,
    "9223372036854775808", "0x7fffffffffffffffffff", '""', '"x"', '"\\u0000"', '"../canary"', "[]", "[1]", "[1, 2]",
    "[1, 2, 3]", '["a", "b"]', "[true, false]", "{}", "{a = 1}", "1979-05-27", "07:32:00", "[" * 3_000 + "]" * 3_000,
    "{a = " * 900 + "1" + "}" * 900, json.dumps("x" * 70_000), '"""', "'", '"\\ud800"', "1_000_000_000_000",
)  # fmt: skip
_TOML_LINES = (
    "[data]", "[model]", "[[model]]", "[new]", "[a.b.c]", "x", "x = 1", "source.a = 1", "\x00", "[", "# é",
    "[training]", "=", '"" = 1', "'source' = 'x'", "[" + "a." * 2_000 + "a]", "a" + ".a" * 2_000 + " = 1",
)  # fmt: skip
