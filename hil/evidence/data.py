# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes on one side of the device against those on the other."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any

from hil.uapi import access

if TYPE_CHECKING:
    from hil.memory.base import Buffer
    from hil.pinners.base import Transfer

PAGE: int = mmap.PAGESIZE


def compare(sent: bytes, arrived: bytes, before: bytes = b"") -> dict[str, Any]:
    """How the two differ, for the evidence.

    ``bytes`` is how many were expected, ``corrupt_bytes`` how many are wrong or missing, and
    ``corrupt_pages`` in how many pages of the data; ``first_wrong`` is the offset of the first, in
    bytes, with eight bytes of either side from there.  Where all that arrived is what was there
    ``before``, nothing is corrupt: it came from, or went to, other pages (``stale``).
    """
    found: dict[str, Any] = {"bytes": len(sent), "corrupt_bytes": 0}
    if sent == arrived:
        return found
    if before and arrived == before:
        return {**found, "stale": True}
    both = min(len(sent), len(arrived))
    missing = abs(len(sent) - len(arrived))
    pages, wrong, first = 0, missing, both
    for start in range(0, both, PAGE):
        end = min(start + PAGE, both)
        one, other = sent[start:end], arrived[start:end]
        if one == other:  # most pages are alike, and comparing them whole is quick
            continue
        differ = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
        wrong += len(differ)
        pages += 1
        first = min(first, start + differ[0])
    found["corrupt_bytes"] = wrong
    found["corrupt_pages"] = pages + -(-missing // PAGE)
    found["first_wrong"] = first
    found["sent"] = sent[first : first + 8].hex()
    found["arrived"] = arrived[first : first + 8].hex()
    return found


def through(moved: Transfer) -> dict[str, Any]:
    """What came of bytes that went through the device: `compare`, and `unchanged` where need be."""
    found = compare(moved.sent, moved.arrived, moved.before)
    if not moved.known:
        found |= unchanged(moved.before, moved.arrived)
    return found


def unchanged(before: bytes, arrived: bytes) -> dict[str, Any]:
    """The pages that the device should have written and did not, for the evidence.

    Nobody knows what it writes, so a page counts as written when any byte of it has changed.
    """
    pages = [
        start
        for start in range(0, len(before), PAGE)
        if arrived[start : min(start + PAGE, len(before))] == before[start : start + PAGE]
    ]
    if not pages:
        return {}
    if len(pages) == -(-len(before) // PAGE):
        return {"stale": True}
    wrong = sum(min(PAGE, len(before) - start) for start in pages)
    return {"corrupt_bytes": wrong, "corrupt_pages": len(pages), "first_wrong": pages[0]}


class Surroundings:
    """The bytes of the first and last page that are not the buffer's: no device may write them."""

    def __init__(self, buffer: Buffer) -> None:
        start, end = buffer.address, buffer.address + buffer.length
        self._zones = [(start // PAGE * PAGE, start % PAGE), (end, -end % PAGE)]
        self._bytes = [_seen(address, length) for address, length in self._zones]

    def changed(self) -> int:
        """How many of them have changed; what the process may not look at can't be told."""
        count = 0
        for (address, length), before in zip(self._zones, self._bytes, strict=True):
            now = _seen(address, length)
            if before and now and now != before:
                count += sum(1 for a, b in zip(before, now, strict=True) if a != b)
        return count


def _seen(address: int, length: int) -> bytes:
    try:
        return access.peek(address, length)
    except OSError:
        return b""
