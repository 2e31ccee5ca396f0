# SPDX-License-Identifier: GPL-2.0-or-later
"""Somebody asks the kernel to move the pages, while they are pinned or right before."""

from __future__ import annotations

import os
import time
from collections import Counter
from errno import errorcode
from pathlib import Path
from typing import TYPE_CHECKING

from hil.conditions.base import Condition, tried
from hil.conditions.mapping import whole
from hil.errors import NotApplicableError
from hil.evidence import frames
from hil.memory import proof
from hil.memory.base import PAGE, place
from hil.system import release
from hil.system.numa import prefer
from hil.system.switches import switched, value
from hil.uapi import access, mm

if TYPE_CHECKING:
    from hil.conditions.base import Scene

_STAYS = "no page moves: its frame is the same before and after"
_WHY = "mm/migrate.c folio_migrate_mapping: more references than expected, EAGAIN"


def other_node(scene: Scene) -> int:
    """A node with ordinary memory that the buffer's first page is not on."""
    ordinary = [z for z in frames.zones() if z.name in ("Normal", "DMA32") and z.node >= 0]
    nodes = sorted({zone.node for zone in ordinary})
    frame = frames.frame_of(frames.entries(scene.buffer.address, 1)[0])
    zone = None if frame is None else frames.zone_of(frame)
    for node in nodes:
        if zone is None or node != zone.node:
            return node
    raise NotApplicableError("one NUMA node only: nowhere to move pages to (numa=fake=2 makes two)")


def addresses(scene: Scene) -> list[int]:
    start, length = whole(scene)
    return list(range(start, start + length, PAGE))


class MovePages(Condition):
    name = "move-pages"
    alone = False
    summary = "move_pages(2) asks for the pinned pages to be on another NUMA node"
    holds = f"{_STAYS}; the call's statuses are evidence (5.10 returns 0 and leaves them unwritten)"
    why = f"{_WHY}; mm/migrate.c do_move_pages_to_node"

    def during(self, scene: Scene) -> None:
        node = other_node(scene)
        result, statuses = mm.move_pages(addresses(scene), node)
        named = Counter("unwritten" if s == -4096 else errorcode.get(-s, f"node {s}")
                        for s in statuses)  # fmt: skip
        scene.facts |= {"node": node, "not_moved": result, "statuses": dict(named)}
        moved = sum(1 for status in statuses if status == node)
        scene.check("pages that move_pages says are on the other node", moved, 0, verdict="moved")


class MovePagesAfter(Condition):
    """What holds a page without a pin shows only here: a reference that was never put."""

    name = "move-pages-after"
    alone = False
    summary = "move_pages(2) asks for the pages when the driver has given them back"
    holds = "every page moves to the other node: nobody refers to it any more but the process"
    why = f"{_WHY}; a page with a reference too many stays for ever"
    classes = ("anonymous", "thp", "memfd")
    _tries = 10

    def after(self, scene: Scene) -> None:
        node = other_node(scene)
        pages = addresses(scene)
        left = len(pages)
        # Lists of pages that a CPU is yet to sort refer to some for a while (mm/swap.c).
        for _ in range(self._tries):
            mm.move_pages(pages, node)
            there = map(frames.frame_of, frames.entries(scene.buffer.address, scene.buffer.length))
            zones = [None if frame is None else frames.zone_of(frame) for frame in there]
            left = sum(zone is not None and zone.node != node for zone in zones)
            if not left:
                break
            time.sleep(0.02)
        scene.facts |= {"node": node, "stayed": left}
        scene.check("pages that can't be moved after the release", left, 0, verdict="leak")


class MigratePages(Condition):
    name = "migrate-pages"
    summary = "migrate_pages(2) moves all of the process to another NUMA node"
    holds = _STAYS
    why = f"{_WHY}; mm/mempolicy.c do_migrate_pages"

    def during(self, scene: Scene) -> None:
        node = other_node(scene)
        nodes = sorted({zone.node for zone in frames.zones() if zone.node >= 0} - {node})
        scene.facts |= {"node": node, "not_moved": mm.migrate_pages(nodes, node)}


class Bind(Condition):
    name = "mbind-move"
    alone = False
    summary = "mbind(MPOL_BIND, MPOL_MF_MOVE | MPOL_MF_STRICT) binds the buffer to another node"
    holds = f"{_STAYS}; the call says EIO (MPOL_MF_STRICT)"
    why = f"{_WHY}; mm/mempolicy.c do_mbind: nr_failed and MPOL_MF_STRICT, EIO"

    def during(self, scene: Scene) -> None:
        node = other_node(scene)
        flags = mm.MPOL_MF_MOVE | mm.MPOL_MF_STRICT
        gave = tried(mm.mbind, *whole(scene), mm.MPOL_BIND, node, flags)
        scene.facts |= {"node": node, "mbind": gave}


class Compact(Condition):
    name = "compaction"
    summary = "memory is fragmented, then 1 written to /proc/sys/vm/compact_memory"
    holds = _STAYS
    why = f"mm/compaction.c isolate_migratepages_block: skips anonymous pages in use; {_WHY}"
    slow = True
    _size = 16 * mm.MIB

    def during(self, scene: Scene) -> None:
        address = place(self._size)
        mm.madvise(address, self._size, mm.MADV_NOHUGEPAGE)
        for page in range(address, address + self._size, PAGE):
            access.poke(page, b"x")
        for page in range(address, address + self._size, 2 * PAGE):
            mm.madvise(page, PAGE, mm.MADV_DONTNEED)
        before = _counted("compact_migrate_scanned")
        Path("/proc/sys/vm/compact_memory").write_text("1")
        scene.facts["compact_migrate_scanned"] = _counted("compact_migrate_scanned") - before
        mm.munmap(address, self._size)


class NumaBalancing(Condition):
    name = "numa-balancing"
    summary = "automatic NUMA balancing scans quickly while the process touches pages of a far node"
    holds = _STAYS
    why = (
        "mm/mprotect.c, mm/mempolicy.c folio_can_map_prot_numa: a page that may be pinned is left "
        "alone (80d47f5de5e3, 5.17 and 5.10.y)"
    )
    slow = True
    _switch = "/proc/sys/kernel/numa_balancing"
    _folder = "/sys/kernel/debug/sched/numa_balancing"

    def before(self, scene: Scene) -> None:
        if not value(self._switch):
            raise NotApplicableError(f"no {self._switch}: needs CONFIG_NUMA_BALANCING, two nodes")
        prefer(None)  # mm/mempolicy.c vma_policy_mof: with a policy of its own none is scanned
        node = other_node(scene)
        mm.move_pages(addresses(scene), node)
        scene.facts["node"] = node

    def during(self, scene: Scene) -> None:
        wanted: dict[str, tuple[str, ...]] = {}
        for name, text in (("scan_delay_ms", "1"), ("scan_period_min_ms", "10")):
            if value(f"{self._folder}/{name}"):
                wanted[f"{self._folder}/{name}"] = (text,)
        wanted[self._switch] = ("1",)
        before = _counted("numa_pte_updates")
        with switched(scene.bench.guard, wanted):
            # kernel/sched/fair.c init_numa_balancing: a new process is first scanned after the
            # delay that held when it was forked, a second, of its own CPU time.
            until, scanned = time.monotonic() + 7.0, 0.0
            while time.monotonic() < until:
                for _ in range(50):
                    scene.buffer.read(min(scene.buffer.length, 64 * mm.KIB))
                if not scanned and _counted("numa_pte_updates") > before:
                    scanned = time.monotonic()
                if scanned and time.monotonic() > scanned + 0.2:
                    break
        scene.facts["numa_pte_updates"] = _counted("numa_pte_updates") - before


class InMovable(Condition):
    name = "in-movable-zone"
    alone = False
    summary = "the pages are moved into ZONE_MOVABLE right before the pin"
    holds = "the pin brings them out again before it holds them; as steady from there on"
    why = "mm/gup.c check_and_migrate_movable_pages (d1e153fea2a8, 5.13)"
    since = "5.10"

    def before(self, scene: Scene) -> None:
        node = scene.bench.movable_node
        if node is None:
            raise NotApplicableError("no ZONE_MOVABLE: boot with kernelcore=1G, or online_movable")
        buffer = scene.buffer
        if proof.Sight(buffer.address, buffer.length).frames:
            mm.move_pages(addresses(scene), node)
        scene.facts["zones"] = proof.zone_names(buffer.address, buffer.length)


class HeldElsewhere(Condition):
    name = "held-by-splice"
    alone = False
    summary = "pages in ZONE_MOVABLE are also in a pipe (vmsplice), so that they can't be moved out"
    holds = "the pin is refused (ENOMEM; EFAULT where the first page was not the one), no pin leaks"
    why = (
        "mm/gup.c migrate_longterm_unpinnable_folios: what did not move is ENOMEM; 5.10.y pins in "
        "place (no FOLL_LONGTERM)"
    )
    classes = ("anonymous-movable", "memfd-movable", "thp-movable")

    def before(self, scene: Scene) -> None:
        self.pipe = os.pipe2(os.O_CLOEXEC)
        scene.facts["spliced"] = mm.vmsplice(self.pipe[1], scene.buffer.address, 4 * PAGE)
        if release.running() >= (5, 13):
            scene.refuse("ENOMEM", "EFAULT", because="a page that can't be moved may not stay")


class MemoryOffline(Condition):
    name = "memory-offline"
    summary = "the memory block that holds the first page is asked to go offline, for half a second"
    holds = "it does not go offline and does not hang: the request ends with an errno or by SIGKILL"
    why = (
        "mm/memory_hotplug.c offline_pages: tries again until a signal comes (EINTR), EBUSY for "
        "what can't be moved"
    )
    destructive = True
    slow = True

    def during(self, scene: Scene) -> None:
        frame = frames.frame_of(frames.entries(scene.buffer.address, 1)[0])
        folder = Path("/sys/devices/system/memory")
        if frame is None or not (folder / "block_size_bytes").exists():
            raise NotApplicableError(f"no memory blocks: needs CONFIG_MEMORY_HOTREMOVE ({folder})")
        size = int((folder / "block_size_bytes").read_text(), 16)
        state = folder / f"memory{frame * PAGE // size}" / "state"
        told, tell = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                os.write(tell, tried(state.write_text, "offline").encode())
            finally:
                os._exit(0)
        os.close(tell)
        ended = _ended(pid, 0.5)
        gave = os.read(told, 32).decode() if ended else "still trying"
        os.close(told)
        scene.facts |= {"block": state.parent.name, "offline": gave}
        if not ended:
            os.kill(pid, 9)
            scene.check("the request ends by SIGKILL", _ended(pid, 5.0), True, verdict="hang")
        now = state.read_text().strip()
        scene.check("the block", now, "online", "going-offline")
        if now == "offline":
            state.write_text("online")


class SoftOffline(Condition):
    name = "soft-offline"
    summary = "MADV_SOFT_OFFLINE of the first pinned page"
    holds = "refused: its contents can't be moved to another page"
    why = f"mm/memory-failure.c soft_offline_in_use_page: migration fails, EBUSY; {_WHY}"
    destructive = True

    def during(self, scene: Scene) -> None:
        start, _ = whole(scene)
        gave = tried(mm.madvise, start, PAGE, mm.MADV_SOFT_OFFLINE)
        if gave == "EINVAL":
            raise NotApplicableError("MADV_SOFT_OFFLINE: needs CONFIG_MEMORY_FAILURE")
        scene.check("MADV_SOFT_OFFLINE", gave, "EBUSY", "EIO", "EAGAIN", verdict="moved")


def _ended(pid: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.01)
    return False


def _counted(name: str) -> int:
    for line in Path("/proc/vmstat").read_text().splitlines():
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    return 0


MIGRATE: tuple[type[Condition], ...] = (
    MovePages, MovePagesAfter, MigratePages, Bind, Compact, NumaBalancing, InMovable, HeldElsewhere,
    MemoryOffline, SoftOffline,
)  # fmt: skip
