# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory-to-memory V4L2 nodes: both queues of one context, one open file (v4l2-mem2mem.c).

The buffer under test is on one queue.  The other end of a job is a buffer of the driver's own
(V4L2_MEMORY_MMAP), so that nothing else is pinned.  Formats belong to the open file.
"""

from __future__ import annotations

import mmap
import os
import select
import time
from errno import EAGAIN, EIO, ETIMEDOUT
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.cells import Direction
from hil.pinners.base import Node, PinResult, Session, Setting, Transfer
from hil.pinners.copied import copied
from hil.pinners.v4l2 import Queue, V4l2Pinner, V4l2Session
from hil.uapi import v4l2 as uapi

if TYPE_CHECKING:
    from hil.memory.base import Buffer

SIDES = {"": 32, "-4-pages": 64}
"""Sides of a square picture of 4 bytes a pixel: one page, and so many that they may lie apart."""

QBUF = "VIDIOC_QBUF"
COPIES = ("s5p-g2d",)
"""Drivers that copy a picture byte by byte where both queues have one format."""

_WAIT = 2.0
"""Seconds that a job may take."""


def sized(fd: int, type_: int, side: int) -> Any:
    """The queue's present pixel format with a square picture; OSError when it takes none."""
    wanted = uapi.get_format(fd, type_)
    pix = uapi.pix_format(wanted)
    pix.width = pix.height = side
    pix.bytesperline = pix.sizeimage = 0
    return uapi.try_format(fd, wanted)


class M2mSession(V4l2Session):
    """One context with both queues; its job is done when both buffers are back."""

    def __init__(self, node: Path, queue: Queue, other: Queue, call: str, *, copies: bool) -> None:
        self._other, self._copies = other, copies
        self._map: mmap.mmap | None = None
        self.begin = b""
        """What the picture begins with that the device copies into the buffer under test."""
        super().__init__(node, queue, call)
        try:
            if other.wanted is not None:
                uapi.set_format(self.fd, uapi.copy_format(other.wanted))
        except BaseException:
            self.release()
            raise

    @property
    def side(self) -> int:
        """Pixels of the picture's side."""
        return int(self._queue.wanted.fmt.pix.width)

    @property
    def captures(self) -> bool:
        """Whether the buffer under test is the one that the device writes."""
        return self._queue.type not in uapi.OUTPUT_TYPES

    def transfer(self, buffer: Buffer) -> Transfer | None:
        """Have the device copy between the buffer and its own."""
        if not self._copies:
            return None
        how = "copied between the queues, formats alike"
        return copied(
            buffer, self.lend(), self.length, self.run, how,
            capture=self.captures, begin=self.begin,
        )  # fmt: skip

    def select(self, width: int, height: int, top: int = 0) -> None:
        """Ask for a rectangle of the picture under test; OSError when the driver refuses it."""
        target = uapi.V4L2_SEL_TGT_COMPOSE if self.captures else uapi.V4L2_SEL_TGT_CROP
        uapi.set_selection(self.fd, self._queue.type, target, (0, top, width, height))

    def lend(self) -> mmap.mmap:
        """The mapped buffer at the other end of the job; OSError."""
        if self._map is None:
            type_, memory = self._other.type, uapi.V4L2_MEMORY_MMAP
            uapi.reqbufs(self.fd, type_, 1, memory)
            found = uapi.querybuf(self.fd, type_, 0, memory)
            self._map = mmap.mmap(self.fd, found.length, offset=found.m.offset)
            self._map.madvise(mmap.MADV_DONTFORK)  # a mapping holds the file
        return self._map

    def run(self) -> None:
        """Run one job on the queued buffer; OSError with ETIMEDOUT when it does not complete."""
        own, other = self._queue.type, self._other.type
        lent = uapi.new_buffer(other, 0, uapi.V4L2_MEMORY_MMAP)
        lent.length = lent.bytesused = len(self.lend())
        uapi.qbuf(self.fd, lent)
        uapi.streamon(self.fd, own)
        uapi.streamon(self.fd, other)
        self._dequeue({own: uapi.V4L2_MEMORY_USERPTR, other: uapi.V4L2_MEMORY_MMAP})

    def _dequeue(self, wanted: dict[int, int]) -> None:
        poll = select.poll()
        until = time.monotonic() + _WAIT
        for type_, memory in wanted.items():
            poll.register(self.fd, select.POLLOUT if type_ in uapi.OUTPUT_TYPES else select.POLLIN)
            while True:
                if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
                    raise OSError(ETIMEDOUT, f"no buffer of queue {type_} came back")
                try:
                    done = uapi.dqbuf(self.fd, type_, memory)
                except OSError as error:
                    if error.errno != EAGAIN or time.monotonic() > until:
                        raise
                    time.sleep(0.001)
                    continue
                break
            if done.flags & uapi.V4L2_BUF_FLAG_ERROR:
                raise OSError(EIO, f"queue {type_}: the buffer is marked as bad")

    def stop(self) -> None:
        uapi.streamoff(self.fd, self._queue.type)
        uapi.streamoff(self.fd, self._other.type)

    def release(self) -> None:
        """Formats are the context's own: with the file they go."""
        self._unmap()
        if self.fd < 0:
            return
        fd, self.fd = self.fd, -1
        try:
            for type_, memory in (
                (self._queue.type, uapi.V4L2_MEMORY_USERPTR),
                (self._other.type, uapi.V4L2_MEMORY_MMAP),
            ):
                uapi.streamoff(fd, type_)
                uapi.reqbufs(fd, type_, 0, memory)
        finally:
            os.close(fd)

    def abandon(self) -> None:
        self._unmap()
        super().abandon()

    def _unmap(self) -> None:
        if self._map is not None:  # a mapping holds the file
            self._map.close()
            self._map = None


class M2mPinner(V4l2Pinner):
    """One call on either queue of a context."""

    slow_conditions = True

    def __init__(self, node: Node, name: str, queues: dict[Direction, Queue], call: str = QBUF):
        super().__init__(node, name, queues, call=call)
        # A buffer of several pages is refused too often for what happens while it is held.
        self.meets_conditions = call == QBUF and self.side in (0, SIDES[""])

    def open(self, direction: Direction) -> M2mSession:
        own, other = self.queues[direction], self.queues[_OPPOSITE[direction]]
        return M2mSession(self.node, own, other, self.call, copies=self.driver in COPIES)

    def settings(self) -> list[Setting]:
        """Formats are the open file's: there is nothing to put back."""
        return []

    @property
    def side(self) -> int:
        """Pixels of the picture's side where it is a square that was asked for, else 0."""
        wanted = next(iter(self.queues.values())).wanted
        return 0 if wanted is None else int(wanted.fmt.pix.width)


_OPPOSITE = {Direction.CAPTURE: Direction.OUTPUT, Direction.OUTPUT: Direction.CAPTURE}


class AsItIsSession(Session):
    """A queue with the format that the driver has chosen itself; the call is VIDIOC_REQBUFS."""

    call = "VIDIOC_REQBUFS"

    def __init__(self, node: Path, type_: int) -> None:
        self.fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._type = type_
        pix = uapi.get_format(self.fd, type_).fmt.pix
        self.length = pix.sizeimage or pix.bytesperline * pix.height

    def pin(self, buffer: Buffer) -> PinResult:
        """Ask for a buffer, and queue it when there is one."""
        call = self.call
        try:
            uapi.reqbufs(self.fd, self._type, 1)
            call = "VIDIOC_QBUF"
            it = uapi.new_buffer(self._type, 0, uapi.V4L2_MEMORY_USERPTR)
            it.m.userptr, it.length = buffer.address, buffer.length
            it.bytesused = self.length if self._type in uapi.OUTPUT_TYPES else 0
            uapi.qbuf(self.fd, it)
        except OSError as error:
            return PinResult(call, error.errno or EIO, 0)
        return PinResult(call, 0, 0)

    def stop(self) -> None:
        uapi.streamoff(self.fd, self._type)

    def release(self) -> None:
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)


class AsItIsPinner(V4l2Pinner):
    """A node as it is after open, before any format was set."""

    memory = ("hugetlb-2m-private",)

    def __init__(self, node: Node, name: str, types: dict[Direction, int]) -> None:
        super().__init__(node, name, {}, call="VIDIOC_REQBUFS")
        self._types = types
        self.directions = tuple(types)

    def open(self, direction: Direction) -> AsItIsSession:  # type: ignore[override]
        return AsItIsSession(self.node, self._types[direction])
