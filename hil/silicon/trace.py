# SPDX-License-Identifier: GPL-2.0-or-later
"""A record of all that passes between a guest and a model, and playing it again without a guest.

One event a line: ``C`` and ``B`` are the guest's accesses to configuration space and BARs, ``M``
the model's to guest RAM, ``I`` its interrupts.  What a model does because of a write follows it::

    B r 2 4c4b300 4 10          BAR 2, offset, size, value (hexadecimal)
    C w 54 4 fee01004           offset, size, value
    M r 1a2b3000 0102...        address, bytes;  M w likewise
    I                           an MSI

``HIL_SILICON_TRACE=FOLDER`` in the environment of ``hil run`` has each PCI model write one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol, TextIO

from hil.silicon.device import Interrupts, PciDevice
from hil.silicon.guest_memory import GuestMemory


class DeviationError(Exception):
    """A model does not do what it did when the trace was recorded."""


class Accesses(Protocol):
    """Who makes the guest's accesses: the device itself, or a client of a transport's server."""

    def config_read(self, offset: int, size: int) -> int: ...
    def config_write(self, offset: int, size: int, value: int) -> None: ...
    def bar_read(self, number: int, offset: int, size: int) -> int: ...
    def bar_write(self, number: int, offset: int, size: int, value: int) -> None: ...


class _RecordedMemory(GuestMemory):
    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def read(self, address: int, length: int) -> bytes:
        data = super().read(address, length)
        self._stream.write(f"M r {address:x} {data.hex()}\n")
        return data

    def write(self, address: int, data: bytes) -> None:
        self._stream.write(f"M w {address:x} {bytes(data).hex()}\n")
        super().write(address, data)


class _RecordedInterrupts:
    def __init__(self, stream: TextIO, inner: Interrupts) -> None:
        self._stream, self._inner = stream, inner

    def msi(self, vector: int = 0) -> bool:
        self._stream.write("I\n")
        return self._inner.msi(vector)

    def intx(self, level: bool) -> None:
        self._stream.write(f"I {int(level)}\n")
        self._inner.intx(level)


def record(device: PciDevice, stream: TextIO) -> None:
    """From here on every access is written to ``stream``.

    For a device that has its interrupts, and no guest RAM yet.
    """
    device.memory = _RecordedMemory(stream)
    device.interrupts = _RecordedInterrupts(stream, device.interrupts)
    config_read, config_write = device.config_read, device.config_write
    bar_read, bar_write = device.bar_read, device.bar_write

    def read_config(offset: int, size: int) -> int:
        value = config_read(offset, size)
        stream.write(f"C r {offset:x} {size} {value:x}\n")
        return value

    def write_config(offset: int, size: int, value: int) -> None:
        stream.write(f"C w {offset:x} {size} {value:x}\n")
        config_write(offset, size, value)

    def read_bar(number: int, offset: int, size: int) -> int:
        value = bar_read(number, offset, size)
        stream.write(f"B r {number} {offset:x} {size} {value:x}\n")
        return value

    def write_bar(number: int, offset: int, size: int, value: int) -> None:
        stream.write(f"B w {number} {offset:x} {size} {value:x}\n")
        bar_write(number, offset, size, value)

    device.config_read, device.config_write = read_config, write_config  # type: ignore[method-assign]
    device.bar_read, device.bar_write = read_bar, write_bar  # type: ignore[method-assign]


class _Rest:
    """The events that are still to come, taken by whoever makes them."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = deque(line.split() for line in lines)
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._lines)

    def take(self, *kinds: str) -> list[str]:
        """The next event, which must be of one of ``kinds``; DeviationError when it is not."""
        self._number += 1
        event = self._lines.popleft() if self._lines else ["nothing"]
        if event[0] not in kinds:
            raise self.error(" or ".join(kinds), event)
        return event

    def error(self, made: str, event: list[str]) -> DeviationError:
        return DeviationError(f"line {self._number}: made {made}, recorded {' '.join(event)[:120]}")


class _PlayedMemory(GuestMemory):
    def __init__(self, rest: _Rest) -> None:
        super().__init__()
        self._rest = rest

    def read(self, address: int, length: int) -> bytes:
        event = self._rest.take("M")
        data = bytes.fromhex(event[3]) if len(event) > 3 else b""
        if event[1:3] != ["r", f"{address:x}"] or len(data) != length:
            raise self._rest.error(f"M r {address:x}, {length} bytes", event)
        return data

    def write(self, address: int, data: bytes) -> None:
        event = self._rest.take("M")
        if event != ["M", "w", f"{address:x}", bytes(data).hex()]:
            raise self._rest.error(f"M w {address:x} {bytes(data).hex()[:40]}", event)


class _PlayedInterrupts:
    def __init__(self, rest: _Rest) -> None:
        self._rest = rest

    def msi(self, vector: int = 0) -> bool:
        self._rest.take("I")
        return True

    def intx(self, level: bool) -> None:
        event = self._rest.take("I")
        if event[1:] != [str(int(level))]:
            raise self._rest.error(f"I {int(level)}", event)


def replay(device: PciDevice, lines: Iterable[str], guest: Accesses | None = None) -> int:
    """Make the recorded accesses again, by ``guest`` or straight at the device; how many.

    Guest RAM has what it had then.  DeviationError where the device answers something else, or
    reaches for RAM or interrupts otherwise than it did.
    """
    rest = _Rest(lines)
    device.memory = _PlayedMemory(rest)
    device.interrupts = _PlayedInterrupts(rest)
    made = 0
    accesses: Accesses = guest or device
    while rest:
        kind, way, *words = event = rest.take("B", "C")
        *place, size, value = (int(word, 16) for word in words)
        if way == "w":
            if kind == "B":
                accesses.bar_write(place[0], place[1], size, value)
            else:
                accesses.config_write(place[0], size, value)
        else:
            found = (
                accesses.bar_read(place[0], place[1], size)
                if kind == "B"
                else accesses.config_read(place[0], size)
            )
            if found != value:
                raise rest.error(f"the answer {found:x}", event)
        made += 1
    return made
