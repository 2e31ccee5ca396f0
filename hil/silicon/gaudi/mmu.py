# SPDX-License-Identifier: GPL-2.0-or-later
"""The card's MMU: five hops through tables in HBM (MMU v1.1, hl_mmu_v1.c)."""

from __future__ import annotations

import mmap
import struct

_HOPS = (  # shift, mask of the virtual address's bits
    (48, 0x3000000000000),
    (39, 0x0FF8000000000),
    (30, 0x0007FC0000000),
    (21, 0x000003FE00000),
    (12, 0x00000001FF000),
)
_PRESENT, _LAST, _ADDRESS = 0x1, 0x800, ~0xFFF & ((1 << 63) - 1)


class PageFaultError(Exception):
    """A virtual address that no table translates."""


class Mmu:
    """Translates for an address space (ASID) by the tables as they are at that moment.

    There is no translation cache: a page that was unmapped is gone at once.
    """

    def __init__(self, hbm: mmap.mmap) -> None:
        self._hbm = hbm
        self._roots: dict[int, int] = {}

    def reset(self) -> None:
        self._roots.clear()

    def set_root(self, asid: int, address: int) -> None:
        """Where in HBM the first table of an address space is."""
        self._roots[asid] = address

    def translate(self, asid: int, address: int) -> tuple[int, int]:
        """The device-physical address of a virtual one, and the bytes from there on in its page."""
        table = self._roots.get(asid)
        if table is None:
            raise PageFaultError(f"address space {asid} has no tables: {address:#x}")
        for shift, mask in _HOPS:
            place = table + 8 * ((address & mask) >> shift)
            (entry,) = struct.unpack_from("<Q", self._hbm, place)
            if not entry & _PRESENT:
                raise PageFaultError(f"nothing is mapped at {address:#x} (shift {shift})")
            table = entry & _ADDRESS
            if entry & _LAST or shift == 12:
                inside = address & ((1 << shift) - 1)
                return table + inside, (1 << shift) - inside
        raise AssertionError("the last hop always ends the walk")
