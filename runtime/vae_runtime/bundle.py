"""Finding a bundle by name or path, and reading its graphs: each file once, checked against its sum."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vae_runtime.errors import BundleError, InputError, shortened, shown
from vae_runtime.members import Members, unreadable
from vae_runtime.sums import SUMS, Sums, read_member, read_sums

ROLES = ("encoder", "decoder", "prior", "prior_inverse", "prior_density")
REQUIRED_ROLES = ("encoder", "decoder")
ROLES_OF_A_PRIOR = ("prior_inverse", "prior_density")
"""What is known of a prior besides: the way back from latents to noise, or no more than its density."""

MOST_MODEL_BYTES = 1 << 30
"""How large a graph's file may be unless the caller says otherwise."""

_PACKAGE = Path(__file__).resolve().parent
# In a wheel the shipped models lie inside the package; in a checkout they lie at its top.
_SHIPPED = (_PACKAGE / "models", _PACKAGE.parents[1] / "models")


@dataclass(frozen=True)
class Bundle:
    """The graphs of one bundle, read and checked."""

    source: str
    """Where it came from, for messages."""
    # Not in the repr: in a debugger that shows variables it would be megabytes.
    graphs: Mapping[str, bytes] = field(repr=False)
    """ONNX bytes by role: `encoder`, `decoder`, and `prior` where there is one, with what is known of it besides."""
    sha256: str = ""
    """SHA-256 of its SHA256SUMS, which fixes every file of the bundle; empty where it was not read from one."""


def shipped_models() -> dict[str, Path]:
    """Return the models that come with this installation: name to folder, sorted by name.

    Raises:
        EnvironmentProblem: the machine does not let folders be read, having too many files open.
    """
    found: dict[str, Path] = {}
    for parent in filter(Path.is_dir, reversed(_SHIPPED)):
        try:
            found |= {folder.name: folder for folder in parent.iterdir() if (folder / SUMS).is_file()}
        except OSError as error:
            raise unreadable(parent, error) from error
    return dict(sorted(found.items()))


def find_bundle(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the folder of a bundle. A shipped model's name goes before a folder of the same name.

    Raises:
        BundleError: neither a shipped name nor a folder with a bundle in it.
        InputError: no name, and no path.
    """
    shipped = shipped_models()
    if isinstance(name_or_path, str) and name_or_path in shipped:
        return shipped[name_or_path]
    path = _as_path(name_or_path)
    names = ", ".join(shipped) or "none"
    if not os.fspath(name_or_path):  # as a path it would be the folder that the process stands in
        raise InputError(
            f"the bundle's name is empty; expected a bundle's folder or a shipped model ({names})"
        )
    if not _exists(path):
        raise BundleError(
            f"{shortened(str(path))}: no such bundle; expected a bundle's folder or a shipped model ({names})"
            f"{_hint(path, shipped)}"
        )
    if not path.is_dir():
        raise _not_a_folder(path)
    if not _holds_sums(path):
        raise BundleError(
            f"{path}: not a bundle: it holds no {SUMS}; expected a folder that vae-export wrote, "
            f"or a shipped model ({names})"
        )
    return path


def open_bundle(name_or_path: str | os.PathLike[str], *, allow_links: bool = False) -> Members:
    """Return the files of a bundle, for a `with` block.

    Installers link packages' files from their caches. So links are let through in the shipped models, which
    are as trusted as the code beside them.

    Raises:
        BundleError: neither a shipped name nor a folder with a bundle in it.
    """
    folder = find_bundle(name_or_path)
    return Members(folder, allow_links=allow_links or folder.resolve().parent in _SHIPPED)


def read_bundle(
    name_or_path: str | os.PathLike[str],
    *,
    expect_sha256: str | None = None,
    allow_links: bool = False,
    max_model_bytes: int = MOST_MODEL_BYTES,
) -> Bundle:
    """Read a bundle's graphs, each once, and compare them with their SHA-256 sums.

    Args:
        name_or_path: a shipped model, or the folder of a bundle.
        expect_sha256: the SHA-256 that the bundle's SHA256SUMS must have, 64 hexadecimal digits.
        allow_links: let files through that are symbolic links or have other hard links.
        max_model_bytes: how large a graph's file may be.

    Raises:
        BundleError: no bundle, a graph missing, or one that is not the file that was written.
        UnsafeBundleError: a file that is no plain one, or not the bundle that was expected.
        InputError: an argument that is not what it should be.
    """
    with open_bundle(name_or_path, allow_links=allow_links) as members:
        sums = read_sums(members, expect_sha256)
        graphs = read_graphs(members, sums, max_model_bytes)
        return Bundle(str(members.folder), graphs, sums.sha256)


def read_graphs(members: Members, sums: Sums, max_model_bytes: int) -> dict[str, bytes]:
    """Return the bytes of a bundle's graphs by role.

    Raises:
        BundleError: one is missing, or is not the file that was written.
        InputError: `max_model_bytes` is not a whole number of at least 1.
    """
    if type(max_model_bytes) is not int or max_model_bytes < 1:
        raise InputError(
            f"max_model_bytes is {shown(max_model_bytes)}; expected a whole number of at least 1"
        )
    names = {role: f"{role}.onnx" for role in ROLES}
    missing = [names[role] for role in REQUIRED_ROLES if names[role] not in sums.by_name]
    if missing:
        raise BundleError(f"{members.folder / SUMS}: does not list {' and '.join(missing)}")
    lonely = [names[role] for role in ROLES_OF_A_PRIOR if names[role] in sums.by_name]
    if lonely and names["prior"] not in sums.by_name:
        raise BundleError(
            f"{members.folder / SUMS}: lists {' and '.join(lonely)} without {names['prior']}; expected the prior that "
            "it belongs to"
        )
    return {
        role: read_member(members, name, sums, max_model_bytes)
        for role, name in names.items()
        if name in sums.by_name
    }


def _hint(path: Path, shipped: Mapping[str, Path]) -> str:
    if str(path) in shipped:
        return f"; of a shipped model give the name alone, as text: {str(path)!r}"
    if path.parts[:1] == ("~",):
        return "; ~ is not expanded here: give os.path.expanduser(...)"
    return ""


def _as_path(name_or_path: str | os.PathLike[str]) -> Path:
    try:
        return Path(os.fsdecode(name_or_path))
    except TypeError as error:
        raise InputError(
            f"{shown(name_or_path)} is no bundle; expected the name of a shipped model or a folder's path"
        ) from error


def _not_a_folder(path: Path) -> BundleError:
    # A pipe or a device must not be looked into: that could wait for ever.
    if path.is_file():
        import zipfile

        if zipfile.is_zipfile(path):
            return BundleError(f"{path}: is a zip archive; unpack it first and give the folder")
    hint = f"; give its folder: {path.parent}" if (path.parent / SUMS).is_file() else ""
    return BundleError(f"{path}: is a file; expected a bundle's folder{hint}")


def _holds_sums(folder: Path) -> bool:
    try:
        (folder / SUMS).lstat()
    except FileNotFoundError:
        return False
    except OSError as error:  # such as a folder that others may not look into
        raise unreadable(folder, error) from error
    return True


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name longer than the file system takes
        return False
