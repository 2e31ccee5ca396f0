# SPDX-License-Identifier: GPL-2.0-or-later
"""Private anonymous memory in transparent huge pages of 2 MiB."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.memory import proof
from hil.memory.base import HUGE, PAGE, Buffer, buffer_of, fill, memory_class, place, round_up
from hil.system.switches import switched, value
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench

_TOP = "/sys/kernel/mm/transparent_hugepage"


def _wanted() -> dict[str, tuple[str, ...]]:
    wanted: dict[str, tuple[str, ...]] = {f"{_TOP}/enabled": ("madvise", "always")}
    own = f"{_TOP}/hugepages-{HUGE >> 10}kB/enabled"  # 6.8
    if value(own):
        wanted[own] = ("inherit", "madvise", "always")
    return wanted


def huge_pages(bench: Bench, count: int) -> Buffer:
    """``count`` transparent huge pages in a row, each mapped by a PMD, with nothing written yet.

    Three tries: a page fault, one more after compaction, and MADV_COLLAPSE (6.1).
    """
    if not value(f"{_TOP}/enabled"):
        raise NotApplicableError(
            "no transparent huge pages: needs CONFIG_TRANSPARENT_HUGEPAGE on a machine that has "
            f"them ({_TOP} is not there)"
        )
    length = count * HUGE
    with switched(bench.guard, _wanted()):
        for attempt in ("fault", "compaction", "MADV_COLLAPSE"):
            buffer = buffer_of(place(length), length)
            if attempt == "compaction" and bench.guard is not None:
                with contextlib.suppress(OSError):
                    Path("/proc/sys/vm/compact_memory").write_text("1")
            mm.madvise(buffer.address, length, mm.MADV_HUGEPAGE)
            for start in range(0, length, HUGE):
                ctypes.memset(buffer.address + start, 0, 1)
            if attempt == "MADV_COLLAPSE":
                with contextlib.suppress(OSError):
                    mm.madvise(buffer.address, length, mm.MADV_COLLAPSE)
            try:
                buffer.proof = prove(buffer.address, length)
            except NotApplicableError:
                buffer.close()
                if attempt == "MADV_COLLAPSE":
                    raise
            else:
                buffer.proof["made_by"] = attempt
                return buffer
    raise AssertionError("unreachable")


def prove(address: int, length: int) -> dict[str, object]:
    return proof.huge_mapped(
        address,
        length,
        "AnonHugePages",
        "transparent huge pages (the rest of memory may be fragmented)",
    )


@memory_class("thp", "whole transparent huge pages of 2 MiB")
def thp(bench: Bench, length: int, direction: Direction) -> Buffer:
    count = round_up(length, HUGE) // HUGE
    buffer = huge_pages(bench, count)
    fill(buffer.address, length)
    buffer.length = count * HUGE
    return buffer


@memory_class("thp-part", "part of a transparent huge page, not on a page's border")
def thp_part(bench: Bench, length: int, direction: Direction) -> Buffer:
    offset = 5 * PAGE + 0x300
    buffer = huge_pages(bench, round_up(offset + length, HUGE) // HUGE)
    fill(buffer.address, offset + length)
    buffer.address, buffer.length = buffer.address + offset, length
    buffer.proof["offset_in_huge_page"] = offset
    return buffer


@memory_class("thp-two", "across the border of two transparent huge pages")
def thp_two(bench: Bench, length: int, direction: Direction) -> Buffer:
    length = round_up(length, PAGE)
    # As much in the first page as in those after it, but no more than fits.
    before = min(round_up(length // 2, PAGE), HUGE)
    before = max(before, PAGE)
    length = max(length, 2 * PAGE)
    count = 1 + round_up(length - before, HUGE) // HUGE
    buffer = huge_pages(bench, count)
    start = buffer.address + HUGE - before
    fill(start, length)
    buffer.address, buffer.length = start, length
    buffer.proof["bytes_in_first"] = before
    return buffer
