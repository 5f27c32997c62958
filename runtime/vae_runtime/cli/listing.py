"""The shipped models, as their cards tell of them; nothing is opened for that but the files themselves."""

from __future__ import annotations

import shutil
import sys
from typing import Any

from vae_runtime.bundle import read_bundle, shipped_models
from vae_runtime.card import card_of
from vae_runtime.errors import printable
from vae_runtime.scan import scan

_HEADS = ("name", "images", "latents", "precision", "bytes", "licence", "trained on")


def list_shipped() -> list[dict[str, Any]]:
    """Return what is to be said of each shipped model, sorted by name.

    Raises:
        BundleError: one is damaged.
    """
    return [_entry(name) for name in shipped_models()]


def _entry(name: str) -> dict[str, Any]:
    bundle = read_bundle(name)
    source = f"{bundle.source}/decoder.onnx"
    card = card_of(scan(bundle.graphs["decoder"], source).metadata, "decoder", source)
    return {
        "name": name,
        "image_shape": list(card.image_shape),
        "latent_size": card.latent_size,
        "precision": card.precision,
        "bytes": sum(map(len, bundle.graphs.values())),
        "license": card.license,
        "data": card.data,
        "folder": bundle.source,
    }


def in_columns(entries: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a table, no longer than the terminal is wide where there is one; none of no entries."""
    if not entries:
        return []
    rows = [_HEADS, *map(_cells, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    if not sys.stdout.isatty():
        return list(lines)
    most = shutil.get_terminal_size().columns
    return [line if len(line) <= most else f"{line[: most - 3]}..." for line in lines]


def _cells(entry: dict[str, Any]) -> tuple[str, ...]:
    channels, height, width = entry["image_shape"]
    cells = (
        entry["name"],
        f"{height}x{width} {'gray' if channels == 1 else 'colour'}",
        str(entry["latent_size"]),
        entry["precision"],
        f"{entry['bytes']:,}",
        entry["license"] or "-",
        entry["data"] or "-",
    )
    return tuple(map(printable, cells))
