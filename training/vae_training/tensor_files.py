"""Tensors to the bytes of a safetensors file and back; and files of any kind, read whole and with care."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vae_runtime.errors import BundleError, EnvironmentProblem
from vae_runtime.images import is_whole_number
from vae_runtime.members import Members
from vae_runtime.strict_json import parse_json
from vae_training.errors import CheckpointError

LARGEST_FILE = 4 << 30  # bytes; the classic model has 1.6 million
_LARGEST_HEADER = 16 << 20  # bytes; the format would allow 100 million
_MOST_TENSORS = 10_000
_METADATA = "__metadata__"
_LONGEST_SIDE = 1 << 40  # of a tensor; one that has another side of 0 fills no file, whatever this one is

# Of the format's types those that a model here may have: no floats of less than 16 bits, no other unsigned integers.
_TYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")


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
    """Check what the safetensors library does not: it takes the last of two tensors of one name.

    (That the tensors fill the file without a hole or an overlap, each as its shape asks, it does check.)

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
    for name, entry in header.items():
        if name == _METADATA:
            continue
        dtype, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
        if dtype not in _TYPES:
            raise ValueError(
                f"tensor {name[:60]!r} has dtype {str(dtype)[:20]!r}, which is not supported; "
                f"expected one of {', '.join(_TYPES)}"
            )
        if not isinstance(shape, list) or not all(map(_is_side, shape)):
            raise ValueError(
                f"tensor {name[:60]!r} has shape {str(shape)[:60]}; "
                f"expected whole numbers from 0 to {_LONGEST_SIDE}"
            )


def _is_side(side: object) -> bool:
    return is_whole_number(side) and 0 <= side <= _LONGEST_SIDE
