"""SHA-256 sums as an attacker would mend them, and as `sha256sum -c` would check them; not by the project's code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fuzzer.target import AcceptedError, Files

SUMS = "SHA256SUMS"
STATE = "state.json"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def mended_bundle(files: Files) -> Files:
    """Return the files with SHA256SUMS written anew."""
    lines = [f"{sha256(data)}  {name}\n" for name, data in sorted(files.items()) if name != SUMS]
    return {**files, SUMS: "".join(lines).encode()}


def mended_checkpoint(files: Files) -> Files:
    """Return the files with the sums in the state written anew, where the state is still JSON of that form."""
    try:
        state = json.loads(files[STATE])
        sums = {name: sha256(data) for name, data in files.items() if name != STATE}
        state["sha256"] = sums
        sums[STATE] = sha256(json.dumps(state, sort_keys=True).encode())
    except (ValueError, TypeError, RecursionError):
        return files
    return {**files, STATE: json.dumps(state).encode()}


def require_right_bundle_sums(folder: Path, names: tuple[str, ...]) -> None:
    """Raise `AcceptedError` unless each file has the sum that SHA256SUMS says."""
    listed = dict(
        reversed(line.split("  ", 1))
        for line in (folder / SUMS).read_text("latin-1").replace(" *", "  ").splitlines()
        if "  " in line
    )
    for name in names:
        if listed.get(name) != sha256((folder / name).read_bytes()):
            raise AcceptedError(f"{name} was accepted, and its sum is not the one in {SUMS}")


def require_right_checkpoint_sums(folder: Path, names: tuple[str, ...]) -> None:
    """Raise `AcceptedError` unless each file has the sum that the state says."""
    state: Any = json.loads((folder / STATE).read_bytes())
    for name in names:
        if state["sha256"].get(name) != sha256((folder / name).read_bytes()):
            raise AcceptedError(f"{name} was accepted, and its sum is not the one in {STATE}")
