# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices whose registers are a piece of reserved guest RAM, which the model polls.

For devices on no bus that QEMU could give to a model: a platform device of a SoC.  The board file
says where the registers lie, and which pin of the interrupt controller is theirs.  Plain RAM has no
side effects, so interrupts are edges and a register that is written is seen when it is polled.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping

from hil.silicon.guest_memory import GuestMemory
from hil.silicon.qtest import Pin
from hil.silicon.wire import HungUpError

POLL = 0.0005
"""Seconds between two looks at the registers."""


class Registers:
    """32-bit registers by offset, in the guest's RAM."""

    def __init__(self, memory: GuestMemory, base: int) -> None:
        self._memory, self._base = memory, base

    def __getitem__(self, offset: int) -> int:
        (value,) = struct.unpack("<I", self._memory.read(self._base + offset, 4))
        return int(value)

    def __setitem__(self, offset: int, value: int) -> None:
        self._memory.write(self._base + offset, struct.pack("<I", value & 0xFFFFFFFF))


class RegisterDevice:
    """A model of such a device: ``size`` bytes of registers, looked at by ``poll``."""

    size: int

    def __init__(self) -> None:
        self.memory = GuestMemory()
        self.registers: Registers
        self.pin: Pin

    @classmethod
    def make(cls, options: Mapping[str, str]) -> RegisterDevice:
        """A model as a board file asks for it; ValueError for an option that it does not know."""
        raise NotImplementedError

    def reset(self) -> None:
        """As after power-on; the default clears all registers."""
        for offset in range(0, self.size, 4):
            self.registers[offset] = 0

    def poll(self) -> None:
        """Look at the registers, and do what they ask for."""
        raise NotImplementedError


def serve(device: RegisterDevice, memory: GuestMemory, base: int, pin: Pin) -> None:
    """Run a device whose registers are at ``base`` until QEMU ends."""
    device.memory, device.registers, device.pin = memory, Registers(memory, base), pin
    device.reset()
    try:
        while True:
            device.poll()
            time.sleep(POLL)
    except HungUpError:
        return
