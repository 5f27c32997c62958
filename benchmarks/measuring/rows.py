"""One measurement, and how it compares with the others of its group."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

_CALM = 1.5
"""A median further than this from the fastest turn was disturbed."""

Role = Literal["measured", "reference", "limit"]


@dataclass(frozen=True)
class Row:
    """One implementation in one group. Rows are compared only with rows of their group and device."""

    group: str
    """What is measured: "decode, batch 64"."""
    implementation: str
    device: str
    """`cpu` or `cuda`."""
    seconds: Sequence[float]
    """Of one call, a number for each turn; none where time is not what is measured."""
    images: int = 0
    """How many a call works on; 0 where that says nothing."""
    role: Role = "measured"
    """`reference` is what the others are compared with; `limit` is the machine's own arithmetic."""
    series: str = ""
    """`decode` or `encode` where the row is a point of a curve over the batch."""
    note: str = ""
    """What else was measured: memory, loss."""
    facts: dict[str, float] = field(default_factory=dict)
    """The same as numbers."""

    @property
    def median(self) -> float:
        """Seconds a call; NaN where it was not timed."""
        return statistics.median(self.seconds) if self.seconds else math.nan

    @property
    def per_image(self) -> float | None:
        """Seconds an image."""
        return self.median / self.images if self.images and self.seconds else None

    @property
    def was_disturbed(self) -> bool:
        """Whether something else ran in at least half of the turns: their median says little then."""
        return bool(self.seconds) and self.median > _CALM * min(self.seconds)


def grouped(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Return the rows by device and group, in the order in which they were measured."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.device, row.group), []).append(row)
    return groups


def times_reference(row: Row, group: Sequence[Row]) -> float | None:
    """Return how many times as fast as the group's reference a row is."""
    return _times(row, group, "reference")


def share_of_limit(row: Row, group: Sequence[Row]) -> float | None:
    """Return which part of the machine's own rate a row reaches."""
    return _times(row, group, "limit")


def to_record(row: Row, group: Sequence[Row]) -> dict[str, Any]:
    """Return a row as plain values, for JSON."""
    return {
        "group": row.group,
        "implementation": row.implementation,
        "device": row.device,
        "role": row.role,
        "images": row.images,
        "median_seconds": row.median if row.seconds else None,
        "fastest_seconds": min(row.seconds, default=None),
        "slowest_seconds": max(row.seconds, default=None),
        "turns": len(row.seconds),
        "disturbed": row.was_disturbed,
        "seconds_per_image": row.per_image,
        "times_reference": times_reference(row, group),
        "share_of_limit": share_of_limit(row, group),
        **row.facts,
    }


def times_as_fast(row: Row, other: Row) -> float | None:
    """Return how many times as fast as another a row is: the median over turns that were taken side by side.

    By image where both work on images, so that a slow way need not be measured on as many.
    """
    by_image = row.images > 0 and other.images > 0
    scale = row.images / other.images if by_image else 1.0
    if not row.seconds or not other.seconds:
        return None
    if len(row.seconds) != len(other.seconds):
        return scale * other.median / row.median
    return scale * statistics.median(b / a for a, b in zip(row.seconds, other.seconds, strict=True))


def _times(row: Row, group: Sequence[Row], role: Role) -> float | None:
    base = next((other for other in group if other.role == role), None)
    return None if base is None else times_as_fast(row, base)
