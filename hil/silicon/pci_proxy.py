# SPDX-License-Identifier: GPL-2.0-or-later
"""Serves a PciDevice to QEMU's x-pci-proxy-dev: multi-process QEMU, from QEMU 5.2 on.

Every access to the device is a message that QEMU waits for, so the model answers in the guest's own
time.  The protocol (include/hw/remote/mpqemu-link.h, hw/remote/proxy.c, hw/remote/message.c) has
256 bytes of configuration space, 32-bit BARs, and no interrupt but a KVM irqfd: see qtest.py.
Message: i32 command, 4 bytes of padding, u64 size, then so many bytes.
"""

from __future__ import annotations

import socket
import struct

from hil.silicon.device import PciDevice
from hil.silicon.guest_memory import part
from hil.silicon.wire import HungUpError, ProtocolError, Wire, close_all

SYNC_SYSMEM, RET, CONFIG_WRITE, CONFIG_READ, BAR_WRITE, BAR_READ, SET_IRQFD, RESET = range(8)
HEADER = struct.Struct("<i4xQ")
CONFIG = struct.Struct("<IIi")  # address, value, length
BAR = struct.Struct("<QQI?3x")  # address on the bus, value, size, whether it is memory
_MOST_PARTS = 8  # REMOTE_MAX_FDS
PARTS = struct.Struct(f"<{_MOST_PARTS}Q{_MOST_PARTS}Q{_MOST_PARTS}q")  # addresses, sizes, offsets


class ProxyServer:
    """One device on one socket, until QEMU ends."""

    def __init__(self, device: PciDevice, sock: socket.socket) -> None:
        self._device = device
        self._wire = Wire(sock)

    def serve(self) -> None:
        """Answer until QEMU hangs up."""
        try:
            while True:
                command, size = HEADER.unpack(self._wire.receive(HEADER.size))
                body = self._wire.receive(size)
                fds = self._wire.take_fds()
                try:
                    self._handle(command, body, fds)
                finally:
                    close_all(fds)
        except HungUpError:
            return

    def _answer(self, value: int = 0) -> None:
        self._wire.send(HEADER.pack(RET, 8) + struct.pack("<Q", value))

    def _handle(self, command: int, body: bytes, fds: list[int]) -> None:
        device = self._device
        if command == CONFIG_READ:
            offset, _, size = CONFIG.unpack_from(body)
            self._answer(device.config_read(offset, size))
        elif command == CONFIG_WRITE:
            offset, value, size = CONFIG.unpack_from(body)
            device.config_write(offset, size, value)
            self._answer()
        elif command in (BAR_READ, BAR_WRITE):
            address, value, size, _ = BAR.unpack_from(body)
            number, offset = self._bar(address)
            if command == BAR_READ:
                self._answer(device.bar_read(number, offset, size))
            else:
                device.bar_write(number, offset, size, value)
                self._answer()
        elif command == SYNC_SYSMEM:
            numbers = PARTS.unpack_from(body)
            addresses, sizes, offsets = (numbers[i * _MOST_PARTS :] for i in range(3))
            device.memory.replace(
                [
                    part(address, size, fd, offset)
                    for fd, address, size, offset in zip(
                        fds, addresses, sizes, offsets, strict=False
                    )
                ]
            )
        elif command == RESET:
            device.reset()
            self._answer()
        elif command != SET_IRQFD:
            raise ProtocolError(f"x-pci-proxy-dev sent the command {command}")

    def _bar(self, address: int) -> tuple[int, int]:
        """Which BAR a bus address is in, and where in it."""
        for number, bar in self._device.bars.items():
            base = self._device.config.bar_address(number)
            if base and base <= address < base + bar.size:
                return number, address - base
        raise ProtocolError(f"an access to {address:#x}, where no BAR is")
