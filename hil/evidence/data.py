# SPDX-License-Identifier: GPL-2.0-or-later
"""Bytes on one side of the device against those on the other."""

from __future__ import annotations

import mmap
from typing import Any

PAGE: int = mmap.PAGESIZE


def compare(sent: bytes, arrived: bytes) -> dict[str, Any]:
    """How the two differ, for the evidence.

    ``bytes`` is how many were expected, ``corrupt_bytes`` how many are wrong or missing, and
    ``corrupt_pages`` in how many pages of the data; ``first_wrong`` is the offset of the first, in
    bytes, with eight bytes of either side from there.
    """
    found: dict[str, Any] = {"bytes": len(sent), "corrupt_bytes": 0}
    if sent == arrived:
        return found
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
