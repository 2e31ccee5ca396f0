# SPDX-License-Identifier: GPL-2.0-or-later
"""V4L2 queues that take user pointers: VIDIOC_QBUF and VIDIOC_PREPARE_BUF with V4L2_MEMORY_USERPTR.

In videobuf2 both calls end in ``__prepare_userptr`` (drivers/media/common/videobuf2/
videobuf2-core.c), which pins unless the buffer has the same pointer and length as before.  Pins go
with another pointer, REQBUFS(0) or close, not with DQBUF or STREAMOFF.

There is one pinner for each node, kind of queue and call; a node with a queue in each direction
(memory to memory) has both directions in one pinner.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from errno import EINVAL
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hil.cells import Direction
from hil.pinners.base import Node, Pinner, PinResult, Session
from hil.uapi import v4l2 as uapi

if TYPE_CHECKING:
    from hil.memory.base import Buffer

PAGE = mmap.PAGESIZE


class Queue(NamedTuple):
    """One queue as discovery found it."""

    type: int
    lengths: tuple[int, ...]
    """Least bytes of each plane."""
    wanted: Any
    """struct v4l2_format to set before use; None when the present one will do."""
    present: Any
    """The format to put back after ``wanted`` was set.

    It is discovery's: a session that was killed can't put anything back, the next one does.
    """
    prepares: bool
    """True when VIDIOC_PREPARE_BUF is there."""


class V4l2Session(Session):
    """An open node with one requested USERPTR buffer; the buffer under test is the last plane."""

    def __init__(self, node: Path, queue: Queue, call: str) -> None:
        self._queue = queue
        self._companions: list[mmap.mmap] = []
        self.call = call
        self.fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if queue.wanted is not None:
                uapi.set_format(self.fd, uapi.copy_format(queue.wanted))
            uapi.reqbufs(self.fd, queue.type, 1)
            # The driver's own word of this moment: somebody may have changed the format.
            lengths = uapi.plane_lengths(uapi.querybuf(self.fd, queue.type))
            self.lengths = lengths if all(lengths) else queue.lengths
        except BaseException:
            self.release()
            raise
        self.length = self.lengths[-1]
        self._buffer = uapi.new_buffer(queue.type, 0, uapi.V4L2_MEMORY_USERPTR, len(self.lengths))
        self._companion_pages = sum(-(-length // PAGE) for length in self.lengths[:-1])

    def pin(self, buffer: Buffer) -> PinResult:
        self._fill(buffer)
        call = uapi.prepare_buf if self.call == "VIDIOC_PREPARE_BUF" else uapi.qbuf
        errno = 0
        try:
            call(self.fd, self._buffer)
        except OSError as error:
            errno = error.errno or EINVAL
        return PinResult(self.call, errno, self._companion_pages)

    def _fill(self, buffer: Buffer) -> None:
        """Write the pointer into struct v4l2_buffer: the kernel changes it at each call."""
        it = self._buffer
        # A driver may refuse an output buffer that holds less than a frame; one that is too short
        # can't hold more than its length (__verify_length).
        used = min(self.length, buffer.length) if self._queue.type in uapi.OUTPUT_TYPES else 0
        it.flags = it.bytesused = 0
        if self._queue.type not in uapi.MULTI_PLANAR:
            it.m.userptr, it.length, it.bytesused = buffer.address, buffer.length, used
            return
        planes = it.kept
        if not self._companions:
            self._companions = [
                mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                for length in self.lengths[:-1]
            ]
        for plane, memory, length in zip(planes, self._companions, self.lengths, strict=False):
            plane.m.userptr = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            plane.length, plane.bytesused = length, length if used else 0
        last = planes[len(self.lengths) - 1]
        last.m.userptr, last.length, last.bytesused = buffer.address, buffer.length, used
        it.length = len(self.lengths)

    def stop(self) -> None:
        uapi.streamoff(self.fd, self._queue.type)

    def release(self) -> None:
        if self.fd < 0:
            return
        fd, self.fd = self.fd, -1
        try:
            try:
                uapi.reqbufs(fd, self._queue.type, 0)
            finally:
                if self._queue.wanted is not None:
                    uapi.set_format(fd, uapi.copy_format(self._queue.present))
        finally:
            os.close(fd)


class V4l2Pinner(Pinner):
    """One call on one kind of queue of a node."""

    def __init__(
        self,
        node: Node,
        name: str,
        queues: dict[Direction, Queue],
        *,
        call: str = "VIDIOC_QBUF",
        slow: bool = False,
    ) -> None:
        self.name = name
        self.driver = node.driver
        self.node = Path(node.path)
        self.bus = node.bus
        self.allocator = node.allocator
        self.family = "vb2" if node.allocator == "unknown" else f"vb2-{node.allocator}"
        self.slow = slow
        self.call = call
        self.queues = queues
        self.directions = tuple(queues)

    def open(self, direction: Direction) -> V4l2Session:
        return V4l2Session(self.node, self.queues[direction], self.call)
