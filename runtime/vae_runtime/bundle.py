"""Finding a bundle by name or path, and reading its graphs: each file once, checked against its sum."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vae_runtime.errors import BundleError

ROLES = ("encoder", "decoder", "prior")
REQUIRED_ROLES = ("encoder", "decoder")
SUMS = "SHA256SUMS"

_LARGEST_SUMS = 1 << 20  # bytes
_SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9._-]{1,64})")

_PACKAGE = Path(__file__).resolve().parent
# In a wheel the shipped models lie inside the package; in a checkout they lie at its top.
_SHIPPED = (_PACKAGE / "models", _PACKAGE.parents[1] / "models")


@dataclass(frozen=True)
class Bundle:
    """The graphs of one bundle, read and checked."""

    source: str
    """Where it came from, for messages."""
    graphs: Mapping[str, bytes]
    """ONNX bytes by role: `encoder`, `decoder`, and `prior` where there is one."""


def shipped_models() -> dict[str, Path]:
    """Return the models that come with this installation: name to folder, sorted by name."""
    found = {
        folder.name: folder
        for parent in reversed(_SHIPPED)
        if parent.is_dir()
        for folder in parent.iterdir()
        if (folder / SUMS).is_file()
    }
    return dict(sorted(found.items()))


def find_bundle(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the folder of a bundle. A shipped model's name goes before a folder of the same name.

    Raises:
        BundleError: neither a shipped name nor a folder with a bundle in it.
    """
    shipped = shipped_models()
    if isinstance(name_or_path, str) and name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    names = ", ".join(shipped) or "none"
    if not _exists(path):
        raise BundleError(f"{path}: no such bundle; expected a bundle's folder or a shipped model ({names})")
    if not path.is_dir():
        if zipfile.is_zipfile(path):
            raise BundleError(f"{path}: is a zip archive; unpack it first and give the folder")
        hint = f"; give its folder: {path.parent}" if (path.parent / SUMS).is_file() else ""
        raise BundleError(f"{path}: is a file; expected a bundle's folder{hint}")
    if not (path / SUMS).is_file():
        raise BundleError(
            f"{path}: not a bundle: it holds no {SUMS}; expected a folder that vae-export wrote, "
            f"or a shipped model ({names})"
        )
    return path


def read_bundle(name_or_path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle's graphs and compare each with its SHA-256 sum.

    Raises:
        BundleError: no bundle, a graph missing, or one that is not the file that was written.
    """
    folder = find_bundle(name_or_path)
    sums = read_sums(folder)
    missing = [f"{role}.onnx" for role in REQUIRED_ROLES if f"{role}.onnx" not in sums]
    if missing:
        raise BundleError(f"{folder / SUMS}: does not list {' and '.join(missing)}")
    return Bundle(
        source=str(folder),
        graphs={role: read_member(folder, f"{role}.onnx", sums) for role in ROLES if f"{role}.onnx" in sums},
    )


def read_sums(folder: Path) -> dict[str, str]:
    """Read SHA256SUMS, as `sha256sum` writes it: file name to hexadecimal sum.

    Raises:
        BundleError: unreadable, too large, or a line of another form.
    """
    path = folder / SUMS
    try:
        text = _read_at_most(path, _LARGEST_SUMS).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: cannot be read ({error})") from error
    sums: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        match = _SUM_LINE.fullmatch(line)
        if match is None or match[2] in sums:
            raise BundleError(
                f"{path}: line {number} is {line[:100]!r}; expected 64 hexadecimal digits and a new name"
            )
        sums[match[2]] = match[1]
    return sums


def read_member(folder: Path, name: str, sums: Mapping[str, str]) -> bytes:
    """Read one file of a bundle and compare it with its sum.

    Raises:
        BundleError: missing, unreadable, or changed since the bundle was written.
    """
    path = folder / name
    try:
        # Asked before opening: reading a pipe would wait for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BundleError(f"{path}: not a regular file; {SUMS} lists it")
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); {SUMS} lists it") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sums[name]:
        raise BundleError(
            f"{path}: SHA-256 differs: {found[:16]}... of {len(data)} bytes; {SUMS} says {sums[name][:16]}... "
            "The file is damaged or was changed: copy or export the bundle again"
        )
    return data


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than the file system takes
        return False


def _read_at_most(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BundleError(f"{path}: larger than {limit} bytes")
    return data
