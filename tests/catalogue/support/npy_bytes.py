"""Bytes of array files, right and wrong."""

from __future__ import annotations

import functools
import io
import math
import os
import struct
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def npy(array: Any) -> bytes:
    """As numpy saves it; objects are pickled."""
    stream = io.BytesIO()
    np.save(stream, np.asarray(array), allow_pickle=True)
    return stream.getvalue()


def npz(*members: tuple[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


def header(shape: str, dtype: str = "'|u1'", order: str = "False", data: bytes = b"") -> bytes:
    """A .npy of version 1.0 whose header says anything."""
    return raw_header(f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}", data)


def raw_header(text: str, data: bytes = b"") -> bytes:
    padded = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + data


def claiming(archive: bytes, size: int) -> bytes:
    """The archive, with a directory that says that its only member unpacks to `size` bytes."""
    changed = bytearray(archive)
    struct.pack_into("<I", changed, changed.index(b"PK\x01\x02") + 24, size)
    return bytes(changed)


@functools.cache
def packed_zeros(name: str, shape: tuple[int, ...]) -> bytes:
    """A .npz of uint8 zeros, made without having them: a few thousandths of their size."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        member.write(header(str(shape)))
        zeros = bytes(1 << 24)
        left = math.prod(shape)
        while left > 0:
            member.write(zeros[:left])
            left -= len(zeros)
    return stream.getvalue()


class Evil:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)
