"""Bytes of PNG files, chunk by chunk, right and wrong."""

from __future__ import annotations

import struct
import zlib


def png(
    width: int, height: int, rows: bytes = b"", *, depth: int = 8, colour: int = 0, extra: bytes = b""
) -> bytes:
    """A PNG with any header; `rows` each begin with their filter's number."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def black(extra: bytes) -> bytes:
    """A black picture of 12x8 pixels with other chunks in it."""
    return png(12, 8, bytes(13) * 8, extra=extra)
