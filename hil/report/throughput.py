# SPDX-License-Identifier: GPL-2.0-or-later
"""What user memory costs beside a driver's own buffers: the cells that measured it, as bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Bar(NamedTuple):
    """One cell that streamed through user memory and through MMAP buffers of the same queue."""

    record: int
    """Which of the grid's records it is."""
    label: str
    ratio: float
    """Frames a second with user memory over those with MMAP."""
    told: str
    """Both, and the frames that each lost, in words."""

    @property
    def width(self) -> float:
        """Percent of the chart, whose right edge is twice as quick as MMAP."""
        return round(min(self.ratio, 2.0) * 50, 1)


def bars(records: Iterable[Mapping[str, Any]]) -> list[Bar]:
    """The bars of a run, slowest first; none where no cell measured."""
    found = []
    for number, record in enumerate(records):
        condition = (record.get("evidence") or {}).get("condition") or {}
        measured = (condition.get("facts") or {}).get("throughput") or {}
        ratio = measured.get("ratio")
        if not isinstance(ratio, int | float):
            continue
        own, other = measured.get("userptr") or {}, measured.get("mmap") or {}
        told = (
            f"{own.get('fps')} frames a second, {own.get('lost')} lost; "
            f"MMAP {other.get('fps')}, {other.get('lost')} lost"
        )
        label = f"{record['pinner']}, {record['memory']}"
        found.append(Bar(number, label, float(ratio), told))
    return sorted(found, key=lambda bar: (bar.ratio, bar.label))
