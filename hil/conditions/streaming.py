# SPDX-License-Identifier: GPL-2.0-or-later
"""The device streams, and between one frame and the next something happens to the memory.

Only with devices whose pictures are known (docs/boards/capture.md): each frame is compared whole.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from hil.cells import Direction
from hil.conditions.base import Condition
from hil.conditions.migrate import addresses
from hil.conditions.reclaim import advised
from hil.errors import NotApplicableError
from hil.evidence import frames
from hil.memory.anonymous import filled
from hil.memory.base import PAGE
from hil.pinners.v4l2 import V4l2Pinner, V4l2Session
from hil.pinners.v4l2_data import Lent
from hil.pinners.v4l2_picture import Pictured
from hil.pinners.v4l2_stream import pace, stream
from hil.uapi import mm
from hil.uapi import v4l2 as uapi

if TYPE_CHECKING:
    from hil.conditions.base import Scene
    from hil.pinners.base import Pinner

_HOLDS = "every byte of every frame is right; the buffer keeps its pages"
_STAYS = "mm/migrate.c folio_migrate_mapping: more references than expected, EAGAIN"


class Stream(Condition):
    """Frames through the buffer under test, one after another, while others are being written."""

    name = "stream"
    alone = False
    summary = "frames go through the buffer one after another; each is compared, then overwritten"
    holds = _HOLDS
    why = "videobuf2-core.c __prepare_userptr: the same pointer and length are not pinned again"
    classes: tuple[str, ...] = (
        "anonymous", "thp", "hugetlb-2m-private", "memfd", "anonymous-unaligned",
    )  # fmt: skip
    has_control = False
    frames = 16
    spoils = False
    """The frames must be seen to be spoilt: the control of the check itself."""

    def concerns(self, pinner: Pinner) -> bool:
        known = isinstance(pinner, V4l2Pinner) and isinstance(
            pinner.paths.get(Direction.CAPTURE), Pictured
        )
        return known and super().concerns(pinner)

    def verify(self, scene: Scene) -> None:
        session = scene.session
        assert isinstance(session, V4l2Session)
        try:
            found = stream(session, scene.buffer, self.frames, lambda: self.between(scene))
        finally:
            self.over(scene)
        scene.facts["stream"] = found
        if self.spoils:
            scene.check("frames are seen to be spoilt", found["bad"] > 0, True)
        else:
            scene.check("frames with wrong bytes", found["bad"], 0, verdict="corrupt")

    def between(self, scene: Scene) -> None:
        """When a frame has been looked at and the buffer is not queued."""

    def over(self, scene: Scene) -> None:
        """When the last frame was looked at."""


class StreamHundreds(Stream):
    name = "stream-hundreds"
    summary = "three hundred frames, or as many as five seconds give, each compared"
    frames = 300
    slow = True


class Throughput(Stream):
    """Speed beside correctness.  No verdict hangs on it: the machine may be busy."""

    name = "throughput"
    summary = "frames through the buffer, then as many with MMAP buffers, for their ratio"
    holds = "every byte of every frame is right; how quick either is, is evidence"
    why = "docs/boards/capture.md: what user memory costs beside the driver's own"
    classes = (
        "anonymous", "anonymous-unaligned", "thp", "hugetlb-2m-private", "memfd", "tmpfs",
        "ext4-private-untouched",
    )  # fmt: skip
    frames = 8
    paced = 100
    slow = True

    def end(self, scene: Scene) -> None:
        session = scene.session
        assert isinstance(session, V4l2Session)
        session.start(scene.buffer)
        own = pace(session, uapi.V4L2_MEMORY_USERPTR, self.paced)
        session.stop()
        session.free()
        scene.check_held("after the buffers were freed", 0)
        with Lent(session.fd, session.type, session.count) as lent:
            lent.start()
            other = pace(session, uapi.V4L2_MEMORY_MMAP, self.paced)
        ratio = round(own["fps"] / other["fps"], 3) if other["fps"] else None
        scene.facts["throughput"] = {"userptr": own, "mmap": other, "ratio": ratio}
        session.release()


class StreamFork(Stream):
    name = "stream-fork"
    alone = True
    slow = True
    summary = "a child is forked after each frame and lives until the next, while the parent writes"
    why = (
        "mm/memory.c copy_present_page: a pinned page is copied for the child at once "
        "(70e806e4e645, 5.9; 57efa1fe5957, 5.11 and 5.10.4); hugetlb since 4eae4efa2c29 (5.12)"
    )
    _child = 0

    def between(self, scene: Scene) -> None:
        self.over(scene)
        self._child = os.fork()
        if self._child == 0:
            try:
                scene.session.abandon()
                signal.pause()
            finally:
                os._exit(0)

    def over(self, scene: Scene) -> None:
        child, self._child = self._child, 0
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _elsewhere(scene: Scene) -> int:
    """A node with memory, ordinary or movable, that the buffer's first page is not on."""
    first = frames.frame_of(frames.entries(scene.buffer.address, 1)[0])
    here = None if first is None else frames.zone_of(first)
    for node in sorted({zone.node for zone in frames.zones() if zone.name != "Device"}):
        if node >= 0 and (here is None or node != here.node):
            return node
    raise NotApplicableError("one NUMA node only: nowhere to move pages to (numa=fake=2 makes two)")


class StreamMovePages(Stream):
    name = "stream-move-pages"
    summary = "move_pages(2) asks for another NUMA node after each frame; an unpinned buffer moves"
    why = _STAYS
    classes = ("anonymous", "memfd")

    def before(self, scene: Scene) -> None:
        self._node = _elsewhere(scene)

    def between(self, scene: Scene) -> None:
        _, statuses = mm.move_pages(addresses(scene), self._node)
        moved = sum(1 for status in statuses if status == self._node)
        scene.facts["moved"] = int(str(scene.facts.get("moved", 0))) + moved

    def over(self, scene: Scene) -> None:
        scene.check("pages that went to the other node", scene.facts.get("moved", 0), 0,
                    verdict="moved")  # fmt: skip
        control = filled(scene.buffer.length)
        before = frames.entries(control.address, control.length)
        pages = list(range(control.address, control.address + control.length, PAGE))
        mm.move_pages(pages, self._node)
        after = frames.entries(control.address, control.length)
        went = sum(1 for a, b in zip(before, after, strict=True)
                   if frames.frame_of(a) != frames.frame_of(b))  # fmt: skip
        scene.facts["control_moved"] = went
        control.close()
        if not went:
            raise NotApplicableError("an unpinned buffer does not move either: nothing is shown")


class StreamCompaction(Stream):
    name = "stream-compaction"
    summary = "1 written to /proc/sys/vm/compact_memory after each frame"
    why = f"mm/compaction.c isolate_migratepages_block; {_STAYS}"
    classes = ("anonymous", "memfd")
    frames = 8
    slow = True

    def between(self, scene: Scene) -> None:
        from pathlib import Path

        Path("/proc/sys/vm/compact_memory").write_text("1")


class StreamPageout(Stream):
    name = "stream-pageout"
    slow = True
    summary = "MADV_PAGEOUT on the buffer after each frame"
    why = "mm/vmscan.c shrink_folio_list: folio_maybe_dma_pinned, keep (feb889fb40fa, 5.11, 5.10.9)"
    classes = ("anonymous", "thp", "memfd")

    def between(self, scene: Scene) -> None:
        advised(scene, mm.MADV_PAGEOUT, "MADV_PAGEOUT")


class StreamDontNeed(Stream):
    """The positive control: a check that never fails shows nothing."""

    name = "stream-dontneed"
    summary = "MADV_DONTNEED on the buffer after each frame: the process gets other pages"
    holds = "frames must be seen to be spoilt, for the device keeps the pages that were pinned"
    why = "mm/madvise.c madvise_dontneed_single_vma; __prepare_userptr does not pin again"
    classes = ("anonymous",)
    spoils = True

    def between(self, scene: Scene) -> None:
        scene.lost()
        advised(scene, mm.MADV_DONTNEED, "MADV_DONTNEED")


STREAMING: tuple[type[Condition], ...] = (
    Stream, StreamHundreds, Throughput, StreamFork, StreamMovePages, StreamCompaction,
    StreamPageout, StreamDontNeed,
)  # fmt: skip
