# SPDX-License-Identifier: GPL-2.0-or-later
"""A behavioural Gaudi: what habanalabs.ko needs to come up, to map host memory and to move data.

Engines are idle, firmware is whatever was loaded, and there is no NIC, TPC, MME, sync manager or
event queue.  What counts for pinning is real: page tables in HBM are walked, and data goes to and
from the guest's RAM by physical address.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Mapping

from hil.silicon.device import Bar, Identity, PciDevice
from hil.silicon.gaudi import layout
from hil.silicon.gaudi.faults import Faults
from hil.silicon.gaudi.mmu import Mmu, PageFaultError
from hil.silicon.guest_memory import BusError

_log = logging.getLogger("gaudi")
_CHUNK = 1 << 16
_ASID = 1
"""The address space of the one user process that the driver admits (HL_KERNEL_ASID_ID is 0)."""


class Gaudi(PciDevice):
    """One card."""

    def __init__(self, *, extended: bool, faults: Faults | None = None) -> None:
        identity = Identity(
            layout.VENDOR, layout.DEVICE_SECURED, layout.CLASS_ACCELERATOR, revision=1,
            subsystem_vendor=layout.VENDOR, subsystem=layout.DEVICE_SECURED,
        )  # fmt: skip
        self._sram = Bar(layout.SRAM_SIZE, memory=True, prefetchable=True)
        self._hbm = Bar(layout.HBM_SIZE, memory=True, prefetchable=True)
        bars = {
            layout.SRAM_BAR: self._sram,
            layout.CONFIG_BAR: Bar(layout.CONFIG_SIZE, prefetchable=True),
            layout.HBM_BAR: self._hbm,
        }
        super().__init__(identity, bars, extended=extended)
        if extended:
            self.config.add_capability(0x70, layout.EXPRESS)
        self.config.add_msi(0x50)
        self.config.add_capability(0x40, _POWER_MANAGEMENT, b"\0\0\0\0\x03")
        self.faults = faults or Faults()
        self.mmu = Mmu(self._hbm.bytes)
        self._registers: dict[int, int] = {}
        self._cpu_consumer = 0
        self._writes: dict[int, Callable[[int], None]] = {
            layout.KMD_MESSAGE: self._boot_message,
            layout.MMU_BUSY: self._set_root,
            layout.INVALIDATE: self._invalidated,
            layout.RESET_ALL: lambda _: self.reset(),
            layout.CPU_QUEUE_INIT: self._start_cpu_queue,
            layout.CPU_QUEUE_PI: self._run_cpu_queue,
        }
        self.reset()

    @classmethod
    def make(cls, options: Mapping[str, str], *, extended: bool) -> Gaudi:
        return cls(extended=extended, faults=Faults.parse(options))

    def reset(self) -> None:
        self._registers.clear()
        self.mmu.reset()
        self._cpu_consumer = 0
        self._registers[layout.BOOT_STATUS] = layout.WAITING_FOR_BOOT_FIT

    # registers

    def read(self, bar: int, offset: int, size: int) -> int:
        register = offset - layout.CONFIG_OFFSET
        if layout.reads_idle(register):
            return layout.IDLE
        return self._registers.get(register, 0)

    def write(self, bar: int, offset: int, size: int, value: int) -> None:
        self._write_register(offset - layout.CONFIG_OFFSET, value)

    def _write_register(self, register: int, value: int) -> None:
        self._registers[register] = value
        action = self._writes.get(register)
        if action is not None:
            action(value)
        elif register in layout.QUEUE_MANAGERS:
            channel, place = divmod(
                register - layout.QUEUE_MANAGERS.start, layout.QUEUE_MANAGER_STRIDE
            )
            if layout.PRODUCER <= place < layout.PRODUCER + 16:
                self._run_queue(channel, place - layout.PRODUCER, value)

    def _boot_message(self, value: int) -> None:
        if value == layout.BOOT_FIT_READY:
            # As if Linux ran there already, so that the driver loads none.
            self._registers[layout.COMMAND_STATUS] = layout.MESSAGE_OK
            self._registers[layout.BOOT_STATUS] = self.faults.boot_status()

    def _set_root(self, _: int) -> None:
        table = self._get(layout.HOP0_LOW) << 12 | self._get(layout.HOP0_HIGH) << 44
        self.mmu.set_root(self._get(layout.MMU_ASID), table)
        self._registers[layout.MMU_BUSY] = 0

    def _invalidated(self, _: int) -> None:
        self._registers[layout.INVALIDATE] = 0

    def _get(self, register: int) -> int:
        return self._registers.get(register, 0)

    # the device's address space

    def load(self, address: int, length: int) -> bytes:
        """Read as an engine does: PageFaultError, BusError."""
        data = b""
        while len(data) < length:
            real, count = self._resolve(address + len(data), length - len(data))
            data += self._load(real, count)
        return data

    def store(self, address: int, data: bytes) -> None:
        """Write as an engine does: PageFaultError, BusError."""
        done = 0
        while done < len(data):
            real, count = self._resolve(address + done, len(data) - done)
            self._store(real, data[done : done + count])
            done += count

    def _resolve(self, address: int, length: int) -> tuple[int, int]:
        if address < layout.VIRTUAL_BASE:
            return address, length
        real, left = self.mmu.translate(_ASID, address)
        return real, min(left, length)

    def _load(self, address: int, length: int) -> bytes:
        if address >= layout.HOST_BASE:
            return self.memory.read(address - layout.HOST_BASE, length)
        bar, start = self._on_card(address, length)
        return bar.bytes[start : start + length]

    def _store(self, address: int, data: bytes) -> None:
        if address >= layout.HOST_BASE:
            self.memory.write(address - layout.HOST_BASE, data)
            return
        bar, start = self._on_card(address, len(data))
        bar.bytes[start : start + len(data)] = data

    def _on_card(self, address: int, length: int) -> tuple[Bar, int]:
        sram = address >= layout.SRAM_BASE
        bar, start = (self._sram, address - layout.SRAM_BASE) if sram else (self._hbm, address)
        if start + length > bar.size:
            raise BusError(address, length)
        return bar, start

    # the embedded CPU

    def _start_cpu_queue(self, _: int) -> None:
        self._cpu_consumer = 0
        self._registers[layout.CPU_QUEUE_INIT] = layout.READY_FOR_HOST

    def _of_cpu(self, address: int) -> int:
        """Guest-physical, of an address as the embedded CPU has it."""
        high = self._registers.get(layout.CPU_MSB, 1) << 39
        return (high | address & layout.CPU_MASK) - layout.HOST_BASE

    def _run_cpu_queue(self, producer: int) -> None:
        if self._get(layout.CPU_QUEUE_INIT) != layout.READY_FOR_HOST or self.faults.no_answer:
            return
        low, high = self._get(layout.CPU_QUEUE_LOW), self._get(layout.CPU_QUEUE_HIGH)
        base = self._of_cpu(high << 32 | low)
        while self._cpu_consumer != producer:
            place = base + self._cpu_consumer % layout.QUEUE_ENTRIES * layout.ENTRY_SIZE
            packet, _ = struct.unpack("<QQ", self.memory.read(place, 16))
            self._cpu_consumer = (self._cpu_consumer + 1) % (2 * layout.QUEUE_ENTRIES)
            self._answer(self._of_cpu(packet))

    def _answer(self, packet: int) -> None:
        """One CPU-CP packet (struct cpucp_packet): the result in it, the fence last."""
        value, control = struct.unpack("<QI", self.memory.read(packet, 12))
        opcode = control >> 16 & 0x1FFF
        _log.debug("CPU-CP packet %d, value %#x", opcode, value)
        if opcode == layout.GET_INFO:
            info = self._of_cpu(value)
            # One temperature sensor: with none hwmon_device_register fails, and so does the probe.
            self.memory.write(info, struct.pack("<II", 1, 1))
            self.memory.write(
                info + layout.INFO_KERNEL_VERSION, b"Linux version 0.0.0-model fw-1.0.0-sec-1\0"
            )
        elif opcode in layout.GETTERS:
            self.memory.write(packet, struct.pack("<Q", 42))
        result = control & ~layout.RESULT_BITS | self.faults.result_bits()
        self.memory.write(packet + 8, struct.pack("<II", result, layout.FENCE))

    # DMA channels

    def _run_queue(self, channel: int, stream: int, producer: int) -> None:
        if self.faults.no_answer:
            return
        place = layout.QUEUE_MANAGERS.start + channel * layout.QUEUE_MANAGER_STRIDE + stream
        base = self._get(place + layout.BASE_HIGH) << 32 | self._get(place + layout.BASE_LOW)
        consumer = self._get(place + layout.CONSUMER)
        while consumer != producer:
            entry = base + consumer % layout.QUEUE_ENTRIES * layout.ENTRY_SIZE
            address, length, _ = struct.unpack("<QII", self.load(entry, 16))
            consumer = (consumer + 1) % (2 * layout.QUEUE_ENTRIES)
            try:
                self._run_buffer(self.load(address, length))
            except (PageFaultError, BusError) as error:
                # A card tells it by an event; here the submission simply never completes.
                _log.warning("DMA channel %d stops: %s", channel, error)
        self._registers[place + layout.CONSUMER] = consumer

    def _run_buffer(self, buffer: bytes) -> None:
        place = 0
        while place + 8 <= len(buffer):
            word, control = struct.unpack_from("<II", buffer, place)
            opcode = control >> 24 & 0x1F
            if opcode in (layout.MSG_LONG, layout.MSG_PROT):
                (address,) = struct.unpack_from("<Q", buffer, place + 8)
                self._message(address, word)
            elif opcode == layout.LIN_DMA:
                source, target = struct.unpack_from("<QQ", buffer, place + 8)
                self._copy(word, control, source, target)
            if opcode == layout.WREG_BULK:
                place += 8 + 8 * (word & 0xFFFF)
            else:
                place += layout.PACKET_SIZES.get(opcode, 8)

    def _message(self, address: int, value: int) -> None:
        """A 32-bit write by a queue manager: to host memory, or to a register."""
        if layout.CONFIG_BASE <= address < layout.HOST_BASE:
            register = address - layout.CONFIG_BASE
            if register in layout.MSI_REGISTERS or register == layout.MSI_REQUEST:
                if not self.faults.dropped_interrupt:
                    self.interrupts.msi()
            else:
                self._write_register(register, value)
        else:
            self.store(address, struct.pack("<I", value))

    def _copy(self, size: int, control: int, source: int, target: int) -> None:
        _log.debug("LIN_DMA %#x bytes, control %#x, %#x to %#x", size, control, source, target)
        if self.faults.reset_now(source, target):
            self.reset()
            return
        if not control & layout.LIN_DMA_MEMSET:
            for done in range(0, size, _CHUNK):
                count = min(_CHUNK, size - done)
                self.store(target + done, self.load(source + done, count))
            return
        if not source and target < layout.SRAM_BASE:
            self._hbm.clear(target, size)  # the range of the page tables, 190 MB
            return
        pattern = struct.pack("<Q", source) * (_CHUNK // 8)
        for done in range(0, size, _CHUNK):
            self.store(target + done, pattern[: size - done])


_POWER_MANAGEMENT = struct.pack("<BBHI", 0x01, 0, 0x0003, 0)
