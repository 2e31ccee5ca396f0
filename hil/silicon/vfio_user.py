# SPDX-License-Identifier: GPL-2.0-or-later
"""Serves a PciDevice to QEMU's vfio-user-pci: the vfio-user protocol 0.0, in QEMU from 10.1 on.

BARs with memory are mapped into the guest, MSI and INTx go by eventfd.  The protocol is in QEMU's
docs/interop/vfio-user.rst; the structures behind it are those of include/uapi/linux/vfio.h.
Message: u16 id, u16 command, u32 size of all, u32 flags, u32 errno, then the body.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from errno import ENOSYS

from hil.silicon.device import PciDevice
from hil.silicon.guest_memory import part
from hil.silicon.wire import HungUpError, ProtocolError, Wire, close_all

VERSION, DMA_MAP, DMA_UNMAP, DEVICE_INFO, REGION_INFO = 1, 2, 3, 4, 5
IRQ_INFO, SET_IRQS, REGION_READ, REGION_WRITE = 7, 8, 9, 10
DEVICE_RESET, WRITE_MULTI = 13, 15
HEADER = struct.Struct("<HHIII")
REGION = struct.Struct("<QII")  # offset, region, count
IS_REPLY, NO_REPLY, IS_ERROR = 0x1, 0x10, 0x20
CONFIG_REGION, REGIONS, IRQS = 7, 9, 5  # VFIO_PCI_CONFIG_REGION_INDEX, _NUM_REGIONS, _NUM_IRQS
INTX, MSI = 0, 1
DATA_NONE, DATA_EVENTFD, ACTION_UNMASK, ACTION_TRIGGER = 1, 4, 16, 32
_READ, _WRITE, _MMAP = 1, 2, 4  # VFIO_REGION_INFO_FLAG_*
_DEVICE_RESETS, _DEVICE_IS_PCI = 1, 2  # VFIO_DEVICE_FLAGS_*
_IRQ_EVENTFD, _IRQ_AUTOMASKED, _IRQ_NORESIZE = 1, 4, 8  # VFIO_IRQ_INFO_*
_LARGEST = 1 << 20


class EventfdInterrupts:
    """The eventfds that QEMU has handed over, by index and vector."""

    def __init__(self) -> None:
        self._fds: dict[int, dict[int, int]] = {INTX: {}, MSI: {}}
        self._level = False

    def msi(self, vector: int = 0) -> bool:
        return self._signal(MSI, vector)

    def intx(self, level: bool) -> None:
        rises = level and not self._level
        self._level = level
        if rises:
            self._signal(INTX, 0)

    def _signal(self, index: int, vector: int) -> bool:
        fd = self._fds[index].get(vector)
        if fd is None:
            return False
        os.eventfd_write(fd, 1)
        return True

    def set(self, flags: int, index: int, start: int, count: int, fds: list[int]) -> None:
        """VFIO_USER_DEVICE_SET_IRQS: takes from ``fds`` what it keeps."""
        table = self._fds.setdefault(index, {})
        if flags & DATA_EVENTFD and flags & ACTION_TRIGGER:
            for vector in range(start, start + count):
                if vector in table:
                    os.close(table.pop(vector))
                if fds:
                    table[vector] = fds.pop(0)
        elif flags & DATA_NONE and flags & ACTION_TRIGGER and count == 0:
            close_all(table.values())
            table.clear()
        elif flags & ACTION_UNMASK and index == INTX and self._level:
            self._signal(
                INTX, 0
            )  # QEMU lowers the pin at each access and asks whether it is still up


class VfioUserServer:
    """One device for one client, until QEMU ends."""

    def __init__(self, device: PciDevice, sock: socket.socket) -> None:
        """``sock`` is the connection."""
        self._device = device
        self._wire = Wire(sock)
        self._interrupts = EventfdInterrupts()
        device.interrupts = self._interrupts

    def serve(self) -> None:
        """Answer until QEMU hangs up."""
        try:
            while True:
                self._one()
        except HungUpError:
            return

    def _one(self) -> None:
        number, command, size, flags, _ = HEADER.unpack(self._wire.receive(HEADER.size))
        if size < HEADER.size or size > 2 * _LARGEST:
            raise ProtocolError(f"vfio-user: a message of {size} bytes")
        body = self._wire.receive(size - HEADER.size)
        fds = self._wire.take_fds()
        try:
            answer, own, errno = self._handle(command, body, fds)
        finally:
            close_all(fds)
        if not flags & NO_REPLY:
            kind = IS_REPLY | (IS_ERROR if errno else 0)
            head = HEADER.pack(number, command, HEADER.size + len(answer), kind, errno)
            self._wire.send(head + answer, own)

    def _handle(self, command: int, body: bytes, fds: list[int]) -> tuple[bytes, list[int], int]:
        """The reply's body, its descriptors, and its errno."""
        own: list[int] = []
        answer = b""
        if command == REGION_READ:
            offset, region, count = REGION.unpack_from(body)
            answer = body[: REGION.size] + self._read(region, offset, count)
        elif command == REGION_WRITE:
            offset, region, count = REGION.unpack_from(body)
            self._write(region, offset, body[REGION.size : REGION.size + count])
            answer = body[: REGION.size]
        elif command == WRITE_MULTI:
            (count,) = struct.unpack_from("<Q", body)
            for place in range(8, 8 + 24 * count, 24):
                offset, region, size = REGION.unpack_from(body, place)
                self._write(region, offset, body[place + 16 : place + 16 + size])
            answer = body[:8]
        elif command == VERSION:
            limits = {"max_msg_fds": 8, "max_data_xfer_size": _LARGEST, "pgsizes": 4096}
            told = json.dumps({"capabilities": limits}).encode() + b"\0"
            answer = struct.pack("<HH", 0, 0) + told
        elif command == DMA_MAP:
            _, _, offset, address, size = struct.unpack_from("<IIQQQ", body)
            if fds:  # without one it is no RAM: ROM, or a BAR of another device
                self._device.memory.add(part(address, size, fds[0], offset))
        elif command == DMA_UNMAP:
            _, _, address, size = struct.unpack_from("<IIQQ", body)
            self._device.memory.remove(address, size)
            answer = body
        elif command == DEVICE_INFO:
            answer = struct.pack("<IIII", 16, _DEVICE_RESETS | _DEVICE_IS_PCI, REGIONS, IRQS)
        elif command == REGION_INFO:
            answer, own = self._region_info(struct.unpack_from("<III", body)[2])
        elif command == IRQ_INFO:
            answer = self._irq_info(struct.unpack_from("<III", body)[2])
        elif command == SET_IRQS:
            _, flags, index, start, count = struct.unpack_from("<IIIII", body)
            self._interrupts.set(flags, index, start, count, fds)
        elif command == DEVICE_RESET:
            self._device.reset()
        else:
            return b"", [], ENOSYS
        return answer, own, 0

    def _read(self, region: int, offset: int, count: int) -> bytes:
        if region == CONFIG_REGION:
            return self._device.config_read(offset, count).to_bytes(count, "little")
        return self._device.bar_read(region, offset, count).to_bytes(count, "little")

    def _write(self, region: int, offset: int, data: bytes) -> None:
        value = int.from_bytes(data, "little")
        if region == CONFIG_REGION:
            self._device.config_write(offset, len(data), value)
        else:
            self._device.bar_write(region, offset, len(data), value)

    def _region_info(self, index: int) -> tuple[bytes, list[int]]:
        flags = size = 0
        own: list[int] = []
        bar = self._device.bars.get(index)
        if bar is not None:
            flags, size = _READ | _WRITE, bar.size
            if bar.fd is not None:
                flags, own = flags | _MMAP, [bar.fd]
        elif index == CONFIG_REGION:
            flags, size = _READ | _WRITE, len(self._device.config.bytes)
        return struct.pack("<IIIIQQ", 32, flags, index, 0, size, 0), own

    def _irq_info(self, index: int) -> bytes:
        count = {INTX: self._device.has_intx, MSI: self._device.config.has_msi}.get(index, False)
        flags = _IRQ_EVENTFD | (_IRQ_AUTOMASKED if index == INTX else _IRQ_NORESIZE)
        return struct.pack("<IIII", 16, flags, index, int(count))
