# SPDX-License-Identifier: GPL-2.0-or-later
"""Reclaim is asked to take the pinned pages."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hil.cells import Direction
from hil.conditions.base import Condition, tried
from hil.errors import NotApplicableError
from hil.memory import proof
from hil.memory.base import PAGE, round_up
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.conditions.base import Scene
    from hil.pinners.base import Pinner
    from hil.pinners.v4l2 import V4l2Session

_NOT_SWAPPED = (
    "mm/vmscan.c shrink_folio_list: folio_maybe_dma_pinned, keep (feb889fb40fa, 5.11 and 5.10.9); "
    "file pages: the reference counts of the mapping do not add up"
)


def advised(scene: Scene, advice: int, name: str) -> None:
    """madvise on the whole buffer; what it gave is a fact."""
    start = scene.buffer.address // PAGE * PAGE
    length = round_up(scene.buffer.address + scene.buffer.length - start, PAGE)
    scene.facts[name] = tried(mm.madvise, start, length, advice)


def _check_kept(scene: Scene, kept: bytes) -> None:
    """What the process saw in the buffer must still be there."""
    now = scene.buffer.read(len(kept))
    wrong = sum(a != b for a, b in zip(kept, now, strict=True)) if now != kept else 0
    scene.check("bytes that reclaim lost after the release", wrong, 0, verdict="corrupt")


class PageOut(Condition):
    name = "pageout"
    alone = False
    summary = "MADV_PAGEOUT on the pinned buffer"
    why = _NOT_SWAPPED

    def during(self, scene: Scene) -> None:
        advised(scene, mm.MADV_PAGEOUT, "MADV_PAGEOUT")


class Cold(Condition):
    name = "cold"
    alone = False
    summary = "MADV_COLD on the pinned buffer: the first that reclaim would look at"
    why = "mm/madvise.c madvise_cold_or_pageout_pte_range: deactivates, unmaps nothing"

    def during(self, scene: Scene) -> None:
        advised(scene, mm.MADV_COLD, "MADV_COLD")


class Free(Condition):
    name = "madv-free"
    alone = False
    summary = "MADV_FREE, then MADV_PAGEOUT on the pinned buffer: its contents may be thrown away"
    why = f"mm/madvise.c madvise_free_single_vma (private anonymous memory only); {_NOT_SWAPPED}"

    def during(self, scene: Scene) -> None:
        advised(scene, mm.MADV_FREE, "MADV_FREE")
        advised(scene, mm.MADV_PAGEOUT, "MADV_PAGEOUT")


class DropCaches(Condition):
    name = "drop-caches"
    alone = False
    summary = "3 written to /proc/sys/vm/drop_caches"
    why = "mm/truncate.c mapping_evict_folio: a page with more references than the cache's stays"

    def during(self, scene: Scene) -> None:
        Path("/proc/sys/vm/drop_caches").write_text("3")


class PagedOutAfter(Condition):
    name = "pageout-after"
    alone = False
    summary = "MADV_PAGEOUT when the driver has given the buffer back"
    holds = (
        "what the device wrote is still there: a page that the driver did not mark dirty would "
        "come back from swap or file as it was before"
    )
    why = (
        "Documentation/core-api/pin_user_pages.rst: set_page_dirty_lock before unpin; "
        "frame_vector.c put_vaddr_frames, videobuf2-vmalloc.c vb2_vmalloc_put_userptr"
    )

    def before(self, scene: Scene) -> None:
        advised(scene, mm.MADV_PAGEOUT, "MADV_PAGEOUT before")

    def after(self, scene: Scene) -> None:
        kept = scene.arrived or scene.buffer.read(min(scene.buffer.length, 64 * mm.KIB))
        advised(scene, mm.MADV_PAGEOUT, "MADV_PAGEOUT after")
        sight = proof.Sight(scene.buffer.address, scene.buffer.length)
        scene.facts["swapped"] = sight.swapped
        _check_kept(scene, kept)


class FreedBetween(Condition):
    """What MADV_FREE leaves is writable, and dirty neither in the page table nor in the folio.

    Then only the driver's own word, at the release, tells reclaim that there is something to keep.
    """

    name = "freed-between"
    alone = False
    summary = (
        "MADV_FREE on the pinned buffer, a frame through it, and MADV_PAGEOUT when the driver has "
        "given it back"
    )
    holds = "what the device wrote is still there: the driver has marked the pages dirty"
    why = (
        "Documentation/core-api/pin_user_pages.rst: set_page_dirty_lock before unpin; mm/rmap.c "
        "try_to_unmap_one: a clean page of MADV_FREE is thrown away, a dirty one stays"
    )
    classes = ("anonymous", "thp")

    def concerns(self, pinner: Pinner) -> bool:
        from hil.pinners.v4l2 import V4l2Pinner

        fits = isinstance(pinner, V4l2Pinner) and Direction.CAPTURE in pinner.paths
        return fits and super().concerns(pinner)

    def verify(self, scene: Scene) -> None:
        self.kept = b""
        if scene.cell.direction != Direction.CAPTURE:
            raise NotApplicableError("the device writes nothing into an output buffer")
        session = cast("V4l2Session", scene.session)
        advised(scene, mm.MADV_FREE, "MADV_FREE")
        session.start(scene.buffer)
        session.wait()
        session.stop()
        self.kept = scene.buffer.read(min(scene.buffer.length, session.length))

    def after(self, scene: Scene) -> None:
        advised(scene, mm.MADV_PAGEOUT, "MADV_PAGEOUT after")
        _check_kept(scene, self.kept)


class SwappedOut(Condition):
    name = "swapped-out-before"
    alone = False
    summary = "MADV_PAGEOUT right before the pin, which has to bring the pages back"
    why = "mm/gup.c faultin_page: a swapped page is read in like for any access"

    def before(self, scene: Scene) -> None:
        advised(scene, mm.MADV_PAGEOUT, "MADV_PAGEOUT")
        sight = proof.Sight(scene.buffer.address, scene.buffer.length)
        scene.facts |= {"swapped": sight.swapped, "present": len(sight.frames)}


class SwapOff(Condition):
    name = "swapoff"
    summary = (
        "a swap file of its own is turned off, whose slots the pages had when they were pinned"
    )
    why = "mm/swapfile.c try_to_unuse: brings pages back by page tables, moves none"

    def before(self, scene: Scene) -> None:
        guard = scene.bench.guard
        if guard is None:
            raise NotApplicableError("no guard to turn the swap file off again")
        self.path = scene.bench.directory("ext4") / f"hil-swap-{os.getpid()}"
        guard.will_unlink(self.path)
        guard.will_swapoff(self.path)
        make_swap(self.path, round_up(scene.buffer.length, PAGE) + mm.MIB)
        mm.swapon(self.path, 30000)
        advised(scene, mm.MADV_PAGEOUT, "MADV_PAGEOUT")
        sight = proof.Sight(scene.buffer.address, scene.buffer.length)
        scene.facts["swapped"] = sight.swapped

    def during(self, scene: Scene) -> None:
        scene.check("swapoff", tried(mm.swapoff, self.path), "0", verdict="harness-error")
        self.path.unlink()


def make_swap(path: Path, size: int) -> None:
    """A swap file without holes: include/linux/swap.h union swap_header."""
    header = bytearray(PAGE)
    struct.pack_into("=III", header, 1024, 1, size // PAGE - 1, 0)
    header[-10:] = b"SWAPSPACE2"
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, header, 0)
        zeros = bytes(mm.MIB)
        for start in range(PAGE, size, len(zeros)):
            os.pwrite(fd, zeros[: size - start], start)
        os.fsync(fd)
    finally:
        os.close(fd)


RECLAIM: tuple[type[Condition], ...] = (
    PageOut, Cold, Free, DropCaches, PagedOutAfter, FreedBetween, SwappedOut, SwapOff,
)  # fmt: skip
