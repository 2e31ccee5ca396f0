# SPDX-License-Identifier: GPL-2.0-or-later
"""exynos-drm's G2D: user memory as source or target of a command list, G2D_BUF_USERPTR.

DRM_IOCTL_EXYNOS_G2D_SET_CMDLIST pins (drivers/gpu/drm/exynos/exynos_drm_g2d.c
g2d_userptr_get_dma_addr), always for writing; every refusal reaches user space as EFAULT
(g2d_map_cmdlist_gem).  The driver keeps what it has pinned, by pointer and size, until the file is
closed: only then can it be said whether all pins were given back.

Without an IOMMU the engine is given the bus address of the buffer's first segment alone.  A job
over more than that would reach pages that belong to others, so the data check stays within what is
known to be safe: the first run of neighbouring frames, and frames behind it that this process has.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
from collections.abc import Sequence
from errno import EIO, ETIMEDOUT
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.cells import Direction
from hil.errors import HilError
from hil.pinners.base import Node, Pinner, PinResult, Session, Survey, Transfer, selected
from hil.pinners.copied import copied, following, run_of
from hil.uapi import drm, mm
from hil.uapi import exynos_drm as uapi

if TYPE_CHECKING:
    from hil.memory.base import Buffer

SIDE = 64
"""Pixels of a picture's side."""
STRIDE = 4 * SIDE
LENGTH = SIDE * STRIDE
_WAIT = 2.0
"""Seconds that the engine may take."""

_BITBLT_COMMAND, _SRC_SELECT, _DST_SELECT, _ROP4 = 0x104, 0x300, 0x400, 0x614
_SRC, _DST = 0x304, 0x404
"""The base address; stride, colour mode, left top and right bottom follow it."""
_XRGB8888 = 0
_COPY = 0xCCCC


def _picture(base: int, rows: int, columns: int) -> list[tuple[int, int]]:
    """The registers of one picture from its top left corner, but for its address."""
    return [(base + 4, STRIDE), (base + 8, _XRGB8888), (base + 12, 0),
            (base + 16, rows << 16 | columns)]  # fmt: skip


def _array(pairs: Sequence[tuple[int, int]]) -> Any:
    return (uapi.Command * len(pairs))(*(uapi.Command(*pair) for pair in pairs))


class ExynosG2dSession(Session):
    """An open node, with a buffer of the driver's own at the other end of the job."""

    length = LENGTH
    call = "DRM_IOCTL_EXYNOS_G2D_SET_CMDLIST"

    def __init__(self, node: Path, direction: Direction, *, asynchronous: bool) -> None:
        self._capture = direction is Direction.CAPTURE
        self._asynchronous = asynchronous
        self._pending = False
        self._other: mmap.mmap | None = None
        self._page = 0
        self.fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._handle, self._offset = uapi.gem_create(self.fd, LENGTH)
            self._page = _low_page()
            self._descriptor = uapi.Userptr.from_address(self._page)
        except BaseException:
            self.release()
            raise

    def pin(self, buffer: Buffer) -> PinResult:
        """A list that moves one pixel: whatever frames there are, that reaches the first only."""
        errno = 0
        try:
            self._list(buffer, 1, 1)
            self._pending = True
        except OSError as error:
            errno = error.errno or EIO
        return PinResult(self.call, errno, 0)

    def _list(self, buffer: Buffer, rows: int, columns: int) -> None:
        self._descriptor.userptr, self._descriptor.size = buffer.address, buffer.length
        user, other = (_DST, _SRC) if self._capture else (_SRC, _DST)
        commands = [
            *_picture(_SRC, rows, columns), *_picture(_DST, rows, columns),
            (_SRC_SELECT, 0), (_DST_SELECT, 0), (_BITBLT_COMMAND, 0), (_ROP4, _COPY),
        ]  # fmt: skip
        buffers = [(other, self._handle),
                   (user | uapi.G2D_BUF_USERPTR, ctypes.addressof(self._descriptor))]  # fmt: skip
        event = uapi.G2D_EVENT_NONSTOP if self._asynchronous else uapi.G2D_EVENT_NOT
        uapi.set_cmdlist(self.fd, _array(commands), _array(buffers), event)

    def transfer(self, buffer: Buffer) -> Transfer | None:
        """Copy between the buffer and the driver's own, byte by byte known on both sides."""
        reach = _reach(buffer)
        rows = min(SIDE, reach // STRIDE)
        if rows < 1:
            return None
        size = rows * STRIDE
        other = self._lent()
        self._list(buffer, rows, SIDE)
        how = f"copied by the G2D: {size} of {buffer.length} bytes"
        return copied(buffer, other, size, self._execute, how, capture=self._capture)

    def _lent(self) -> mmap.mmap:
        """The driver's own buffer, mapped."""
        if self._other is None:
            self._other = mmap.mmap(self.fd, LENGTH, offset=self._offset)
            self._other.madvise(mmap.MADV_DONTFORK)  # a mapping holds the file, a child's too
        return self._other

    def _unmap(self) -> None:
        if self._other is not None:
            self._other.close()
            self._other = None

    def _execute(self) -> None:
        """Run what is pending; ETIMEDOUT when the engine does not answer (asynchronously)."""
        self._pending = False
        uapi.execute(self.fd, wait=not self._asynchronous)
        if not self._asynchronous:
            return
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        expected = 2  # the list of `pin`, and that of `transfer`
        while expected:
            if not poll.poll(_WAIT * 1000):
                raise OSError(ETIMEDOUT, "no DRM_EXYNOS_G2D_EVENT")
            data = os.read(self.fd, 4096)
            size = ctypes.sizeof(uapi.Event)
            for at in range(0, len(data), size):
                event = uapi.Event.from_buffer_copy(data, at)
                if event.base.type != uapi.DRM_EXYNOS_G2D_EVENT:
                    raise OSError(EIO, f"an event of type {event.base.type:#x}")
                expected -= 1

    def stop(self) -> None:
        """Run what is pending: the driver keeps the pins all the same."""
        if self._pending:
            self._pending = False
            uapi.execute(self.fd, wait=True)

    def release(self) -> None:
        self._unmap()
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)
        if self._page:
            page, self._page = self._page, 0
            mm.munmap(page, mm.PAGE)

    def abandon(self) -> None:
        self._unmap()
        super().abandon()


def _low_page() -> int:
    """A new page below 4 GiB: a command has 32 bits for the descriptor's address."""
    if mm.WORD_BITS == 32:
        return mm.mmap(mm.PAGE)
    flags = mm.MAP_PRIVATE | mm.MAP_ANONYMOUS | mm.MAP_FIXED_NOREPLACE
    for address in range(0x1000_0000, 0x1_0000_0000, 0x1000_0000):
        try:
            return mm.mmap(mm.PAGE, flags=flags, address=address)
        except FileExistsError:
            continue
    raise MemoryError("no room below 4 GiB")


def _reach(buffer: Buffer) -> int:
    """Bytes from the buffer's start that the engine may touch without doing others harm."""
    run = len(run_of(buffer))
    if run == 1:
        run += following(buffer)
    return min(buffer.length, run * mm.PAGE - buffer.address % mm.PAGE)


class ExynosG2dPinner(Pinner):
    """One node; synchronous, or asynchronous with an event."""

    family = "exynos-g2d"
    allocator = "dma-map"
    slow_conditions = True
    without = ("end-other-pointer",)  # it keeps all that it has pinned until the file is closed
    directions = (Direction.CAPTURE, Direction.OUTPUT)

    def __init__(self, node: Node, *, asynchronous: bool = False) -> None:
        self.name = f"exynos-g2d-{Path(node.path).name.lower()}{'-async' if asynchronous else ''}"
        self.driver, self.bus, self.node = node.driver, node.bus, Path(node.path)
        self.meets_conditions = not asynchronous
        self.slow = asynchronous  # it repeats what the other tells, with another end of the job
        self._asynchronous = asynchronous

    def open(self, direction: Direction) -> ExynosG2dSession:
        return ExynosG2dSession(self.node, direction, asynchronous=self._asynchronous)


def devices() -> list[tuple[str, str]]:
    """(node, bus) of every DRM render node, or where a device has none of its card."""
    import pyudev

    found: dict[str, tuple[str, str]] = {}
    for device in pyudev.Context().list_devices(subsystem="drm"):
        node, parent = device.device_node, device.parent
        if node is None or parent is None or not node.startswith("/dev/dri/"):
            continue
        known = found.get(parent.sys_path)
        if known is None or "render" in node:
            found[parent.sys_path] = (node, f"{parent.subsystem}:{parent.sys_name}")
    return sorted(found.values())


def survey(only: Sequence[str] = (), candidates: Sequence[tuple[str, str]] | None = None) -> Survey:
    """Look at every DRM device, or at those that ``only`` selects; others' are not told of."""
    if candidates is None:
        try:
            candidates = devices()
        except ImportError as error:
            raise HilError(
                f"libudev can't be loaded: {error}", "install the distribution's package libudev1"
            ) from error
    pinners: list[Pinner] = []
    nodes: list[Node] = []
    for path, bus in candidates:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            driver = drm.driver(fd)
            if driver != "exynos":
                continue
            major, minor = uapi.version(fd)
            reason = ""
        except OSError as error:
            reason = f"has no G2D: {error.strerror}"
            major = minor = 0
        finally:
            os.close(fd)
        names = (path, Path(path).name, "exynos", bus)
        node = Node(path, "exynos", bus, f"G2D {major}.{minor}", "dma-map", (), reason)
        made: list[Pinner] = []
        if not reason:
            made = [ExynosG2dPinner(node), ExynosG2dPinner(node, asynchronous=True)]
        chosen = [p for p in made if selected(only, (*names, p.name))]
        if chosen or selected(only, names):
            pinners += chosen
            nodes.append(node._replace(pinners=tuple(p.name for p in chosen)))
    return Survey(pinners, nodes)
