"""SHA256SUMS, which lists the files of a bundle as `sha256sum` does: written, read, and compared with the files."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vae_runtime.errors import BundleError, InputError, UnsafeBundleError, shown
from vae_runtime.members import Members

SUMS = "SHA256SUMS"

_LARGEST_SUMS = 1 << 20  # bytes
_PIECE = 1 << 20  # bytes
_LINE_ENDINGS = (
    "Its line endings were changed, as git does on Windows: a line `* -text` in a .gitattributes beside it keeps git "
    "from that; then copy or export the bundle again"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
# Nothing that leads out of the folder, hides in it, or is a device on Windows.
_SAFE_NAME = re.compile(r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Sums:
    """What a bundle's SHA256SUMS says."""

    by_name: Mapping[str, str]
    """SHA-256, 64 hexadecimal digits, of each file."""
    sha256: str
    """That of SHA256SUMS itself."""


def read_sums(members: Members, expect_sha256: str | None = None) -> Sums:
    """Read SHA256SUMS, as `sha256sum` writes it.

    Raises:
        BundleError: unreadable, too large, or a line of another form.
        UnsafeBundleError: a name that is no plain file name, or another SHA-256 than the one expected.
        InputError: `expect_sha256` is no SHA-256.
    """
    expected = None if expect_sha256 is None else _as_digest(expect_sha256)
    path = members.folder / SUMS
    data = members.read(SUMS, _LARGEST_SUMS)
    found = hashlib.sha256(data).hexdigest()
    if expected is not None and not hmac.compare_digest(found, expected):
        promised = "this is not the bundle that you were promised"
        problem = _LINE_ENDINGS if _sum_of_unix_lines(data) == expected else promised
        raise UnsafeBundleError(f"{path}: SHA-256 {found}; expected {expected}: {problem}")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: cannot be read ({error})") from error
    sums: dict[str, str] = {}
    # Not splitlines(): it ends lines at characters that are one bit away from a newline, too.
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        digest, name = _parse_sum(line.removesuffix("\r"), f"{path}: line {number}")
        if name in sums:
            raise BundleError(f"{path}: line {number}: {name} stands twice; expected a new name")
        sums[name] = digest
    return Sums(sums, found)


def read_member(members: Members, name: str, sums: Sums, most_bytes: int) -> bytes:
    """Read one listed file of a bundle and compare it with its sum.

    Raises:
        BundleError: missing, unreadable, too large, or changed since the bundle was written.
        UnsafeBundleError: no plain file.
    """
    try:
        data = members.read(name, most_bytes)
    except UnsafeBundleError:
        raise
    except BundleError as error:
        raise BundleError(f"{error}; {SUMS} lists it") from error
    found, listed = hashlib.sha256(data).hexdigest(), sums.by_name[name]
    if found != listed:
        damaged = "The file is damaged or was changed: copy or export the bundle again"
        raise BundleError(
            f"{members.folder / name}: SHA-256 differs: {found[:16]}... of {len(data)} bytes; {SUMS} says "
            f"{listed[:16]}... {_LINE_ENDINGS if _sum_of_unix_lines(data) == listed else damaged}"
        )
    return data


def write_sums(folder: Path) -> str:
    """Write SHA256SUMS over every other file of a folder, and return its own SHA-256."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.name != SUMS
    ]
    sums = "".join(lines).encode("ascii")
    (folder / SUMS).write_bytes(sums)
    return hashlib.sha256(sums).hexdigest()


def _sum_of_unix_lines(data: bytes) -> str:
    """Return the SHA-256 that a file has whose line endings were changed, once they are changed back."""
    changed_back = hashlib.sha256()
    # Piece by piece: there may be no room for a second copy of what a stranger gave for a graph.
    for start in range(0, len(data), _PIECE):
        piece, rest = data[start : start + _PIECE], data[start + _PIECE : start + _PIECE + 1]
        if piece[-1:] + rest == b"\r\n":
            piece = piece[:-1]
        changed_back.update(piece.replace(b"\r\n", b"\n"))
    return changed_back.hexdigest()


def _as_digest(given: str) -> str:
    digest = given.strip().lower() if isinstance(given, str) else ""
    if not _DIGEST.fullmatch(digest):
        raise InputError(
            f"expect_sha256 is {shown(given)}; expected 64 hexadecimal digits: the SHA-256 of the bundle's {SUMS}"
        )
    return digest


def _parse_sum(line: str, where: str) -> tuple[str, str]:
    match = _SUM_LINE.fullmatch(line)
    if match is None:
        raise BundleError(f"{where} is {line[:100]!r}; expected 64 hexadecimal digits, two spaces and a name")
    if not _SAFE_NAME.fullmatch(match[2]):
        raise UnsafeBundleError(
            f"{where} names {match[2][:100]!r}; expected the name of a file in the bundle's own folder"
        )
    return match[1], match[2]
