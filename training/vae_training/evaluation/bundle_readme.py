"""The README.md of a bundle, the model's card for people, with the table of what was measured."""

from __future__ import annotations

import re
from pathlib import Path

from vae_runtime.atomic import atomic_folder
from vae_runtime.bundle import MOST_MODEL_BYTES, find_bundle, open_bundle, shipped_models
from vae_runtime.errors import BundleError
from vae_runtime.sums import SUMS, read_member, read_sums, write_sums

README = "README.md"
HEADING = "## Evaluation"

# Behind what the card tells of the training, where there is such a card.
_STANDS_BEFORE = "## Parity with PyTorch"
_SECTION = re.compile(rf"^{HEADING}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def find_writable_bundle(source: str) -> Path:
    """Return the folder of a bundle whose README.md can be written.

    Raises:
        BundleError: a shipped model's name, no bundle, a bundle that is damaged, or one with files beside its own.
    """
    if source in shipped_models():
        raise BundleError(
            f"{source} is a shipped model, whose README.md is not written; expected a bundle's folder"
        )
    folder = find_bundle(source).resolve()
    _read_all(folder)
    return folder


def write_evaluation(folder: Path, section: str, *, measured: str) -> str:
    """Write a section into a bundle's README.md, in the place of the one before, and the sums anew.

    The folder is replaced by a new one at once, so that it fits its sums at any time.

    Args:
        folder: of the bundle.
        section: Markdown, without its heading.
        measured: the SHA-256 of SHA256SUMS of the bundle that the section is about.

    Returns:
        The SHA-256 of the new SHA256SUMS.

    Raises:
        UnsafeBundleError: the bundle is not the one that was measured.
        BundleError: it is damaged, or has files beside its own.
        EnvironmentProblem: disk full, read-only or out of quota.
    """
    files = _read_all(folder, measured)
    text = files.get(README, f"# {folder.name}\n".encode()).decode("utf-8", errors="replace")
    files[README] = _with_section(text, section).encode()
    with atomic_folder(folder, overwrite=True) as beside:
        for name, data in files.items():
            (beside / name).write_bytes(data)
        return write_sums(beside)


def _read_all(folder: Path, measured: str | None = None) -> dict[str, bytes]:
    """Return every file of a bundle by its name, but SHA256SUMS."""
    with open_bundle(folder) as members:
        sums = read_sums(members, measured)
        strangers = [name for name in members.names() if name not in sums.by_name and name != SUMS]
        if strangers:
            raise BundleError(
                f"{folder}: holds {', '.join(strangers[:3])}, which {SUMS} does not list and a new README.md would "
                "take away; move what is not of the bundle elsewhere"
            )
        return {name: read_member(members, name, sums, MOST_MODEL_BYTES) for name in sums.by_name}


def _with_section(text: str, section: str) -> str:
    whole = f"{HEADING}\n\n{section.strip()}\n\n"
    rest = _SECTION.sub("", text)
    before, found, after = rest.partition(_STANDS_BEFORE)
    return f"{before}{whole}{found}{after}" if found else f"{rest.rstrip()}\n\n{whole.rstrip()}\n"
