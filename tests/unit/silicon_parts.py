# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's side of the transports, as far as tests need it, and a device of a few registers."""

from __future__ import annotations

import array
import json
import mmap
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any

from hil.silicon import pci_proxy, vfio_user
from hil.silicon.device import Bar, Identity, PciDevice

RAM = 1 << 20
REGISTERS, MEMORY = 0, 2
DOORBELL = 0x10


class Toy(PciDevice):
    """Registers that keep what is written.

    What is written to DOORBELL is a guest-physical address: the word there is counted up, and
    an interrupt tells so.
    """

    def __init__(self, *, extended: bool) -> None:
        bars = {REGISTERS: Bar(4096), MEMORY: Bar(1 << 16, memory=True, prefetchable=True)}
        super().__init__(Identity(0x1234, 0x5678, 0x040000), bars, extended=extended, intx=True)
        self.config.add_msi(0x50)
        self.kept: dict[int, int] = {}
        self.resets = 0

    @classmethod
    def make(cls, options: Mapping[str, str], *, extended: bool) -> Toy:
        if options:
            raise ValueError(f"unknown option {next(iter(options))!r}")
        return cls(extended=extended)

    def read(self, bar: int, offset: int, size: int) -> int:
        return self.kept.get(offset, 0)

    def write(self, bar: int, offset: int, size: int, value: int) -> None:
        self.kept[offset] = value
        if offset == DOORBELL:
            (word,) = struct.unpack("<I", self.memory.read(value, 4))
            self.memory.write(value, struct.pack("<I", word + 1))
            if not self.interrupts.msi():
                self.interrupts.intx(True)

    def reset(self) -> None:
        self.kept.clear()
        self.resets += 1


class BadToy(Toy):
    """One whose doorbell is out of order."""

    def write(self, bar: int, offset: int, size: int, value: int) -> None:
        raise RuntimeError("the doorbell is out of order")


class Served:
    """A device behind a server in a thread; ``wire`` is QEMU's end."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self.wire, theirs = socket.socketpair()
        self.wire.settimeout(10)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(serve, theirs))
        self._thread.start()

    def _run(self, serve: Callable[[socket.socket], None], theirs: socket.socket) -> None:
        with theirs:
            try:
                serve(theirs)
            except BaseException as error:
                self.error = error

    def hang_up(self) -> BaseException | None:
        """End the connection and the server; the error that it ended with."""
        self.wire.close()
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.error


def ram() -> tuple[int, mmap.mmap]:
    """A descriptor of guest RAM, and its bytes."""
    fd = os.memfd_create("ram")
    os.ftruncate(fd, RAM)
    return fd, mmap.mmap(fd, RAM)


def receive(wire: socket.socket, length: int) -> tuple[bytes, list[int]]:
    data, fds = b"", array.array("i")
    while len(data) < length:
        more, extra, _, _ = wire.recvmsg(length - len(data), 256)
        for _, _, content in extra:
            fds.frombytes(content)
        assert more, "the server hung up"
        data += more
    return data, list(fds)


class ProxyClient:
    """What QEMU's x-pci-proxy-dev says (hw/remote/proxy.c)."""

    def __init__(self, device: PciDevice) -> None:
        self.served = Served(lambda sock: pci_proxy.ProxyServer(device, sock).serve())

    def say(self, command: int, body: bytes, fds: list[int] | None = None) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds or []))]
        head = pci_proxy.HEADER.pack(command, len(body))
        self.served.wire.sendmsg([head, body], rights if fds else [])

    def ask(self, command: int, body: bytes) -> int:
        self.say(command, body)
        data, _ = receive(self.served.wire, 24)
        assert pci_proxy.HEADER.unpack(data[:16]) == (pci_proxy.RET, 8)
        return int(struct.unpack("<Q", data[16:])[0])

    def config_read(self, offset: int, size: int) -> int:
        return self.ask(pci_proxy.CONFIG_READ, pci_proxy.CONFIG.pack(offset, 0, size))

    def config_write(self, offset: int, size: int, value: int) -> None:
        self.ask(pci_proxy.CONFIG_WRITE, pci_proxy.CONFIG.pack(offset, value, size))

    def place(self, number: int, address: int) -> int:
        """Size a BAR and place it, as firmware does; its size."""
        register = 0x10 + 4 * number
        self.config_write(register, 4, 0xFFFFFFFF)
        size = (~(self.config_read(register, 4) & ~0xF) & 0xFFFFFFFF) + 1
        self.config_write(register, 4, address)
        return size

    def bar_read(self, address: int, size: int) -> int:
        return self.ask(pci_proxy.BAR_READ, pci_proxy.BAR.pack(address, 0, size, True))

    def bar_write(self, address: int, size: int, value: int) -> None:
        self.ask(pci_proxy.BAR_WRITE, pci_proxy.BAR.pack(address, value, size, True))

    def sync_memory(self, parts: list[tuple[int, int, int, int]]) -> None:
        """Address, size, offset, descriptor of each."""
        columns = [[p[i] for p in parts] + [0] * (8 - len(parts)) for i in range(3)]
        body = pci_proxy.PARTS.pack(*columns[0], *columns[1], *columns[2])
        self.say(pci_proxy.SYNC_SYSMEM, body, [p[3] for p in parts])


class VfioClient:
    """What QEMU's vfio-user-pci says (hw/vfio-user/)."""

    def __init__(self, device: PciDevice) -> None:
        self.served = Served(lambda sock: vfio_user.VfioUserServer(device, sock).serve())
        self._number = 0
        told = json.loads(self.ask(vfio_user.VERSION, struct.pack("<HH", 0, 0) + b"{}\0")[0][4:-1])
        self.capabilities: dict[str, Any] = told["capabilities"]

    def ask(
        self, command: int, body: bytes, fds: list[int] | None = None, *, errno: int = 0
    ) -> tuple[bytes, list[int]]:
        self._number += 1
        head = vfio_user.HEADER.pack(self._number, command, 16 + len(body), 0, 0)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds or []))]
        self.served.wire.sendmsg([head, body], rights if fds else [])
        head, own = receive(self.served.wire, 16)
        number, answered, size, flags, failed = vfio_user.HEADER.unpack(head)
        assert (number, answered, failed) == (self._number, command, errno)
        assert flags == vfio_user.IS_REPLY | (vfio_user.IS_ERROR if errno else 0)
        return (receive(self.served.wire, size - 16)[0] if size > 16 else b""), own

    def region_read(self, region: int, offset: int, size: int) -> int:
        head = vfio_user.REGION.pack(offset, region, size)
        data, _ = self.ask(vfio_user.REGION_READ, head)
        assert data[:16] == head
        return int.from_bytes(data[16:], "little")

    def region_write(self, region: int, offset: int, size: int, value: int) -> None:
        head = vfio_user.REGION.pack(offset, region, size)
        self.ask(vfio_user.REGION_WRITE, head + value.to_bytes(size, "little"))

    def dma_map(self, address: int, size: int, offset: int, fd: int) -> None:
        self.ask(vfio_user.DMA_MAP, struct.pack("<IIQQQ", 32, 3, offset, address, size), [fd])

    def set_irqs(self, flags: int, index: int, count: int, fds: list[int] | None = None) -> None:
        self.ask(vfio_user.SET_IRQS, struct.pack("<IIIII", 20, flags, index, 0, count), fds)
