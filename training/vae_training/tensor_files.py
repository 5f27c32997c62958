"""Tensors to the bytes of a safetensors file and back; and files of any kind, read whole and with care."""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vae_runtime.errors import BundleError, EnvironmentProblem
from vae_runtime.members import Members
from vae_training.errors import CheckpointError
from vae_training.strict_json import parse_json

LARGEST_FILE = 4 << 30  # bytes; the classic model has 1.6 million
_LARGEST_HEADER = 16 << 20  # bytes; the format would allow 100 million
_MOST_TENSORS = 10_000
_METADATA = "__metadata__"

# What the format calls them, and what one element takes. Smaller floats are in the format, not in our models.
_ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


def read_file(path: Path, largest: int = LARGEST_FILE) -> bytes:
    """Read a regular file whole; a pipe or a device is refused at once, a file too large before it is read.

    Raises:
        CheckpointError: missing, unreadable, too large, or no regular file.
        EnvironmentProblem: not enough memory or too many open files.
    """
    try:
        with Members(path.parent, allow_links=True) as folder:
            return folder.read(path.name, largest)
    except BundleError as error:
        raise CheckpointError(str(error)) from error
    except EnvironmentProblem as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EIO:
            raise CheckpointError(str(error)) from error  # a bad spot of the disk, and of this file alone
        raise


def tensors_to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return a safetensors file's bytes, the same for the same tensors; views are written whole."""
    return safetensors.torch.save(
        {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    )


def tensors_from_bytes(data: bytes, source: str) -> dict[str, Tensor]:
    """Read a safetensors file's bytes.

    Raises:
        CheckpointError: not safetensors, or tensors of a kind that no model of ours has.
    """
    try:
        _check_header(data)
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{source}: not a safetensors file that can be read here ({error})") from error


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """Return the names of the first five tensors with a NaN or infinity in them."""
    return ", ".join([name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()][:5])


def _check_header(data: bytes) -> None:
    """Check what the safetensors library does not, such as that no name stands twice: it takes the last one.

    Raises:
        ValueError: it is not as the format asks, or beyond our limits.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise ValueError("it is cut short, or of another kind")
    if size > _LARGEST_HEADER:
        raise ValueError(f"a header of {size} bytes; expected at most {_LARGEST_HEADER}")
    # Counted before it is parsed, which for hundreds of thousands takes seconds: an object each, and two more.
    if data.count(b"{", 8, 8 + size) > _MOST_TENSORS + 2:
        raise ValueError(f"more than {_MOST_TENSORS} tensors")
    header = parse_json(data[8 : 8 + size])
    if not isinstance(header, dict):
        raise ValueError("its header is not an object")  # noqa: TRY004 - of the file, not of an argument
    spans = sorted(_span(name, entry) for name, entry in header.items() if name != _METADATA)
    end = 0
    for start, stop in spans:
        if start != end:
            raise ValueError(f"a hole or an overlap at byte {min(start, end)} of the tensors")
        end = stop
    if end != len(data) - 8 - size:
        raise ValueError(f"{len(data) - 8 - size} bytes of tensors; its header tells of {end}")


def _span(name: str, entry: Any) -> tuple[int, int]:
    """Return where a tensor's bytes lie, once it is sure that they are as many as its shape asks for."""
    called = repr(name[:60])
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {called} is not told of by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise ValueError(
            f"tensor {called} has dtype {str(dtype)[:20]!r}, which is not supported; "
            f"expected one of {', '.join(_ITEM_BYTES)}"
        )
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2):
        raise ValueError(f"tensor {called} has a shape or offsets that are no sizes")
    start, stop = offsets
    if stop - start != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise ValueError(f"tensor {called} has {stop - start} bytes, which its shape {shape} does not fit")
    return start, stop


def _are_sizes(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= 16
        and all(type(value) is int and 0 <= value < 1 << 62 for value in values)
    )
