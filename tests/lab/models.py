# SPDX-License-Identifier: GPL-2.0-or-later
"""Device models for tests of the lab: a PCI device that no driver wants, with a BAR of memory."""

from __future__ import annotations

from collections.abc import Mapping

from hil.silicon.device import Bar, Identity, PciDevice

_TESTDEV = Identity(0x1B36, 0x0005, 0x00FF00)
"""QEMU's pci-testdev, whose BAR the memory class pci-bar takes before any other."""


class MemoryCard(PciDevice):
    """It lives; with the option fails = "yes" it dies when its BAR is placed."""

    def __init__(self, *, extended: bool, fails: bool) -> None:
        super().__init__(_TESTDEV, {0: Bar(1 << 24, memory=True)}, extended=extended)
        self._fails = fails

    @classmethod
    def make(cls, options: Mapping[str, str], *, extended: bool) -> MemoryCard:
        return cls(extended=extended, fails=options.get("fails") == "yes")

    def config_write(self, offset: int, size: int, value: int) -> None:
        if self._fails and offset == 4 and value & 2:
            raise RuntimeError("the memory card caught fire")
        super().config_write(offset, size, value)
