# SPDX-License-Identifier: GPL-2.0-or-later
"""The Gaudi model: a recorded session of habanalabs.ko again, by each transport, and its faults.

The trace is of Debian's 6.12.118: modprobe, then two cells that map anonymous memory and copy to it
and from it.  To record another: HIL_SILICON_TRACE=FOLDER hil run --board virtual-gaudi ...
"""

from __future__ import annotations

import lzma
import struct
from pathlib import Path

import pytest
from silicon_parts import RAM, ProxyClient, VfioClient, ram

from hil.silicon import trace
from hil.silicon.gaudi import faults, layout
from hil.silicon.gaudi.card import Gaudi
from hil.silicon.gaudi.faults import Faults
from hil.silicon.gaudi.goya import Goya
from hil.silicon.gaudi.mmu import PageFaultError
from hil.silicon.guest_memory import BusError, part

TRACES = sorted((Path(__file__).parent / "data/traces").glob("gaudi-*.xz"))


def recorded(path: Path = TRACES[0]) -> list[str]:
    return lzma.decompress(path.read_bytes()).decode().splitlines()


class ByProxy:
    """The trace's accesses as messages to x-pci-proxy-dev's server: BARs by their bus addresses."""

    def __init__(self, card: Gaudi) -> None:
        self.client, self._card = ProxyClient(card), card
        self.config_read, self.config_write = self.client.config_read, self.client.config_write

    def _at(self, number: int, offset: int) -> int:
        return self._card.config.bar_address(number) + offset

    def bar_read(self, number: int, offset: int, size: int) -> int:
        return self.client.bar_read(self._at(number, offset), size)

    def bar_write(self, number: int, offset: int, size: int, value: int) -> None:
        self.client.bar_write(self._at(number, offset), size, value)


class ByVfio:
    """The trace's accesses as messages to vfio-user-pci's server."""

    def __init__(self, card: Gaudi) -> None:
        self.client = VfioClient(card)
        self.bar_read, self.bar_write = self.client.region_read, self.client.region_write

    def config_read(self, offset: int, size: int) -> int:
        return self.client.region_read(7, offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        self.client.region_write(7, offset, size, value)


@pytest.mark.parametrize("path", TRACES, ids=lambda p: p.stem)
def test_the_driver_gets_the_answers_that_it_got(path: Path) -> None:
    assert trace.replay(Gaudi(extended=False), recorded(path)) > 10_000


@pytest.mark.parametrize("way", [ByProxy, ByVfio])
def test_a_transport_changes_nothing(way: type[ByProxy | ByVfio]) -> None:
    card = Gaudi(extended=False)
    guest = way(card)
    try:
        assert trace.replay(card, recorded(), guest) > 10_000
    finally:
        assert guest.client.served.hang_up() is None


def test_a_deviation_is_found() -> None:
    lines = recorded()
    place = next(i for i, line in enumerate(lines) if line.startswith("M w"))
    with pytest.raises(trace.DeviationError, match=f"line {place + 1}: made M w"):
        trace.replay(Gaudi(extended=False), [*lines[:place], "M w 0 00", *lines[place + 1 :]])
    place = next(i for i, line in enumerate(lines) if line.startswith("B r 2"))
    with pytest.raises(trace.DeviationError, match="made the answer"):
        trace.replay(Gaudi(extended=False), [*lines[:place], lines[place] + "f"])


# what the card does with memory


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


@pytest.fixture(name="card")
def _card() -> Gaudi:
    """A card with guest RAM at 1 GiB, and two of its pages mapped at VIRTUAL_BASE."""
    card = Gaudi(extended=True)
    fd, content = ram()
    card.memory.add(part(1 << 30, RAM, fd, 0))
    content[0x5000:0x5008] = b"fifthpag"
    hbm = card.bars[layout.HBM_BAR].bytes
    tables = [0x100000 * (i + 1) for i in range(5)]
    address = layout.VIRTUAL_BASE
    for number, (table, shift) in enumerate(zip(tables, (48, 39, 30, 21, 12), strict=True)):
        index = address >> shift & (0x1FF if number else 3)
        last = number == 4
        entry = (layout.HOST_BASE + (1 << 30) + 0x5000 if last else tables[number + 1]) | 1
        struct.pack_into("<Q", hbm, table + 8 * index, entry)
        if last:
            struct.pack_into("<Q", hbm, table + 8 * index + 8, entry - 0x3000)
    register = layout.CONFIG_OFFSET
    card.bar_write(2, register + layout.MMU_ASID, 4, 1)
    card.bar_write(2, register + layout.HOP0_LOW, 4, tables[0] >> 12)
    card.bar_write(2, register + layout.HOP0_HIGH, 4, 0)
    card.bar_write(2, register + layout.MMU_BUSY, 4, 0x80000000)
    assert card.bar_read(2, register + layout.MMU_BUSY, 4) == 0
    return card


def test_virtual_addresses_go_through_the_tables(card: Gaudi) -> None:
    assert card.load(layout.VIRTUAL_BASE, 8) == b"fifthpag"
    card.store(layout.VIRTUAL_BASE + 0xFFC, b"frontBACK")
    assert card.memory.read((1 << 30) + 0x5FFC, 4) == b"fron"
    assert card.memory.read((1 << 30) + 0x2000, 5) == b"tBACK"
    with pytest.raises(PageFaultError):
        card.load(layout.VIRTUAL_BASE + 0x2000, 1)
    with pytest.raises(BusError):
        card.load(layout.HOST_BASE, 4)
    with pytest.raises(BusError):
        card.load(layout.HBM_SIZE - 4, 8)


def copy(source: int, target: int, size: int, control: int = 0) -> bytes:
    return struct.pack("<IIQQ", size, layout.LIN_DMA << 24 | control, source, target)


def submit(card: Gaudi, packets: bytes) -> None:
    """Put a command buffer on the first DMA channel's first stream, and ring its doorbell."""
    card.memory.write(1 << 30, packets)
    card.memory.write((1 << 30) + 0x8000, struct.pack("<QII", layout.HOST_BASE + (1 << 30),
                                                      len(packets), 0))  # fmt: skip
    manager = layout.CONFIG_OFFSET + layout.QUEUE_MANAGERS.start
    queue = layout.HOST_BASE + (1 << 30) + 0x8000
    card.bar_write(2, manager + layout.BASE_LOW, 4, queue & 0xFFFFFFFF)
    card.bar_write(2, manager + layout.BASE_HIGH, 4, queue >> 32)
    card.bar_write(2, manager + layout.PRODUCER, 4, 1)
    assert card.bar_read(2, manager + layout.CONSUMER, 4) == 1


class Counted:
    """Counts interrupts."""

    def __init__(self) -> None:
        self.messages = 0

    def msi(self, vector: int = 0) -> bool:
        self.messages += 1
        return True

    def intx(self, level: bool) -> None:
        raise AssertionError("a Gaudi has no INTx")


def interrupt() -> bytes:
    register = layout.CONFIG_BASE + layout.MSI_REQUEST
    return struct.pack("<IIQ", 1, layout.MSG_PROT << 24, register)


def test_a_submission_copies_and_interrupts(card: Gaudi) -> None:
    card.interrupts = counted = Counted()
    sram = layout.SRAM_BASE + 0x1000
    submit(card, copy(layout.VIRTUAL_BASE, sram, 8) + copy(sram, layout.VIRTUAL_BASE + 0x1000, 8)
           + copy(0x4142, layout.VIRTUAL_BASE + 0x1010, 8, layout.LIN_DMA_MEMSET)
           + interrupt())  # fmt: skip
    assert card.memory.read((1 << 30) + 0x2000, 8) == b"fifthpag"
    assert card.memory.read((1 << 30) + 0x2010, 8) == words(0x4142)
    assert counted.messages == 1


def test_a_submission_to_nowhere_never_completes(card: Gaudi) -> None:
    card.interrupts = counted = Counted()
    submit(card, copy(layout.VIRTUAL_BASE + 0x9000, layout.SRAM_BASE, 8) + interrupt())
    assert counted.messages == 0


# faults


def test_a_card_that_drops_interrupts(card: Gaudi) -> None:
    card.interrupts = counted = Counted()
    card.faults = Faults("dropped-interrupt")
    submit(card, copy(layout.VIRTUAL_BASE, layout.SRAM_BASE, 8) + interrupt())
    assert counted.messages == 0
    assert card.load(layout.SRAM_BASE, 8) == b"fifthpag"


def test_a_card_that_resets_while_memory_is_mapped(card: Gaudi) -> None:
    card.faults = Faults("reset-while-mapped")
    card.memory.write(1 << 30, copy(layout.VIRTUAL_BASE, layout.SRAM_BASE, 8))
    card._run_buffer(card.memory.read(1 << 30, 24))
    with pytest.raises(PageFaultError):
        card.load(layout.VIRTUAL_BASE, 8)


@pytest.mark.parametrize(
    ("fault", "line"),
    [("no-answer", "M r"), ("wrong-status", "B r 2 4c4b300 4 3"), ("wrong-result", "M w")],
)
def test_faults_that_the_driver_meets_at_its_start(fault: str, line: str) -> None:
    """The first event that does not come as recorded is the one that the fault is about."""
    lines = recorded()
    with pytest.raises(trace.DeviationError, match=line):
        trace.replay(Gaudi(extended=False, faults=Faults(fault)), lines)


def test_faults_are_asked_for_by_name() -> None:
    assert [Faults.parse({"fault": name}).name for name in faults.NAMES] == list(faults.NAMES)
    with pytest.raises(ValueError, match="fault 'fire', expected one of no-answer"):
        Gaudi.make({"fault": "fire"}, extended=False)
    with pytest.raises(ValueError, match="unknown option 'falt'"):
        Gaudi.make({"falt": "no-answer"}, extended=False)


# Goya


def test_a_goya_shows_its_registers_in_configuration_space() -> None:
    goya = Goya(extended=True)
    assert goya.config_read(0, 4) == 0x00011DA3
    assert goya.config_read(0xFFC, 4) == 0x80000000
    goya.config_write(0xFF0, 4, 0xFC000000 + layout.BOOT_STATUS)
    assert goya.config_read(0xFF4, 4) == layout.WAITING_FOR_BOOT_FIT
    goya.bar_write(0, 0x0C000000 + layout.BOOT_STATUS, 4, 5)
    assert goya.config_read(0xFF4, 4) == goya.bar_read(0, 0x0CC4B300, 4) == 5
    with pytest.raises(ValueError, match="take vfio-user"):
        Goya.make({}, extended=False)
    with pytest.raises(ValueError, match="unknown option 'fault'"):
        Goya.make({"fault": "no-answer"}, extended=True)
