# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages are merged, split, collapsed; the pool of huge pages shrinks."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hil.conditions.base import Condition, tried
from hil.conditions.mapping import whole
from hil.errors import NotApplicableError
from hil.memory.base import HUGE, PAGE, pattern
from hil.system import hugepages, ksm
from hil.system.switches import switched, value
from hil.uapi import access, mm

if TYPE_CHECKING:
    from hil.conditions.base import Scene

_THP = "/sys/kernel/mm/transparent_hugepage"


class Merge(Condition):
    name = "ksm"
    summary = "the pinned pages, all alike, are MADV_MERGEABLE while ksmd runs at full speed"
    holds = "none is merged: no page moves, device and process see the same bytes"
    why = "mm/ksm.c write_protect_page: more references than mappings, skipped"

    def during(self, scene: Scene) -> None:
        if not Path(ksm.ROOT).is_dir():
            raise NotApplicableError(f"no samepage merging: needs CONFIG_KSM ({ksm.ROOT})")
        page = pattern(PAGE)
        scene.buffer.write(page * (scene.buffer.length // PAGE))
        rounds = int(value(f"{ksm.ROOT}/full_scans") or 0)
        with ksm.merging(scene.bench.guard):
            scene.facts["MADV_MERGEABLE"] = tried(mm.madvise, *whole(scene), mm.MADV_MERGEABLE)
            # Where nothing of the process can be merged, ksmd makes no round at all.
            until = time.monotonic() + (0.05 if scene.shared else 0.5)
            while int(value(f"{ksm.ROOT}/full_scans") or 0) < rounds + 3:
                if time.monotonic() > until:
                    break
                time.sleep(0.005)
        scene.facts["rounds"] = int(value(f"{ksm.ROOT}/full_scans") or 0) - rounds
        tried(mm.madvise, *whole(scene), mm.MADV_UNMERGEABLE)


class Split(Condition):
    name = "thp-split"
    alone = False
    summary = "the buffer is written to /sys/kernel/debug/split_huge_pages"
    holds = "a pinned folio is not split, nothing moves; its mapping may change to PTEs"
    why = "mm/huge_memory.c can_split_folio: more references than expected, EAGAIN (EBUSY to 6.1)"
    since = "5.13"

    def during(self, scene: Scene) -> None:
        file = Path("/sys/kernel/debug/split_huge_pages")
        if not file.exists():
            raise NotApplicableError(f"no {file}: mount debugfs, needs CONFIG_TRANSPARENT_HUGEPAGE")
        start, length = whole(scene)
        order = f"{os.getpid()},{start:#x},{start + length:#x}"
        scene.facts["split_huge_pages"] = tried(file.write_text, order)


def _surround(scene: Scene) -> None:
    """Have the buffer lie in 2 MiB of ordinary memory, all of it touched, that may become huge."""
    start, length = whole(scene)
    if scene.cell.memory != "anonymous" or length >= HUGE:
        return
    flags = mm.MAP_PRIVATE | mm.MAP_ANONYMOUS | mm.MAP_FIXED_NOREPLACE
    base = start // HUGE * HUGE
    for address, size in ((base, start - base), (start + length, base + HUGE - start - length)):
        if size:
            mm.mmap(size, flags=flags, address=address)
            mm.madvise(address, size, mm.MADV_NOHUGEPAGE)
            for page in range(address, address + size, PAGE):
                access.poke(page, b"x")
    mm.madvise(base, HUGE, mm.MADV_HUGEPAGE)


class Collapse(Condition):
    name = "madv-collapse"
    alone = False
    summary = "MADV_COLLAPSE on the 2 MiB that the pinned buffer lies in"
    holds = "pinned single pages are not collapsed: none moves"
    why = "mm/khugepaged.c __collapse_huge_page_isolate: SCAN_PAGE_COUNT"
    since = "6.1"

    def before(self, scene: Scene) -> None:
        _surround(scene)

    def during(self, scene: Scene) -> None:
        base = scene.buffer.address // HUGE * HUGE
        scene.facts["MADV_COLLAPSE"] = tried(mm.madvise, base, HUGE, mm.MADV_COLLAPSE)


class Khugepaged(Condition):
    name = "khugepaged"
    summary = "khugepaged scans at full speed; the pinned buffer lies in 2 MiB that may become huge"
    holds = "pinned single pages are not collapsed: none moves"
    why = "mm/khugepaged.c hpage_collapse_scan_pmd: SCAN_PAGE_COUNT"
    slow = True

    def before(self, scene: Scene) -> None:
        _surround(scene)

    def during(self, scene: Scene) -> None:
        if not value(f"{_THP}/enabled"):
            raise NotApplicableError(f"no {_THP}: needs CONFIG_TRANSPARENT_HUGEPAGE")
        scans = f"{_THP}/khugepaged/full_scans"
        wanted: dict[str, tuple[str, ...]] = {
            f"{_THP}/enabled": ("madvise", "always"),
            f"{_THP}/khugepaged/pages_to_scan": ("65536",),
            f"{_THP}/khugepaged/scan_sleep_millisecs": ("1",),
        }
        before = int(value(scans) or 0)
        with switched(scene.bench.guard, wanted):
            until = time.monotonic() + 1.0
            while int(value(scans) or 0) < before + 3 and time.monotonic() < until:
                time.sleep(0.01)
        scene.facts["rounds"] = int(value(scans) or 0) - before


class PoolShrinks(Condition):
    name = "hugepage-pool-shrinks"
    summary = "the pool of 2 MiB pages is set to none, and back"
    holds = "huge pages in use stay (as surplus): no page moves, none is given away"
    why = "mm/hugetlb.c set_max_huge_pages, adjust_pool_surplus"

    def during(self, scene: Scene) -> None:
        file = hugepages.folder(HUGE) / "nr_hugepages"
        if not value(file):
            raise NotApplicableError("no pool of 2 MiB pages: needs CONFIG_HUGETLBFS")
        with switched(scene.bench.guard, {str(file): ("0",)}):
            pool = hugepages.pool(HUGE)
            scene.facts["left"] = pool and pool.total


HUGE_PAGES: tuple[type[Condition], ...] = (Merge, Split, Collapse, Khugepaged, PoolShrinks)
