# SPDX-License-Identifier: GPL-2.0-or-later
"""The register page of the Samsung G2D; one model serves both drivers'.

* BITBLT_START: the registers are the job (V4L2's s5p-g2d, g2d-hw.c);
* DMA_COMMAND: the job is a chain of command lists in memory, each a count, that many pairs of
  register and value, and the address of the next list or 0 (exynos_drm_g2d.c).

The page is RAM that the guest does not use otherwise.  The drivers see no difference: they set what
a job needs before they start it, and read only what an interrupt has announced.  A job that asks
for what is not modelled, or that leaves the RAM, completes and leaves the picture alone: neither
driver has a way to hear of an error.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping

from hil.silicon.g2d_engine import Engine, HungError
from hil.silicon.g2d_pixels import UnsupportedError
from hil.silicon.guest_memory import BusError, GuestMemory
from hil.silicon.registers import RegisterDevice

SIZE = 0x1000

SOFT_RESET, INTC_PEND = 0x000, 0x00C
DMA_SFR_BASE_ADDR, DMA_COMMAND, DMA_STATUS, DMA_HOLD_CMD = 0x080, 0x084, 0x08C, 0x090
BITBLT_START = 0x100

DMA_START, DMA_CONTINUE = 1 << 0, 1 << 1
LIST_HOLD = 1 << 1
PEND_BITBLT, PEND_LIST, PEND_ALL = 1 << 0, 1 << 1, 1 << 3

_MOST = 512
"""Pairs in a command list: the driver's fill a quarter of a page."""

_log = logging.getLogger("g2d")


class G2d(RegisterDevice):
    """One G2D."""

    size = SIZE

    def __init__(self, *, corrupt: bool = False) -> None:
        """``corrupt`` has one bit of each job's result wrong: what the data checks must notice."""
        super().__init__()
        self._corrupt = corrupt
        self._next = 0
        self._done = 0

    @classmethod
    def make(cls, options: Mapping[str, str]) -> G2d:
        """Options: ``corrupt`` = "yes"."""
        for name, value in options.items():
            if (name, value) != ("corrupt", "yes"):
                raise ValueError(f"option {name} = {value!r}, expected corrupt = 'yes'")
        return cls(corrupt=bool(options))

    def poll(self) -> None:
        """Do what the driver has asked for."""
        command = self.registers[DMA_COMMAND]
        if command & (DMA_START | DMA_CONTINUE):
            self.registers[DMA_COMMAND] = 0
            if command & DMA_START:
                self._next, self._done = self.registers[DMA_SFR_BASE_ADDR], 0
            self._lists()
        elif self.registers[BITBLT_START] & 1:
            self._blit()

    def _do(self, registers: Mapping[int, int]) -> bool:
        """Run one job; False when it hangs."""
        try:
            _log.debug("%s", Engine(self.memory, corrupt=self._corrupt).run(registers))
        except HungError:
            _log.info("a job that never completes")
            return False
        except (UnsupportedError, BusError) as error:
            _log.warning("left alone: %s", error)
        return True

    def _blit(self) -> None:
        registers = {offset: self.registers[offset] for offset in range(0, SIZE, 4)}
        # The driver resets before each job (g2d_reset): what it then does not set reads as zero.
        self.reset()
        if self._do(registers):
            self.registers[INTC_PEND] = PEND_BITBLT
            self.pin.pulse()

    def _lists(self) -> None:
        """Run lists up to the end of the chain, or to one that is to be held."""
        while self._next:
            try:
                registers, following = command_list(self.memory, self._next)
            except (BusError, ValueError) as error:
                _log.warning("no command list at %#x: %s", self._next, error)
                return
            if not self._do(registers):
                return
            self._next = following
            self._done += 1
            if registers.get(DMA_HOLD_CMD, 0) & LIST_HOLD:
                self._finish(PEND_LIST | (0 if following else PEND_ALL))
                return
        self._finish(PEND_ALL)

    def _finish(self, pending: int) -> None:
        self.registers[DMA_STATUS] = (self._done & 0xFF) << 17 | 1
        self.registers[INTC_PEND] = pending
        self.pin.pulse()


def command_list(memory: GuestMemory, address: int) -> tuple[dict[int, int], int]:
    """The registers that a command list sets, and the address of the next list.

    ValueError for a count that no driver makes, BusError where there is no RAM.
    """
    (count,) = struct.unpack("<I", memory.read(address, 4))
    if not 0 < count <= _MOST:
        raise ValueError(f"a count of {count}")
    *words, following = struct.unpack(f"<{2 * count + 1}I", memory.read(address + 4, 8 * count + 4))
    # A register may be set twice; the last value is the one at the start of the job.
    pairs = zip(words[::2], words[1::2], strict=True)
    return {register & 0xFFF: value for register, value in pairs}, following
