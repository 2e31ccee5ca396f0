# SPDX-License-Identifier: GPL-2.0-or-later
"""userfaultfd: pages that come slowly, pages that are to be moved away."""

from __future__ import annotations

import fcntl
import os
import select
import threading
import time
from typing import TYPE_CHECKING

from hil.conditions.base import Condition, tried
from hil.conditions.mapping import whole
from hil.errors import NotApplicableError
from hil.memory.base import HUGE, PAGE, fill, place
from hil.uapi import mm, userfaultfd

if TYPE_CHECKING:
    from hil.conditions.base import Scene
    from hil.pinners.base import PinResult

_FIONREAD = 0x541B
_DELAY = 0.1


def armed(scene: Scene, features: int = 0) -> int:
    """A userfaultfd that the buffer's pages, which are taken away, are to come from."""
    try:
        fd = userfaultfd.new(features=features)
    except OSError as error:
        raise NotApplicableError(f"userfaultfd: {error.strerror}") from error
    start, length = whole(scene)
    gave = tried(mm.madvise, start, length, mm.MADV_DONTNEED)
    if gave == "0":
        gave = tried(userfaultfd.register, fd, start, length)
    if gave != "0":
        raise NotApplicableError(f"this memory can't be watched for missing pages: {gave}")
    return fd


class SlowFault(Condition):
    name = "slow-userfault"
    summary = "the pages come from a userfaultfd handler that takes its time"
    holds = (
        "the answer is that for memory with a live handler; another ioctl on the node waits no "
        "longer than the fault does"
    )
    why = "videobuf2 holds the queue's lock while it pins; docs/rules: userfaultfd-handler"
    classes = ("anonymous", "thp", "hugetlb-2m-private")

    def before(self, scene: Scene) -> None:
        self.fd = armed(scene)
        scene.like("userfaultfd-handler")
        self.source = place(whole(scene)[1])
        fill(self.source, whole(scene)[1])
        self.served = threading.Event()
        self.done = threading.Event()

    def _serve(self, scene: Scene) -> None:
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while not self.done.is_set():
            if not poll.poll(10):
                continue
            time.sleep(_DELAY)
            size = HUGE if scene.cell.memory.startswith("hugetlb") else PAGE
            start, length = whole(scene)
            for fault in userfaultfd.faults(self.fd):
                self.served.set()
                if tried(userfaultfd.copy, self.fd, start, self.source, length) != "0":
                    page = fault // size * size
                    tried(userfaultfd.copy, self.fd, page, self.source + page - start, size)

    def pin(self, scene: Scene) -> PinResult:
        other: list[float] = []

        def ask() -> None:
            """Any ioctl that the driver's core handles under its locks, on the same descriptor."""
            time.sleep(_DELAY / 2)
            began = time.monotonic()
            tried(fcntl.ioctl, scene.session.fd, _FIONREAD, bytearray(4))
            scene.session.ask()
            other.append(time.monotonic() - began)

        server = threading.Thread(target=self._serve, args=(scene,), daemon=True)
        asker = threading.Thread(target=ask, daemon=True)
        server.start()
        asker.start()
        began = time.monotonic()
        result = scene.session.pin(scene.buffer)
        took = time.monotonic() - began
        asker.join(5.0)
        self.done.set()
        server.join(5.0)
        os.close(self.fd)  # what is missing now comes as ever
        scene.check("the other ioctl came back", bool(other), True, verdict="hang")
        scene.facts |= {
            "seconds": round(took, 3),
            "other_ioctl_seconds": round(other[0], 3) if other else None,
            "fault_served": self.served.is_set(),
        }
        return result


class Move(Condition):
    name = "uffdio-move"
    summary = "UFFDIO_MOVE asks for the first pinned page to be moved to another address"
    holds = "EBUSY: a pinned page stays where it is"
    why = "mm/userfaultfd.c move_present_ptes: folio_maybe_dma_pinned, EBUSY (adef440691ba, 6.8)"
    since = "6.8"
    classes = ("anonymous", "thp")

    def before(self, scene: Scene) -> None:
        try:
            self.fd = userfaultfd.new(features=userfaultfd.UFFD_FEATURE_MOVE)
        except OSError as error:
            raise NotApplicableError(f"userfaultfd with UFFDIO_MOVE: {error.strerror}") from error
        self.size = HUGE if scene.cell.memory == "thp" else PAGE
        self.target = place(self.size)
        userfaultfd.register(self.fd, self.target, self.size)

    def during(self, scene: Scene) -> None:
        start, _ = whole(scene)
        gave = tried(userfaultfd.move, self.fd, self.target, start, self.size)
        scene.check("UFFDIO_MOVE of a pinned page", gave, "EBUSY")
        os.close(self.fd)


USERFAULT: tuple[type[Condition], ...] = (SlowFault, Move)
