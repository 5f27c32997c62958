"""PyTorch's own files of weights, which are pickles: read without running anything that is in them."""

from __future__ import annotations

import io
import pickle  # noqa: TID251 - only for the name of the error that torch's safe loader raises
import warnings
import zipfile
from typing import Any

import torch

from vae_export.errors import SourceError

_ARCHIVE = b"PK\x03\x04"  # how PyTorch tells its files of today, zip archives, from those of before 1.6


def load_pickled(data: bytes, source: str) -> Any:
    """Read what `torch.save` wrote, tensors and plain containers of them only.

    Raises:
        SourceError: not such a file, damaged, or one with anything else in it.
    """
    if data.startswith(_ARCHIVE):
        _check_archive(data, source)
    try:
        # Never with weights_only=False, whatever this fails with: that would run code from the file.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old formats: what matters comes as an error
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SourceError(
            f"{source}: refused: not a PyTorch weights file, or one that holds more than tensors, and loading "
            "that would run code from the file. "
            "Save the weights alone: torch.save(model.state_dict(), path)"
        ) from error
    except Exception as error:  # whatever PyTorch's reader stumbles over in a file of another kind
        raise SourceError(
            f"{source}: not a PyTorch weights file, or cut short ({_first_line(error)})"
        ) from error


def _check_archive(data: bytes, source: str) -> None:
    """Check the sums of a zip archive, which PyTorch's reader does not, and that it holds no more than it shows.

    Raises:
        SourceError: damaged, or packed: PyTorch packs nothing, and a small file could unpack to terabytes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            packed = [member.filename for member in members if member.compress_type]
            overlapping = sum(member.file_size for member in members) > len(data)
            damaged = None if packed or overlapping else archive.testzip()
    except Exception as error:  # the reader of archives has no one kind of error
        raise SourceError(
            f"{source}: not a PyTorch weights file, or cut short ({_first_line(error)})"
        ) from error
    if packed:
        raise SourceError(f"{source}: {packed[0]!r} in it is compressed, which PyTorch's files never are")
    if overlapping:
        raise SourceError(f"{source}: tells of more bytes than it has; no PyTorch file")
    if damaged is not None:
        raise SourceError(f"{source}: {damaged!r} in it differs from its checksum: damaged")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
