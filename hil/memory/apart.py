# SPDX-License-Identifier: GPL-2.0-or-later
"""Single pages whose frames are chosen: what a device without an IOMMU can and can't reach."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.evidence import frames
from hil.memory.anonymous import prove_single, single_pages
from hil.memory.base import PAGE, Buffer, fill, memory_class, place, round_up
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench

_AREAS = (8 * mm.MIB, 48 * mm.MIB)
"""Memory to choose from; freshly taken, much of it lies in runs.  The second if the first fails."""
_MOST = 8
"""Neighbours at the most: so many frames in a row are to be had anywhere."""
STRANGER = 0xC3
"""What the frames behind the first one are filled with."""


@memory_class("anonymous-apart", "single pages, no frame next to the one before")
def anonymous_apart(bench: Bench, length: int, direction: Direction) -> Buffer:
    """The frames behind the first page's are this process's as well: ``neighbours``.

    So a device that takes the buffer for one run does nobody else harm, and can be seen to do it.
    """
    length = round_up(length, PAGE)
    pages = length // PAGE
    behind = min(pages, _MOST)
    for size in _AREAS:
        owner = _owned(size)
        chosen = _choose(sorted(owner), pages, behind)
        if chosen is not None:
            break
    else:
        raise NotApplicableError(
            f"no {behind + 1} frames in a row in {size >> 20} MiB of fresh memory: free some"
        )
    first, others = chosen
    # Each page keeps its frame when it moves to its place in the buffer.
    address = place(length)
    for i, frame in enumerate((first, *others)):
        mm.mremap(owner[frame], PAGE, address + i * PAGE)
    fill(address, length)
    buffer = Buffer(address, length)
    buffer.neighbours = tuple(owner[first + i] for i in range(1, behind + 1))
    buffer.proof = prove_single(address, length)
    found = frames.frames(address, length)
    buffer.proof["frames"] = found
    return buffer


def _owned(size: int) -> dict[int, int]:
    """Fresh memory: frame -> the address where it is mapped."""
    area, _ = single_pages(size)
    ctypes.memset(area, STRANGER, size)
    # What a long-term pin would move elsewhere first is of no use here.
    return {word & frames.FRAME_MASK: area + i * PAGE
            for i, word in enumerate(frames.entries(area, size))
            if word & frames.PRESENT and not frames.unsuitable([word])}  # fmt: skip


def _choose(owned: list[int], pages: int, behind: int) -> tuple[int, list[int]] | None:
    """A frame with ``behind`` more behind it, and ``pages`` - 1 others, none of them in a row."""
    have = set(owned)
    first = next((f for f in owned if all(f + i in have for i in range(1, behind + 1))), None)
    if first is None:
        return None
    kept = set(range(first, first + behind + 1))
    others: list[int] = []
    before = first
    for frame in reversed(owned):  # from the top down no frame follows the one before
        if len(others) == pages - 1:
            break
        if frame not in kept and frame != before + 1:
            others.append(frame)
            before = frame
    return (first, others) if len(others) == pages - 1 else None
