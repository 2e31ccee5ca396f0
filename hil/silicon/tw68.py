# SPDX-License-Identifier: GPL-2.0-or-later
"""A Techwell TW6800 frame grabber (1797:6800): registers, its RISC engine, INTA.

Enough of it for the stock driver drivers/media/pci/tw68 to capture.  Registers and instructions are
those of tw68-reg.h and tw68-risc.c.  The driver writes a program into guest RAM that says where
each line of a field goes, by physical address; the engine runs it field by field, as if a camera
sent pictures, and what the lines hold is hil/evidence/pictures.py's.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import threading
import time
from collections.abc import Mapping

from hil.evidence.pictures import card_line
from hil.silicon.device import Bar, Identity, PciDevice
from hil.silicon.guest_memory import BusError
from hil.silicon.wire import HungUpError

log = logging.getLogger("tw68")

DMA_CONTROL, DMA_PROGRAM, INTERRUPT_STATUS, INTERRUPT_MASK = 0x00, 0x04, 0x1C, 0x20
RUNNING = 0x3
"""DMAP_EN and FIFO_EN, both."""
DMA_DONE, DMA_ERROR = 1 << 1, 1 << 5
LINE_START, IN_LINE, JUMP, SYNC_ODD, SYNC_EVEN = 0x9, 0xA, 0xB, 0xC, 0xD
INTERRUPT = 1 << 27
"""In an instruction: interrupt when it is done."""
SIZE = 4096
LATE = 0x40
"""A byte of configuration space that no card has: milliseconds that an interrupt is under way.
Unless it is 0, the engine does not take a latched interrupt back when it is stopped."""
_LONGEST_LINE = 4096
_INSTRUCTION = struct.Struct("<II")
# QEMU's own subsystem ids: no card has them, so a session knows that the pictures are ours.
_SUBSYSTEM_VENDOR, _SUBSYSTEM = 0x1AF4, 0x1100
_MOST_INSTRUCTIONS = 100_000
"""Of one field; a program without a field would never end."""


class Tw68(PciDevice):
    """The card.  Options of a board file:

    ``rate``: frames a second, 50 if not told.
    ``late-interrupt``: milliseconds that an interrupt is under way (LATE).  Without it the engine
    drops what it has latched when it is stopped: the driver can't take an interrupt after STREAMOFF
    (known.toml: tw68-interrupt-after-stop), and pins could not be looked at.  Whether a real TW6800
    drops it is not known.
    """

    def __init__(self, *, extended: bool, rate: float = 50.0, late: int = 0) -> None:
        identity = Identity(0x1797, 0x6800, 0x040000, 1, _SUBSYSTEM_VENDOR, _SUBSYSTEM)
        super().__init__(identity, {0: Bar(SIZE)}, extended=extended, intx=True)
        self._registers = bytearray(SIZE)
        self.config.put(LATE, bytes([late]), b"\xff")
        self._field_time = 0.5 / rate
        self._changed = threading.Condition()
        """Held while a field is written: a driver that stops the engine waits for its end."""
        self._level = False
        self._program = 0
        self._frame = 0
        self._line = 0
        self._field = SYNC_EVEN
        self.error: BaseException | None = None
        """Why the engine has ended; the next access of the guest raises it."""
        threading.Thread(target=self._engine, daemon=True).start()

    @classmethod
    def make(cls, options: Mapping[str, str], *, extended: bool) -> Tw68:
        known = {"rate", "late-interrupt"}
        for name in options:
            if name not in known:
                raise ValueError(f"unknown option {name!r}, known: {', '.join(sorted(known))}")
        late = int(options.get("late-interrupt", "0"))
        rate = float(options.get("rate", "50"))
        if rate <= 0:
            raise ValueError(f"rate: found {rate:g}, expected frames a second")
        return cls(extended=extended, rate=rate, late=late)

    @property
    def _late(self) -> float:
        """Seconds that an interrupt is under way."""
        return self.config.bytes[LATE] / 1000

    # --- what the driver sees --------------------------------------------------------------------

    def read(self, bar: int, offset: int, size: int) -> int:
        with self._changed:
            self._raise()
            return int.from_bytes(self._registers[offset : offset + size], "little")

    def write(self, bar: int, offset: int, size: int, value: int) -> None:
        with self._changed:
            self._raise()
            was = self._running
            if offset == INTERRUPT_STATUS:  # a one clears
                self._put(INTERRUPT_STATUS, self._get(INTERRUPT_STATUS) & ~value)
            else:
                self._registers[offset : offset + size] = value.to_bytes(size, "little")
            if was and not self._running and not self._late:
                self._put(INTERRUPT_STATUS, 0)
            if self._running and not was:
                self._program = self._get(DMA_PROGRAM)
                self._changed.notify()
            self._drive()

    def reset(self) -> None:
        with self._changed:
            self._registers[:] = bytes(SIZE)
            self._drive()

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error

    def _get(self, register: int) -> int:
        (value,) = struct.unpack_from("<I", self._registers, register)
        return int(value)

    def _put(self, register: int, value: int) -> None:
        struct.pack_into("<I", self._registers, register, value & 0xFFFFFFFF)

    @property
    def _running(self) -> bool:
        return self._get(DMA_CONTROL) & RUNNING == RUNNING

    # --- interrupts ------------------------------------------------------------------------------

    def _drive(self) -> None:
        """Bring the pin to the level that status and mask ask for."""
        level = bool(self._get(INTERRUPT_STATUS) & self._get(INTERRUPT_MASK))
        if level == self._level:
            return
        self._level = level
        if level and self._late:
            threading.Timer(self._late, self._arrive).start()
        else:
            self.interrupts.intx(level)

    def _arrive(self) -> None:
        with self._changed, contextlib.suppress(HungUpError):
            self.interrupts.intx(self._level)

    def _interrupt(self, bit: int) -> None:
        self._put(INTERRUPT_STATUS, self._get(INTERRUPT_STATUS) | bit)
        self._drive()

    # --- the engine ------------------------------------------------------------------------------

    def _engine(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._running)
                    began = time.monotonic()
                    self._step()
                time.sleep(max(0.0005, began + self._field_time - time.monotonic()))
        except HungUpError:
            return
        except BaseException as error:
            self.error = error
            raise

    def _step(self) -> None:
        """One field, or the error interrupt that the card would give."""
        try:
            self.field()
        except (BusError, ValueError) as error:
            log.warning("DMA error: %s", error)
            self._put(DMA_CONTROL, self._get(DMA_CONTROL) & ~RUNNING)
            self._interrupt(DMA_ERROR)

    def field(self) -> None:
        """Run the program up to the next field; BusError, ValueError for what is no program."""
        synced = False
        for _ in range(_MOST_INSTRUCTIONS):
            word, address = _INSTRUCTION.unpack(self.memory.read(self._program, 8))
            operation = word >> 28
            if operation in (SYNC_ODD, SYNC_EVEN):
                if synced:
                    return
                synced = True
                # The odd field has the lines 0, 2, 4, ...; it begins a frame, and where there is
                # no other kind of field each one does.
                self._line = -2 if operation == SYNC_ODD else -1
                self._frame += operation == SYNC_ODD or self._field == SYNC_EVEN
                self._field = operation
            elif operation in (LINE_START, IN_LINE):
                self._segment(operation, word, address)
            elif operation != JUMP:
                raise ValueError(f"instruction {word:#010x} at {self._program:#x}")
            if word & INTERRUPT:
                self._interrupt(DMA_DONE)
            self._program = address if operation == JUMP else self._program + 8
        raise ValueError(f"a program without a field, at {self._program:#x}")

    def _segment(self, operation: int, word: int, address: int) -> None:
        """A piece of a line, from its start or from an offset in it."""
        if operation == LINE_START:
            self._line += 2
        start = word >> 12 & 0xFFF if operation == IN_LINE else 0
        length = word & 0xFFF
        line = card_line(self._frame, self._line, min(start + length, _LONGEST_LINE))
        self.memory.write(address, line[start:])
