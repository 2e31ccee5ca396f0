# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's RAM as a device sees it: by guest-physical address, shared with QEMU."""

from __future__ import annotations

import mmap
from typing import NamedTuple


class BusError(Exception):
    """A device reached for an address where the guest has no RAM."""

    def __init__(self, address: int, length: int) -> None:
        super().__init__(f"no guest RAM at {address:#x}, {length} bytes")
        self.address = address


class Part(NamedTuple):
    """A piece of guest RAM: where it begins, and its bytes."""

    address: int
    size: int
    bytes: mmap.mmap


def part(address: int, size: int, fd: int, offset: int) -> Part:
    """Map ``size`` bytes of a file, from ``offset`` on, as RAM at ``address``.

    The descriptor stays the caller's.  OSError or ValueError when it can't be mapped.
    """
    return Part(address, size, mmap.mmap(fd, size, mmap.MAP_SHARED, offset=offset))


class GuestMemory:
    """All RAM that a device can reach.

    The parts are replaced as a whole, so that a model's threads may read while the guest's memory
    map changes; a part that is no longer known is unmapped when its last reader is done.
    """

    def __init__(self) -> None:
        self._parts: tuple[Part, ...] = ()

    def replace(self, parts: list[Part]) -> None:
        """From now on these are all."""
        self._parts = tuple(parts)

    def add(self, new: Part) -> None:
        """One part more; a transport that overlaps parts says so by removing the old one first."""
        self._parts = (*self._parts, new)

    def remove(self, address: int, size: int) -> None:
        """Forget the parts that lie within [address, address + size)."""
        end = address + size
        self._parts = tuple(
            p for p in self._parts if not (address <= p.address and p.address + p.size <= end)
        )

    def read(self, address: int, length: int) -> bytes:
        """``length`` bytes from a guest-physical address; BusError where there is no RAM."""
        pieces = []
        left = length
        while left:
            found = self._at(address, length)
            start = address - found.address
            data = found.bytes[start : min(start + left, found.size)]
            pieces.append(data)
            address, left = address + len(data), left - len(data)
        return b"".join(pieces)

    def write(self, address: int, data: bytes) -> None:
        """Put ``data`` at a guest-physical address; BusError where there is no RAM."""
        while data:
            found = self._at(address, len(data))
            start = address - found.address
            count = min(len(data), found.size - start)
            found.bytes[start : start + count] = data[:count]
            address, data = address + count, data[count:]

    def _at(self, address: int, length: int) -> Part:
        for found in self._parts:
            if found.address <= address < found.address + found.size:
                return found
        raise BusError(address, length)
