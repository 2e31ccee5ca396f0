# SPDX-License-Identifier: GPL-2.0-or-later
"""A Habana Goya, as far as the driver gets with one: to the software side of its MMU.

``goya_set_fixed_properties`` leaves dmmu.pgt_size at 0, so hl_mmu_dr_init asks gen_pool_add for a
pool of a negative size, vmalloc refuses 2^49 bytes, and the probe fails (6.12 to 7.3).  No register
is of any interest before that.  Sources as in layout.py, below goya/.
"""

from __future__ import annotations

from collections.abc import Mapping

from hil.silicon.device import Bar, Identity, PciDevice
from hil.silicon.gaudi import layout

_DEVICE = 0x0001
_ELBI_ADDRESS, _ELBI_DATA, _ELBI_STATUS = 0xFF0, 0xFF4, 0xFFC
_ELBI_DONE = 0x80000000
_CONFIG_OFFSET = 0x0C000000
"""Of CFG_BASE in the BAR that SRAM begins."""


class Goya(PciDevice):
    """Registers that keep what is written, and the ELBI window to them in configuration space."""

    def __init__(self, *, extended: bool) -> None:
        if not extended:
            raise ValueError(
                "a Goya needs 4096 bytes of configuration space, which x-pci-proxy-dev has not: "
                "take vfio-user"
            )
        identity = Identity(layout.VENDOR, _DEVICE, layout.CLASS_ACCELERATOR, revision=1)
        bars = {
            0: Bar(256 * layout.MIB, prefetchable=True),
            2: Bar(4096, prefetchable=True),
            4: Bar(512 * layout.MIB, memory=True, prefetchable=True),
        }
        super().__init__(identity, bars, extended=extended)
        self.config.add_capability(0x70, layout.EXPRESS)
        for register in range(_ELBI_ADDRESS, 0x1000, 4):
            self.config.put(register, bytes(4), b"\xff" * 4)
        self._registers: dict[int, int] = {}
        self.reset()

    @classmethod
    def make(cls, options: Mapping[str, str], *, extended: bool) -> Goya:
        for key in options:
            raise ValueError(f"unknown option {key!r}: a Goya has none")
        return cls(extended=extended)

    def reset(self) -> None:
        self._registers = {layout.BOOT_STATUS: layout.WAITING_FOR_BOOT_FIT}

    def config_read(self, offset: int, size: int) -> int:
        if offset == _ELBI_STATUS:
            return _ELBI_DONE
        if offset == _ELBI_DATA:
            address = self.config.read(_ELBI_ADDRESS, 4)
            return self._registers.get(address - (layout.CONFIG_BASE & 0xFFFFFFFF), 0)
        return super().config_read(offset, size)

    def read(self, bar: int, offset: int, size: int) -> int:
        return self._registers.get(offset - _CONFIG_OFFSET, 0) if bar == 0 else 0

    def write(self, bar: int, offset: int, size: int, value: int) -> None:
        if bar == 0:
            self._registers[offset - _CONFIG_OFFSET] = value
