# SPDX-License-Identifier: GPL-2.0-or-later
"""The control: io_uring's registered buffers pin for writing and for long, without any driver.

IORING_REGISTER_BUFFERS asks mm for just what a driver with a capture queue asks for (FOLL_WRITE and
FOLL_LONGTERM: fs/io_uring.c in 5.10, io_uring/rsrc.c since 5.19), and has rules of its own
(hil/rules/io-uring.toml).  What goes wrong with a driver and right here is the driver's fault; what
goes wrong with both is mm's.  It is asked about bad cells, and is a pinner only where a selector
names it: ``--device io-uring``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from errno import EINVAL
from pathlib import Path
from typing import TYPE_CHECKING

from hil.cells import Direction
from hil.pinners.base import Node, Pinner, PinResult, Session, Survey, selected
from hil.uapi import io_uring as uapi

if TYPE_CHECKING:
    from hil.memory.base import Buffer

NAME = "io-uring"
_DRIVER = "io_uring"


class IoUringSession(Session):
    """A ring with at most one registered buffer."""

    length = 64 * 1024
    call = "IORING_REGISTER_BUFFERS"

    def __init__(self) -> None:
        self.fd = uapi.setup()
        self._registered = False

    def pin(self, buffer: Buffer) -> PinResult:
        self.stop()  # a ring takes one set of buffers at a time
        errno = 0
        try:
            uapi.register_buffer(self.fd, buffer.address, buffer.length)
            self._registered = True
        except OSError as error:
            errno = error.errno or EINVAL
        return PinResult(self.call, errno, 0)

    def stop(self) -> None:
        """Give the buffer back: a ring keeps nothing beyond that."""
        if self._registered:
            self._registered = False
            uapi.unregister_buffers(self.fd)

    def release(self) -> None:
        if self.fd < 0:
            return
        try:
            self.stop()  # close alone would leave it to a worker that comes later
        finally:
            fd, self.fd = self.fd, -1
            os.close(fd)


class IoUringPinner(Pinner):
    """The one control; its cells are capture cells, for a registered buffer may be written to."""

    name, driver, family = NAME, _DRIVER, NAME
    node, bus, allocator = Path("/proc/self/fd"), "none", "none"
    slow = False
    directions = (Direction.CAPTURE,)

    def open(self, direction: Direction) -> IoUringSession:
        return IoUringSession()


def control() -> IoUringPinner | None:
    """The control, or None where this kernel has no io_uring or does not let us use it."""
    try:
        IoUringSession().release()
    except OSError:
        return None
    return IoUringPinner()


def survey(only: Sequence[str] = ()) -> Survey:
    """The control where a selector names it: it is no device under test."""
    if not only or not selected(only, (NAME, _DRIVER)):
        return Survey([], [])
    found = control()
    names, reason = ((NAME,), "") if found else ((), "io_uring_setup is refused or not there")
    node = Node(_DRIVER, _DRIVER, "", "", "none", names, reason)
    return Survey([found] if found else [], [node])
