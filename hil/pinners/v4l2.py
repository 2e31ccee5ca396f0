# SPDX-License-Identifier: GPL-2.0-or-later
"""V4L2 queues that take user pointers: VIDIOC_QBUF and VIDIOC_PREPARE_BUF with V4L2_MEMORY_USERPTR.

In videobuf2 both calls end in ``__prepare_userptr`` (drivers/media/common/videobuf2/
videobuf2-core.c), which pins unless the buffer has the same pointer and length as before.  Pins go
with another pointer, REQBUFS(0) or close, not with DQBUF or STREAMOFF.

There is one pinner for each node, kind of queue and call; a node with a queue in each direction
(memory to memory) has both directions in one pinner.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import os
from errno import EINVAL
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hil.cells import Direction
from hil.memory.base import pattern
from hil.pinners.base import Node, Pinner, PinResult, Session, Setting, Transfer
from hil.pinners.v4l2_data import PATIENCE, DataPath, wait
from hil.uapi import mm
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
    """An open node with USERPTR buffers; the memory under test is the last plane of the first.

    A driver may give more buffers than the one that is asked for: as many as it needs to stream.
    They get memory of their own when it does, and no sooner.
    """

    def __init__(self, node: Path, queue: Queue, call: str, path: DataPath | None = None) -> None:
        self._queue, self._path = queue, path
        self._companions: dict[int, list[mmap.mmap]] = {}
        self._patterns = 0
        self.call = call
        self.fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if path is not None:
                path.ready(self.fd)
            if queue.wanted is not None:
                uapi.set_format(self.fd, uapi.copy_format(queue.wanted))
            self.count = uapi.reqbufs(self.fd, queue.type, 1).count
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
        if not errno:
            self.extra_pages = max(self.extra_pages, self._companion_pages)
        return PinResult(self.call, errno, self._companion_pages)

    def free(self) -> None:
        uapi.reqbufs(self.fd, self._queue.type, 0)
        self.extra_pages = 0

    def renew(self) -> None:
        self.count = uapi.reqbufs(self.fd, self._queue.type, 1).count

    def ask(self) -> None:
        with contextlib.suppress(OSError):
            uapi.querybuf(self.fd, self._queue.type)

    def _fill(self, buffer: Buffer) -> None:
        """Write the pointer into struct v4l2_buffer: the kernel changes it at each call."""
        self._point(self._buffer, 0, buffer.address, buffer.length)

    def _point(self, it: Any, index: int, address: int, size: int) -> None:
        # A driver may refuse an output buffer that holds less than a frame; one that is too short
        # can't hold more than its length (__verify_length).
        used = min(self.length, size) if self._queue.type in uapi.OUTPUT_TYPES else 0
        it.flags = it.bytesused = 0
        if self._queue.type not in uapi.MULTI_PLANAR:
            it.m.userptr, it.length, it.bytesused = address, size, used
            return
        planes = it.kept
        memories = self._memory(index, self.lengths[:-1])
        for plane, memory, length in zip(planes, memories, self.lengths, strict=False):
            plane.m.userptr, plane.length, plane.bytesused = memory, length, length if used else 0
        last = planes[len(self.lengths) - 1]
        last.m.userptr, last.length, last.bytesused = address, size, used
        it.length = len(self.lengths)

    def _memory(self, index: int, lengths: tuple[int, ...]) -> list[int]:
        """The addresses of a buffer's planes other than that under test; always the same."""
        kept = self._companions.setdefault(index, [])
        for length in lengths[len(kept) :]:
            kept.append(mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        return [ctypes.addressof(ctypes.c_char.from_buffer(memory)) for memory in kept]

    def transfer(self, buffer: Buffer) -> Transfer | None:
        return None if self._path is None else self._path.transfer(self, buffer)

    @property
    def type(self) -> int:
        """The queue's buffer type."""
        return self._queue.type

    @property
    def path(self) -> DataPath | None:
        """How the queue's bytes are known."""
        return self._path

    def dequeue(self) -> None:
        uapi.dqbuf(self.fd, self._queue.type)

    def format(self) -> Any:
        """The queue's present format."""
        return uapi.get_format(self.fd, self._queue.type)

    def pattern(self, length: int) -> bytes:
        """Bytes that differ from page to page, from those of the last call, and from `fill`'s."""
        self._patterns += 1
        return pattern(length, start=83 * self._patterns)

    def start(self, buffer: Buffer, *, last: bool = False) -> None:
        """Queue the pinned ``buffer``, which is not pinned again, and all others; stream.

        It is the first of them, or the ``last``.
        """
        self.stop()  # what is queued comes back, its memory stays pinned
        queue = self._queue
        order = list(range(self.count))
        for index in [*order[1:], 0] if last else order:
            if index == 0:
                self._fill(buffer)
                uapi.qbuf(self.fd, self._buffer)
                continue
            planes = len(self.lengths)
            other = uapi.new_buffer(queue.type, index, uapi.V4L2_MEMORY_USERPTR, planes)
            self._point(other, index, self._memory(index, self.lengths)[-1], self.length)
            uapi.qbuf(self.fd, other)
        whole = sum(-(-length // PAGE) for length in self.lengths)
        self.extra_pages = self._companion_pages + (self.count - 1) * whole
        uapi.streamon(self.fd, queue.type)

    def wait(self, index: int = 0) -> Any:
        """Dequeue until the buffer ``index`` is done; TimeoutError, OSError with EIO."""
        while True:
            done = wait(self.fd, self._queue.type, PATIENCE, uapi.V4L2_MEMORY_USERPTR)
            if done.index == index:
                return done

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
        paths: dict[Direction, DataPath] | None = None,
    ) -> None:
        """``paths`` tell how the bytes of each queue are known; pinners of a queue share them."""
        self.name = name
        self.driver = node.driver
        self.node = Path(node.path)
        self.bus = node.bus
        self.allocator = node.allocator
        self.family = "vb2" if node.allocator == "unknown" else f"vb2-{node.allocator}"
        self.slow = slow
        # videobuf2-dma-sg.c vb2_dma_sg_get_userptr: whatever it gave, user space is told ENOMEM.
        self.answered = "vb2_create_framevec" if node.allocator == "dma-sg" else ""
        self.call = call
        self.queues = queues
        self.directions = tuple(queues)
        self.paths = paths or {}
        # PREPARE_BUF pins by the same function and lets go by the same; jobs have their own ones.
        self.meets_conditions = not slow and call == "VIDIOC_QBUF" and len(queues) == 1

    def facts(self, buffer: Buffer) -> dict[str, object]:
        """``unaligned``: not on cache lines, as videobuf2-dma-contig.c vb2_dc_get_userptr asks.

        ``bounced``: every transfer goes through swiotlb, whose runs are 256 KiB at the most.
        """
        if self.allocator == "dma-sg" and _bounced():
            return {"bounced": True}
        if self.allocator != "dma-contig":
            return {}
        return {"unaligned": bool((buffer.address | buffer.length) % _dma_alignment())}

    def open(self, direction: Direction) -> V4l2Session:
        return V4l2Session(self.node, self.queues[direction], self.call, self.paths.get(direction))

    def learn(self) -> dict[str, Any]:
        return {direction: path.learn() for direction, path in self.paths.items()}

    def recall(self, found: dict[str, Any]) -> None:
        for direction, path in self.paths.items():
            path.recall(found.get(direction, {"silent": f"{self.node} did not answer"}))

    def settings(self) -> list[Setting]:
        found: list[Setting] = []
        for direction, queue in self.queues.items():
            if queue.wanted is not None:
                what, format_ = f"format of queue {queue.type}", bytes(queue.present)
                found.append(Setting(self.node, what, uapi.VIDIOC_S_FMT, format_))
            if direction in self.paths:
                found += self.paths[direction].settings()
        return found


@functools.cache
def _bounced() -> bool:
    """Whether the machine was started so that each transfer is bounced (swiotlb=force)."""
    return "swiotlb=force" in Path("/proc/cmdline").read_text().split()


def _dma_alignment() -> int:
    """dma_get_cache_alignment() of this machine's kernel: 1 where DMA is coherent.

    x86 has no ARCH_DMA_MINALIGN; on arm and arm64 it is the cache line, 64 bytes on all that have a
    G2D (arch/arm/include/asm/cache.h, arch/arm64/include/asm/cache.h: cache_line_size).
    """
    return 64 if mm.machine() in ("aarch64", "arm") else 1
