# SPDX-License-Identifier: GPL-2.0-or-later
"""What a model of a PCI device is, apart from how it reaches the guest.

Numbers are little endian, offsets and sizes are bytes.  Layouts: PCI Local Bus 3.0, chapter 6;
include/uapi/linux/pci_regs.h.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from hil.silicon.guest_memory import GuestMemory

COMMAND, STATUS, HEADER_TYPE, BAR0, SUBSYSTEM = 0x04, 0x06, 0x0E, 0x10, 0x2C
CAPABILITIES, INTERRUPT_LINE, INTERRUPT_PIN = 0x34, 0x3C, 0x3D
_STATUS_CAPABILITIES = 0x10
_CAP_MSI = 0x05
_MSI_64_BIT = 0x80
_COMMAND_BITS = 0x0547  # I/O, memory, bus master, parity, SERR, INTx disable


class Interrupts(Protocol):
    """How a device interrupts: made by the transport."""

    def msi(self, vector: int = 0) -> bool:
        """Send a message; False when the guest has not enabled MSI."""

    def intx(self, level: bool) -> None:
        """Drive the device's INTA pin: it stays as it is until the next call."""


class Msi(NamedTuple):
    """What the guest wrote into the MSI capability."""

    enabled: bool
    address: int
    data: int


class Bar:
    """A base address register: ``size`` bytes, a power of two.

    With ``memory`` set it is plain memory behind a file of its own, which a transport may map into
    the guest; else each access goes to the device's ``read`` and ``write``.
    """

    def __init__(self, size: int, *, memory: bool = False, prefetchable: bool = False) -> None:
        self.size, self.prefetchable = size, prefetchable
        self.fd: int | None = None
        if memory:
            self.fd = os.memfd_create("bar")
            os.ftruncate(self.fd, size)
            self.bytes = mmap.mmap(self.fd, size)

    def clear(self, start: int, length: int) -> None:
        """Fill a part of a memory BAR with zeros; whole pages cost nothing, and take no memory."""
        first, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, start + length
        last = end // mmap.PAGESIZE * mmap.PAGESIZE
        if first >= last:
            self.bytes[start:end] = bytes(length)
            return
        self.bytes[start:first] = bytes(first - start)
        self.bytes.madvise(mmap.MADV_REMOVE, first, last - first)
        self.bytes[last:end] = bytes(end - last)


class Identity(NamedTuple):
    """Who the device says it is; ``class_code`` is 24 bits."""

    vendor: int
    device: int
    class_code: int
    revision: int = 0
    subsystem_vendor: int = 0
    subsystem: int = 0


class ConfigSpace:
    """Configuration space: bytes, and for each of them the bits that the guest may change."""

    def __init__(self, identity: Identity, size: int = 256) -> None:
        self.bytes = bytearray(size)
        self._mutable = bytearray(size)
        self._msi = 0
        code = identity.class_code
        self.put(0, struct.pack("<HH", identity.vendor, identity.device))
        self.put(8, bytes([identity.revision, code & 255, code >> 8 & 255, code >> 16]))
        self.put(SUBSYSTEM, struct.pack("<HH", identity.subsystem_vendor, identity.subsystem))
        self.put(COMMAND, b"\0\0", _COMMAND_BITS.to_bytes(2, "little"))
        self.put(0x0C, b"\0\0", b"\xff\xff")  # cache line size, latency timer
        self.put(INTERRUPT_LINE, b"\0", b"\xff")

    def put(self, offset: int, content: bytes, mutable: bytes = b"") -> None:
        """Lay down bytes; ``mutable`` has a 1 for each bit that the guest may change."""
        self.bytes[offset : offset + len(content)] = content
        self._mutable[offset : offset + len(mutable)] = mutable

    def add_bar(self, number: int, bar: Bar, *, wide: bool) -> None:
        """The register of a memory BAR, a 64-bit one where ``wide``: sizing works as it must."""
        kind = (4 if wide else 0) | (8 if bar.prefetchable else 0)
        mask = ~(bar.size - 1)
        length = 8 if wide else 4
        changes = (mask & ((1 << 8 * length) - 1)).to_bytes(length, "little")
        self.put(BAR0 + 4 * number, kind.to_bytes(length, "little"), changes)

    def bar_address(self, number: int) -> int:
        """Where the guest put a BAR, its low half; 0 when it is not placed."""
        (word,) = struct.unpack_from("<I", self.bytes, BAR0 + 4 * number)
        return int(word) & ~0xF

    def add_capability(self, offset: int, content: bytes, mutable: bytes = b"") -> None:
        """Put a capability at the head of the list; its second byte is filled in."""
        first = self.bytes[CAPABILITIES]
        self.put(offset, bytes([content[0], first]) + content[2:], mutable)
        self.put(CAPABILITIES, bytes([offset]))
        self.bytes[STATUS] |= _STATUS_CAPABILITIES

    def add_msi(self, offset: int) -> None:
        """An MSI capability of one vector with a 64-bit address."""
        self._msi = offset
        fixed = struct.pack("<BBHIIH", _CAP_MSI, 0, _MSI_64_BIT, 0, 0, 0)
        self.add_capability(
            offset, fixed, struct.pack("<BBHIIH", 0, 0, 0x0071, 0xFFFFFFFC, 0xFFFFFFFF, 0xFFFF)
        )

    @property
    def has_msi(self) -> bool:
        return self._msi != 0

    @property
    def msi(self) -> Msi:
        """The MSI capability as the guest has set it."""
        if not self._msi:
            return Msi(False, 0, 0)
        control, low, high, data = struct.unpack_from("<HIIH", self.bytes, self._msi + 2)
        return Msi(bool(control & 1), high << 32 | low, data)

    def read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.bytes[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        """What the guest writes changes the bits that it may change."""
        new = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        for place, byte in enumerate(new, offset):
            if place < len(self.bytes):
                mask = self._mutable[place]
                self.bytes[place] = self.bytes[place] & ~mask | byte & mask


class PciDevice:
    """A model of a PCI device.  Subclasses set ``bars`` and answer ``read`` and ``write``.

    ``extended``: the transport allows 4096 bytes of configuration space, and BARs of 64 bits.
    ``options`` are the board file's; a model raises ValueError for one that it does not know.
    """

    def __init__(
        self, identity: Identity, bars: Mapping[int, Bar], *, extended: bool, intx: bool = False
    ) -> None:
        self.config = ConfigSpace(identity, 4096 if extended else 256)
        self.bars = dict(bars)
        for number, bar in self.bars.items():
            self.config.add_bar(number, bar, wide=extended)
        if intx:
            self.config.put(INTERRUPT_PIN, b"\x01")
        self.memory = GuestMemory()
        self.interrupts: Interrupts = NoInterrupts()

    @classmethod
    def make(cls, options: Mapping[str, str], *, extended: bool) -> PciDevice:
        """A model as a board file asks for it."""
        raise NotImplementedError

    @property
    def has_intx(self) -> bool:
        return self.config.bytes[INTERRUPT_PIN] != 0

    def config_read(self, offset: int, size: int) -> int:
        return self.config.read(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        self.config.write(offset, size, value)

    def bar_read(self, number: int, offset: int, size: int) -> int:
        """A read of a BAR, whichever kind it is."""
        bar = self.bars[number]
        if bar.fd is None:
            return self.read(number, offset, size) & ((1 << 8 * size) - 1)
        return int.from_bytes(bar.bytes[offset : offset + size], "little")

    def bar_write(self, number: int, offset: int, size: int, value: int) -> None:
        """A write to a BAR, whichever kind it is."""
        bar = self.bars[number]
        value &= (1 << 8 * size) - 1
        if bar.fd is None:
            self.write(number, offset, size, value)
        else:
            bar.bytes[offset : offset + size] = value.to_bytes(size, "little")

    def read(self, bar: int, offset: int, size: int) -> int:
        """What a register of a BAR without memory holds."""
        raise NotImplementedError

    def write(self, bar: int, offset: int, size: int, value: int) -> None:
        """The guest writes a register of a BAR without memory."""
        raise NotImplementedError

    def reset(self) -> None:
        """As after power-on, but for configuration space."""


class NoInterrupts:
    """For a device that has no transport, or none that can interrupt."""

    def msi(self, vector: int = 0) -> bool:
        return False

    def intx(self, level: bool) -> None:
        """Nobody hears it."""
