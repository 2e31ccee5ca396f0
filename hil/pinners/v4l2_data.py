# SPDX-License-Identifier: GPL-2.0-or-later
"""What went through a V4L2 queue, against what should have.

A capture device is asked for two frames with MMAP buffers first, which no user memory is involved
in.  Where they are equal the device shows a still picture, and each later frame in user memory must
be that one, byte for byte.  Where they differ (a camera without a test pattern of its own), a frame
only must replace what was in the buffer, in every page, and must end where the buffer's frame ends.
"""

from __future__ import annotations

import base64
import contextlib
import mmap
import os
import select
import time
from collections.abc import Iterator
from errno import EFAULT, EIO, ETIMEDOUT
from typing import TYPE_CHECKING, Any

from hil.errors import NotApplicableError
from hil.memory.base import PAGE, round_up
from hil.pinners.base import Setting, Transfer
from hil.uapi import v4l2 as uapi
from hil.uapi import v4l2_controls as controls

if TYPE_CHECKING:
    from pathlib import Path

    from hil.memory.base import Buffer
    from hil.pinners.v4l2 import Queue, V4l2Session

PATIENCE = 2.0
"""Seconds that a frame may take."""
_TAIL = 2 * PAGE
"""Bytes behind the frame, as far as the buffer goes, that are looked at too."""


class DataPath:
    """How the bytes of one queue are known.  One object for each queue, made by discovery."""

    def ready(self, fd: int) -> None:
        """Bring an open node to where its bytes are known, before buffers are asked for."""

    def learn(self) -> dict[str, Any]:
        """Look at the device once, before the first cell, in a process of its own; JSON."""
        return {}

    def recall(self, found: dict[str, Any]) -> None:
        """Take over what `learn` found."""

    def settings(self) -> list[Setting]:
        """See `Pinner.settings`."""
        return []

    def transfer(self, session: V4l2Session, buffer: Buffer) -> Transfer:
        """See `Session.transfer`."""
        raise NotImplementedError


class Capture(DataPath):
    """A queue that writes frames.

    ``wanted`` are control values that make its picture a still one, where the driver has such.
    """

    def __init__(self, node: Path, queue: Queue, wanted: dict[int, int] | None = None) -> None:
        self.node, self.queue = node, queue
        self.wanted = wanted or {}
        self.picture: bytes | None = None
        """The frame's last plane; None where no two frames are alike."""
        self.silent = ""
        """Why there are no frames at all."""

    def ready(self, fd: int) -> None:
        for identity, value in self.wanted.items():
            controls.set_control(fd, identity, value)

    def settings(self) -> list[Setting]:
        if not self.wanted:
            return []
        fd = os.open(self.node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return [
                Setting(
                    self.node, f"control {identity:#x}", controls.VIDIOC_S_CTRL,
                    bytes(controls.Control(identity, controls.get_control(fd, identity))),
                )
                for identity in self.wanted
            ]  # fmt: skip
        finally:
            os.close(fd)

    def learn(self) -> dict[str, Any]:
        try:
            with opened(self.node, self.queue, self) as fd:
                one, other = frames(fd, self.queue.type, 2)
        except OSError as error:
            return {"silent": f"{self.node} gives no frame with MMAP buffers: {error.strerror}"}
        return {"picture": base64.b64encode(one).decode() if one == other else None}

    def recall(self, found: dict[str, Any]) -> None:
        text = found.get("picture")
        self.picture = base64.b64decode(text) if text else None
        self.silent = str(found.get("silent", ""))

    def transfer(self, session: V4l2Session, buffer: Buffer) -> Transfer:
        if self.silent:
            raise NotApplicableError(self.silent)
        size = min(buffer.length, round_up(session.length, PAGE) + _TAIL)
        # Behind the frame's plane the buffer stays as it was when it was mapped: a bounce buffer
        # (swiotlb) brings that back with the frame.
        before = _filled(buffer, session.pattern(min(size, session.length)), size)
        session.start(buffer)
        try:
            done = session.wait()
        finally:
            session.stop()
        if before is None:
            raise NotApplicableError("the process can't look at what the device wrote")
        return self.compared(session, before, buffer.read(size), bytes_used(done))

    def compared(self, session: V4l2Session, before: bytes, arrived: bytes, used: int) -> Transfer:
        """What must have arrived where ``before`` was, ``used`` bytes of it a frame."""
        if self.picture is not None:
            how = "the frame that MMAP buffers get, and nothing behind it"
            return Transfer(self.picture + before[len(self.picture) :], arrived, how, before)
        # All of the buffer may be written: its plane is as long as the process says (vb2_plane_size
        # of a user pointer; vivid_meta_cap_fillbuff clears that much).  What is around it may not.
        how = "unknown bytes: each page of the frame changed, and nothing around the buffer"
        return Transfer(arrived, arrived, how, before[:used], known=False)


def _filled(buffer: Buffer, filling: bytes, size: int) -> bytes | None:
    """Fill a buffer as far as the process may; what its ``size`` bytes are, None: it can't look."""
    try:
        buffer.write(filling)
    except OSError as error:
        if error.errno != EFAULT:
            raise
    try:
        return buffer.read(size)
    except OSError as error:
        if error.errno != EFAULT:
            raise
    return None


@contextlib.contextmanager
def opened(node: Path, queue: Queue, path: DataPath) -> Iterator[int]:
    """The node, in the state that a session has it in before it asks for buffers."""
    fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        path.ready(fd)
        if queue.wanted is not None:
            uapi.set_format(fd, uapi.copy_format(queue.wanted))
        yield fd
    finally:
        try:
            if queue.wanted is not None:
                uapi.set_format(fd, uapi.copy_format(queue.present))
        finally:
            os.close(fd)


def wait(fd: int, type_: int, seconds: float, memory: int) -> Any:
    """Dequeue the next buffer; TimeoutError, or OSError with EIO for a frame marked as bad."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT if type_ in uapi.OUTPUT_TYPES else select.POLLIN)
    until = time.monotonic() + seconds
    while True:
        if not poll.poll(max(0.0, (until - time.monotonic()) * 1000)):
            raise TimeoutError(ETIMEDOUT, f"no frame came in {seconds:g} s")
        try:
            done = uapi.dqbuf(fd, type_, memory)
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError(ETIMEDOUT, f"no frame came in {seconds:g} s") from None
            time.sleep(0.001)  # poll says so for a queue in error too
            continue
        if done.flags & uapi.V4L2_BUF_FLAG_ERROR:
            raise OSError(EIO, "the driver marked the frame as bad (V4L2_BUF_FLAG_ERROR)")
        return done


def bytes_used(buffer: Any) -> int:
    """Bytes of a dequeued buffer's last plane that hold the frame."""
    if buffer.type in uapi.MULTI_PLANAR:
        return int(buffer.m.planes[buffer.length - 1].bytesused)
    return int(buffer.bytesused)


def last_plane(buffer: Any) -> tuple[int, int]:
    """mmap offset and length of an MMAP buffer's last plane."""
    if buffer.type in uapi.MULTI_PLANAR:
        plane = buffer.m.planes[buffer.length - 1]
        return int(plane.m.mem_offset), int(plane.length)
    return int(buffer.m.offset), int(buffer.length)


def frames(fd: int, type_: int, count: int) -> list[bytes]:
    """The last plane of ``count`` frames, captured with MMAP buffers; OSError."""
    found: list[bytes] = []
    with Lent(fd, type_) as lent:
        lent.start()
        while len(found) < count:
            found.append(lent.frame())
    return found


class Lent:
    """MMAP buffers of a capture queue, all queued; leaving the context frees them."""

    def __init__(self, fd: int, type_: int, count: int = 2) -> None:
        self.fd, self.type, self._count = fd, type_, count
        self._maps: list[mmap.mmap] = []

    def __enter__(self) -> Lent:
        granted = uapi.reqbufs(self.fd, self.type, self._count, uapi.V4L2_MEMORY_MMAP)
        try:
            for index in range(granted.count):
                buffer = uapi.querybuf(self.fd, self.type, index, uapi.V4L2_MEMORY_MMAP)
                offset, length = last_plane(buffer)
                self._maps.append(mmap.mmap(self.fd, length, offset=offset))
                uapi.qbuf(self.fd, buffer)
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self) -> None:
        uapi.streamon(self.fd, self.type)

    def frame(self) -> bytes:
        """The next frame's last plane; its buffer is queued again.  TimeoutError."""
        done = wait(self.fd, self.type, PATIENCE, uapi.V4L2_MEMORY_MMAP)
        data: bytes = self._maps[done.index][: bytes_used(done)]
        uapi.qbuf(self.fd, done)
        return data

    def __exit__(self, *_: object) -> None:
        try:
            uapi.streamoff(self.fd, self.type)
        finally:
            while self._maps:
                self._maps.pop().close()
            uapi.reqbufs(self.fd, self.type, 0, uapi.V4L2_MEMORY_MMAP)


def still(node: Path, queue: Queue) -> Capture:
    """A capture queue of any driver: with the sensor's test pattern where it has one."""
    fd = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        identity = controls.controls(fd).get("Test Pattern")
        items = controls.menu(fd, identity) if identity is not None else {}
    finally:
        os.close(fd)
    shown = [value for text, value in items.items() if "disabled" not in text.lower()]
    return Capture(node, queue, {identity: shown[0]} if identity and shown else None)
