# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc/self/smaps says of an address range (fs/proc/task_mmu.c).

Reading it walks every page table of the process: for a maker's proof, not for every cell.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Mapping(NamedTuple):
    """One VMA."""

    start: int
    end: int
    permissions: str
    offset: int
    device: str
    inode: int
    path: str
    sizes: dict[str, int]
    """The fields in kB: Rss, AnonHugePages, ShmemPmdMapped, FilePmdMapped, Private_Hugetlb, ..."""
    flags: frozenset[str]
    """VmFlags: wr, sh, pf (PFNMAP), io, mm (MIXEDMAP), ht, hg, lo, gu, ..."""


def parse_smaps(text: str, start: int, end: int) -> list[Mapping]:
    """The VMAs of a smaps text that overlap [start, end), in the order of addresses."""
    found: list[Mapping] = []
    sizes: dict[str, int] | None = None
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        if colon and " " not in name:
            if sizes is None:
                continue
            if rest.endswith("kB"):
                sizes[name] = int(rest[:-2])
            elif name == "VmFlags":
                found[-1] = found[-1]._replace(flags=frozenset(rest.split()))
            continue
        fields = line.split(None, 5)
        low, _, high = fields[0].partition("-")
        first, last = int(low, 16), int(high, 16)
        if first >= end:
            break
        if last <= start:
            sizes = None
            continue
        sizes = {}
        path = fields[5] if len(fields) > 5 else ""
        offset, device, inode = int(fields[2], 16), fields[3], int(fields[4])
        found.append(
            Mapping(first, last, fields[1], offset, device, inode, path, sizes, frozenset())
        )
    return found


def mappings(address: int, length: int) -> list[Mapping]:
    """The VMAs of this process that [address, address+length) touches."""
    text = Path("/proc/self/smaps").read_text(errors="replace")
    return parse_smaps(text, address, address + length)


def total(found: list[Mapping], field: str) -> int:
    """Sum of one field over VMAs, in kB; 0 where no VMA has it."""
    return sum(mapping.sizes.get(field, 0) for mapping in found)
