# SPDX-License-Identifier: GPL-2.0-or-later
"""Habana Labs accelerators: HL_MEM_OP_MAP with HL_MEM_USERPTR pins a range of the process.

``hl_mem_ioctl`` ends in ``get_user_memory`` (drivers/accel/habanalabs/common/memory.c, up to 6.1
drivers/misc), which always pins for writing and for long and maps for both directions.  Pins go
with HL_MEM_OP_UNMAP or the last close.  A direction of ours is a copy that the card is made to do.
"""

from __future__ import annotations

import contextlib
import os
import time
from errno import EAGAIN, EBUSY, EINVAL
from pathlib import Path
from typing import TYPE_CHECKING

from hil.cells import Direction
from hil.errors import NotApplicableError
from hil.memory.base import pattern
from hil.pinners.base import Node, Pinner, PinResult, Session, Transfer
from hil.uapi import access, mm
from hil.uapi import habanalabs as uapi

if TYPE_CHECKING:
    from hil.memory.base import Buffer

FAMILY = "habanalabs"
LENGTH = 256 * mm.KIB
"""Bytes of a buffer: some pages of the card's MMU, and little to copy."""
LARGEST = 2 * mm.MIB
"""Bytes that are copied at the most: those of a huge page."""
BUSY_SECONDS = 5.0
"""How long a card may be about to be released, or in a reset, before its node is in use."""
COPY_SECONDS = 3.0
"""How long a submission may take; a busy card is not waited for any longer."""


_HOW = "copied by the card's DMA through its SRAM"


def open_node(node: Path, patience: float = BUSY_SECONDS) -> int:
    """Open a node, and wait while it says EAGAIN: the user before is being released, or it resets.

    OSError with EBUSY when somebody else works on it: there is one user at a time.
    """
    until = time.monotonic() + patience
    while True:
        try:
            return os.open(node, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (EAGAIN, EBUSY) or time.monotonic() > until:
                raise
        time.sleep(0.05)


class HabanaSession(Session):
    """An open node; every pin is a mapping of its own."""

    length = LENGTH
    call = "HL_MEM_OP_MAP"

    def __init__(self, node: Path, direction: Direction, *, patience: float = BUSY_SECONDS) -> None:
        self._direction = direction
        self._mapped: list[int] = []
        self._open(node, patience)

    def _open(self, node: Path, patience: float = BUSY_SECONDS) -> None:
        self.fd = open_node(node, patience)
        try:
            self.card = uapi.Card(self.fd)
        except BaseException:
            self.release()
            raise

    def pin(self, buffer: Buffer) -> PinResult:
        try:
            self._mapped.append(self.card.map(buffer.address, buffer.length))
        except OSError as error:
            return PinResult(self.call, error.errno or EINVAL, 0)
        return PinResult(self.call, 0, 0)

    def transfer(self, buffer: Buffer) -> Transfer | None:
        """By way of the card's SRAM, from a buffer of our own or to it: up to LARGEST bytes.

        None where another process has mapped the buffer: nobody here knows its device address.
        """
        if not self._mapped:
            return None
        self.card.fd = self.fd  # a condition may have closed one descriptor and gone on by another
        sram = self.card.info()
        size = min(LARGEST, buffer.length, sram.sram_size)
        staging = mm.mmap(size, mm.PROT_RW, mm.MAP_PRIVATE | mm.MAP_ANONYMOUS)
        try:
            ours = self.card.map(staging, size)
            try:
                return self._move(buffer.view, size, (sram.sram_base_address, ours, staging))
            finally:
                self.card.unmap(ours)
        finally:
            mm.munmap(staging, size)

    def _move(self, here: int, size: int, by: tuple[int, int, int]) -> Transfer:
        """Between the buffer, which the process has at ``here``, and the staging buffer."""
        sram, ours, staging = by
        there, before = self._mapped[-1], _seen(here, size)
        if self._direction is Direction.CAPTURE:
            sent = pattern(size, 1)
            access.poke(staging, sent)
            self._through(sram, ours, there, size)
            return Transfer(sent, _seen(here, size), f"{_HOW} into the buffer", before)
        with contextlib.suppress(OSError):  # where the process may not, what is there will do
            access.poke(here, pattern(size, 2))
        sent = _seen(here, size)
        self._through(sram, there, ours, size)
        return Transfer(sent, access.peek(staging, size), f"{_HOW} out of the buffer", before)

    def _through(self, sram: int, source: int, target: int, size: int) -> None:
        down, up = uapi.GAUDI_QUEUE_ID_DMA_0_0, uapi.GAUDI_QUEUE_ID_DMA_1_0
        self.card.copy(down, [uapi.Copy(source, sram, size)], COPY_SECONDS)
        self.card.copy(up, [uapi.Copy(sram, target, size)], COPY_SECONDS)

    def stop(self) -> None:
        """Unmap: this driver keeps nothing of a buffer that user space has back."""
        while self._mapped:
            self.card.fd = self.fd
            self.card.unmap(self._mapped.pop())

    def release(self) -> None:
        if self.fd < 0:
            return
        try:
            self.stop()
        finally:
            fd, self.fd = self.fd, -1
            os.close(fd)


def _seen(address: int, length: int) -> bytes:
    try:
        return access.peek(address, length)
    except OSError as error:
        raise NotApplicableError(f"the process can't look at its buffer: {error}") from error


class HabanaPinner(Pinner):
    """Both directions on one node."""

    family = FAMILY
    traced = ("pin_user_pages_fast",)  # since 5.12
    meets_conditions = True
    without = ("end-streamoff",)  # there is nothing between mapped and unmapped
    slow_conditions = True  # each open of the card takes a tenth of a second under TCG
    slow = False
    directions: tuple[Direction, ...] = (Direction.CAPTURE, Direction.OUTPUT)

    def __init__(self, node: Node) -> None:
        self.name = f"{node.driver}-{Path(node.path).name}"
        self.driver, self.node = node.driver, Path(node.path)
        self.bus, self.allocator = node.bus, node.allocator

    def open(self, direction: Direction) -> HabanaSession:
        return HabanaSession(self.node, direction)
