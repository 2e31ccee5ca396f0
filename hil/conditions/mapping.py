# SPDX-License-Identifier: GPL-2.0-or-later
"""The process changes the mapping of the pinned buffer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hil.conditions.base import Condition, tried
from hil.memory.base import PAGE, pattern, reserve, round_up
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.conditions.base import Scene

_KEEPS = "the device keeps the pages that it has: they are referenced; mm/gup.c, mm/memory.c"
_DEVICE_KEEPS = (
    "pins stay; the device goes on with the old pages: what it writes is not seen any more, what "
    "it reads is what was there before"
)


def whole(scene: Scene) -> tuple[int, int]:
    """The pages that the buffer touches: address and length."""
    start = scene.buffer.address // PAGE * PAGE
    return start, round_up(scene.buffer.address + scene.buffer.length - start, PAGE)


class DontNeed(Condition):
    name = "dontneed"
    alone = False
    summary = "MADV_DONTNEED on the pinned buffer"
    holds = f"private memory: {_DEVICE_KEEPS}; shared memory comes back as it was, the same pages"
    why = f"mm/madvise.c madvise_dontneed_single_vma (hugetlb since 5.18, EINVAL before); {_KEEPS}"
    may_lose = True

    def during(self, scene: Scene) -> None:
        shared = scene.shared
        gave = tried(mm.madvise, *whole(scene), mm.MADV_DONTNEED)
        scene.facts["MADV_DONTNEED"] = gave
        if gave == "0" and not shared:
            scene.lost()


class Unmap(Condition):
    name = "munmap"
    alone = False
    summary = "munmap of the pinned buffer"
    holds = _DEVICE_KEEPS
    why = _KEEPS
    may_lose = True

    def during(self, scene: Scene) -> None:
        mm.munmap(*whole(scene))
        scene.lost()


class MapOver(Condition):
    name = "mmap-over"
    alone = False
    summary = "other memory is mapped over the pinned buffer (MAP_FIXED)"
    holds = _DEVICE_KEEPS
    why = f"{_KEEPS}; videobuf2-core.c __prepare_userptr: same pointer and length, no new pin"
    may_lose = True

    def during(self, scene: Scene) -> None:
        address, length = whole(scene)
        flags = mm.MAP_PRIVATE | mm.MAP_ANONYMOUS | mm.MAP_FIXED
        mm.mmap(length, flags=flags, address=address)
        scene.buffer.write(bytes(min(scene.buffer.length, scene.session.length)))
        scene.lost()


class Remap(Condition):
    name = "mremap"
    alone = False
    summary = "mremap moves the pinned buffer's mapping to another address"
    holds = "the pages go along: pinned, the same frames, the same bytes, at the new address"
    why = "mm/mremap.c move_page_tables (hugetlb since 5.16, EINVAL before)"

    def during(self, scene: Scene) -> None:
        address, length = whole(scene)
        target = reserve(length)
        gave = tried(mm.mremap, address, length, target)
        scene.facts["mremap"] = gave
        if gave == "0":
            scene.buffer.moved_to = target + scene.buffer.address - address


class ProtectCycle(Condition):
    name = "mprotect-cycle"
    alone = False
    summary = "mprotect to read-only and back, then the process writes every page"
    holds = "the write goes to the device's page: no copy is made of a pinned page"
    why = (
        "mm/memory.c do_wp_page: PageAnonExclusive is reused (6c287605fd56, 5.19); before, "
        "a page with another reference was copied"
    )

    def during(self, scene: Scene) -> None:
        address, length = whole(scene)
        mm.mprotect(address, length, mm.PROT_READ)
        mm.mprotect(address, length, mm.PROT_RW)
        write_all(scene)


class ReadOnly(Condition):
    name = "mprotect-read-only"
    alone = False
    summary = "mprotect to read-only while the device has the buffer"
    why = "the pin was checked when it was made (mm/gup.c check_vma_flags); the device may go on"

    def during(self, scene: Scene) -> None:
        mm.mprotect(*whole(scene), mm.PROT_READ)


class ClearRefs(Condition):
    name = "clear-soft-dirty"
    summary = "4 written to /proc/self/clear_refs, then the process writes every page"
    holds = "the write goes to the device's page: soft-dirty tracking write-protects no pinned page"
    why = "fs/proc/task_mmu.c pte_is_pinned (9348b73c2e1b, 5.11 and 5.10.9)"

    def during(self, scene: Scene) -> None:
        Path("/proc/self/clear_refs").write_text("4")
        write_all(scene)


def write_all(scene: Scene) -> None:
    """Write the whole buffer as the process, with bytes that `fill` did not write."""
    scene.buffer.write(pattern(scene.buffer.length, start=41))


MAPPING: tuple[type[Condition], ...] = (
    DontNeed, Unmap, MapOver, Remap, ProtectCycle, ReadOnly, ClearRefs,
)  # fmt: skip
