# SPDX-License-Identifier: GPL-2.0-or-later
"""Page frames: which frame stands behind an address, in which zone, with which flags.

Rests on /proc/PID/pagemap (fs/proc/task_mmu.c), /proc/kpageflags (fs/proc/page.c) and
/proc/zoneinfo (mm/vmstat.c).  Frame numbers need CAP_SYS_ADMIN; without it pagemap shows frame 0
for every page.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

PAGE: int = os.sysconf("SC_PAGE_SIZE")
"""Bytes in a base page."""

PRESENT = 1 << 63
SWAPPED = 1 << 62
FILE_OR_SHARED = 1 << 61
EXCLUSIVE = 1 << 56
"""Mapped by this process only."""
FRAME_MASK = (1 << 55) - 1
FOUR_GIB = (4 << 30) // PAGE
"""As a frame number."""

# include/uapi/linux/kernel-page-flags.h from bit 0, include/linux/kernel-page-flags.h from bit 32
_PUBLIC = (
    "locked error referenced uptodate dirty lru active slab writeback reclaim buddy mmap anon "
    "swapcache swapbacked compound_head compound_tail huge unevictable hwpoison nopage ksm thp "
    "offline zero_page idle pgtable"
)
_PRIVATE = (
    "reserved mlocked owner_2 private private_2 owner_private arch uncached softdirty arch_2 arch_3"
)
FLAG_NAMES: dict[int, str] = dict(enumerate(_PUBLIC.split()))
FLAG_NAMES.update(enumerate(_PRIVATE.split(), start=32))


class Zone(NamedTuple):
    """A zone's span of frames: ``start`` is in it, ``end`` is not."""

    node: int
    """-1 where the kernel does not say."""
    name: str
    """As in /proc/zoneinfo: DMA, DMA32, Normal, HighMem, Movable; Device for ZONE_DEVICE."""
    start: int
    end: int

    @property
    def label(self) -> str:
        return f"{self.node}/{self.name}"


def parse_zoneinfo(text: str) -> list[Zone]:
    """The populated zones of /proc/zoneinfo; an empty zone has no start_pfn line."""
    found: list[Zone] = []
    node, name, spanned = -1, "", 0
    for line in text.splitlines():
        if line.startswith("Node"):
            where, _, name = line.partition(", zone")
            node, name = int(where[5:]), name.strip()
        elif "spanned" in line:
            spanned = int(line.split()[1])
        elif "start_pfn:" in line:
            start = int(line.split()[1])
            found.append(Zone(node, name, start, start + spanned))
    return found


def parse_iomem(text: str) -> list[Zone]:
    """Ranges of device memory in /proc/iomem: ZONE_DEVICE has no start_pfn line in /proc/zoneinfo.

    Memory that the kmem driver gave to the system (a "System RAM" inside) is in an ordinary zone.
    """
    found: list[Zone] = []
    for line in text.splitlines():
        span, _, name = line.partition(" : ")
        if line[0] != " ":
            if name.startswith("Persistent Memory"):
                first, _, last = span.partition("-")
                start, end = int(first, 16) // PAGE, (int(last, 16) + 1) // PAGE
                if end > 1:  # zeros without CAP_SYS_ADMIN
                    found.append(Zone(-1, "Device", start, end))
        elif name.startswith("System RAM") and found:
            first, _, last = span.strip().partition("-")
            if found[-1].start <= int(first, 16) // PAGE < found[-1].end:
                found.pop()
    return found


def parse_cma(text: str) -> int:
    """Pages in CMA areas by /proc/zoneinfo (its cma line is there from 5.11 on), 0 without CMA."""
    total = 0
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "cma":
            total += int(words[1])
    return total


_zones: list[Zone] | None = None
_cma: list[tuple[int, int]] | None = None
_pagemap: tuple[int, int] = (0, -1)
_kpageflags = -1


def zones() -> list[Zone]:
    """The zones of this machine, read once; `forget` after memory was added or taken away.

    Device memory comes first: the span of an ordinary zone may reach around it.  Ordinary spans
    overlap only where memory blocks were onlined out of order; then the first one is named.
    """
    global _zones, _cma  # noqa: PLW0603 - read once for the process
    if _zones is None:
        text = Path("/proc/zoneinfo").read_text()
        _cma = (_cma_areas() or _told_areas()) if parse_cma(text) else []
        try:
            devices = parse_iomem(Path("/proc/iomem").read_text())
        except OSError:
            devices = []
        _zones = devices + parse_zoneinfo(text)
    return _zones


def forget() -> None:
    """Drop the zone table, so that the next call reads it again."""
    global _zones  # noqa: PLW0603
    _zones = None


def zone_of(frame: int) -> Zone | None:
    """The zone that spans ``frame``; None for what is no memory, a PCI BAR say."""
    for zone in zones():
        if zone.start <= frame < zone.end:
            return zone
    return None


def _cma_areas(root: str = "/sys/kernel/debug/cma") -> list[tuple[int, int]]:
    """[start, end) frames of each CMA area, from debugfs (mm/cma_debug.c); empty without it."""
    areas: list[tuple[int, int]] = []
    for base in sorted(Path(root).glob("**/base_pfn")):
        # Since 6.15 an area has ranges/N/{base_pfn,bitmap}; `count` stays with the area.
        folder = base.parent
        count = folder / "count"
        if not count.exists():
            count = folder.parent.parent / "count"
        try:
            start = int(base.read_text())
            areas.append((start, start + int(count.read_text())))
        except (OSError, ValueError):
            continue
    return areas


def parse_reserved(lines: Iterable[str]) -> list[tuple[int, int]]:
    """[start, end) frames of each CMA area, by what the kernel says as it boots (mm/cma.c)."""
    areas: list[tuple[int, int]] = []
    for line in lines:
        words = line.partition("cma: Reserved ")[2].split()
        # "512 MiB at 0x0000000080000000 on node -1"
        if len(words) > 3 and words[1:3] == ["MiB", "at"]:
            start = int(words[3], 16) // PAGE
            areas.append((start, start + (int(words[0]) << 20) // PAGE))
    return areas


def _told_areas() -> list[tuple[int, int]]:
    """Distributions' kernels have no CONFIG_CMA_DEBUGFS: their log tells, as far as it is kept."""
    from hil.evidence.log import KernelLog

    return parse_reserved(KernelLog().lines(100_000))


def cma_areas() -> list[tuple[int, int]]:
    """[start, end) frames of the CMA areas that this kernel tells of."""
    zones()
    return _cma or []


def span(address: int, length: int) -> tuple[int, int]:
    """First page number and number of pages that [address, address+length) touches."""
    if length <= 0:
        return address // PAGE, 0
    first = address // PAGE
    return first, (address + length - 1) // PAGE - first + 1


def entries(address: int, length: int) -> array[int]:
    """The raw pagemap word of each page that [address, address+length) touches, of this process.

    One pread.  Zero for pages beyond the task's address space.
    """
    global _pagemap  # noqa: PLW0603
    pid = os.getpid()
    if _pagemap[0] != pid:  # after a fork the old descriptor shows the parent's memory
        _pagemap = (pid, os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC))
    first, count = span(address, length)
    words = array("Q")
    if count:
        data = os.pread(_pagemap[1], count * 8, first * 8)
        words.frombytes(data)
        if len(words) < count:
            words.extend([0] * (count - len(words)))
    return words


def frame_of(word: int) -> int | None:
    """The frame number in a pagemap word; None when the page is not present."""
    return word & FRAME_MASK if word & PRESENT else None


def swapped(word: int) -> bool:
    """True when the word is a swap entry (or a migration entry)."""
    return bool(word & SWAPPED)


def frames(address: int, length: int) -> list[int | None]:
    """The frame of each page that [address, address+length) touches; None where none is present."""
    return [w & FRAME_MASK if w & PRESENT else None for w in entries(address, length)]


def flag_word(frame: int) -> int:
    """The raw /proc/kpageflags word; KPF_NOPAGE for frames beyond it."""
    global _kpageflags  # noqa: PLW0603
    if _kpageflags < 0:
        _kpageflags = os.open("/proc/kpageflags", os.O_RDONLY | os.O_CLOEXEC)
    data = os.pread(_kpageflags, 8, frame * 8)
    return int.from_bytes(data, "little" if _LITTLE else "big") if data else 1 << 20


_LITTLE = array("H", [1]).tobytes()[0] == 1


def flags(frame: int) -> frozenset[str]:
    """The names of a frame's flags, lower case without KPF_: anon, thp, huge, ksm, zero_page, ...

    A frame that has no page, or is no online memory (ZONE_DEVICE), is ``nopage``.
    """
    return flag_names(flag_word(frame))


@lru_cache(maxsize=4096)
def flag_names(word: int) -> frozenset[str]:
    """The names in a /proc/kpageflags word; a bit with no known name is ``bitN``."""
    names = []
    while word:
        low = word & -word
        bit = low.bit_length() - 1
        names.append(FLAG_NAMES.get(bit) or f"bit{bit}")
        word ^= low
    return frozenset(names)


def describe_word(word: int) -> dict[str, Any] | None:
    """Frame, zone, node and flags behind a pagemap word; None when no page is present."""
    if not word & PRESENT:
        return None
    frame = word & FRAME_MASK
    zone = zone_of(frame)
    return {
        "frame": frame,
        "zone": zone.name if zone else None,
        "node": zone.node if zone else None,
        "flags": sorted(flags(frame)),
    }


def histogram(words: Iterable[int]) -> dict[str, int]:
    """Pages in each zone: {"1/Movable": 113}; ``none`` counts frames in no zone."""
    # Sorting once and cutting at the zones' borders stays cheap for the pages of a 1 GiB buffer.
    found = sorted([w & FRAME_MASK for w in words if w & PRESENT])
    counts: dict[str, int] = {}
    if not found:
        return counts
    rest = len(found)
    for zone in zones():
        if found[-1] < zone.start or found[0] >= zone.end:
            continue
        low, high = bisect_left(found, zone.start), bisect_left(found, zone.end)
        if high > low:
            counts[zone.label] = counts.get(zone.label, 0) + high - low
            del found[low:high]
            rest -= high - low
            if not found:
                break
    if rest:
        counts["none"] = rest
    return counts


def unsuitable(words: Iterable[int]) -> int:
    """Pages that must not be pinned for long: in ZONE_MOVABLE or in a known CMA area.

    ``folio_is_longterm_pinnable`` (include/linux/mm.h).
    """
    areas = [(z.start, z.end) for z in zones() if z.name == "Movable"] + cma_areas()
    if not areas:
        return 0
    return sum(
        1
        for w in words
        if w & PRESENT and any(start <= w & FRAME_MASK < end for start, end in areas)
    )


def neighbours(words: array[int]) -> bool:
    """Whether all pages are present and their frames follow one another."""
    if not words or not words[0] & PRESENT:
        return False
    first = words[0]
    if words == array("Q", range(first, first + len(words))):  # flags alike: the usual case
        return True
    frame = first & FRAME_MASK
    return all(
        word & PRESENT and word & FRAME_MASK == number for number, word in enumerate(words, frame)
    )


def describe(address: int, length: int, words: array[int] | None = None) -> dict[str, Any]:
    """The evidence of one moment: first and last page, and how many pages lie in which zone.

    ``contiguous`` tells whether all pages' frames follow one another.  ``words`` are pagemap words
    already at hand.  Pages that are not present are counted as
    ``absent``, those in swap as ``swapped``.
    """
    if words is None:
        words = entries(address, length)
    counts = histogram(words)
    missing = len(words) - sum(counts.values())
    found: dict[str, Any] = {
        "first": describe_word(words[0]) if words else None,
        "last": describe_word(words[-1]) if words else None,
        "zones": counts,
        "contiguous": neighbours(words),
    }
    if missing:
        in_swap = sum(1 for w in words if w & SWAPPED)
        found["absent"] = missing - in_swap
        found["swapped"] = in_swap
    return found
