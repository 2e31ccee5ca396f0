# SPDX-License-Identifier: GPL-2.0-or-later
"""The G2D model on a piece of RAM in a file: no QEMU, no driver."""

from __future__ import annotations

import mmap
import random
import struct

import pytest

from hil.silicon import g2d as device
from hil.silicon import g2d_engine as engine
from hil.silicon import g2d_pixels as pixels
from hil.silicon.g2d import SIZE, G2d
from hil.silicon.g2d_engine import Engine
from hil.silicon.guest_memory import BusError, GuestMemory, Part
from hil.silicon.registers import Registers

BASE, RAM = 0x4000_0000, 1 << 20
REGISTERS, LIST, SOURCE, TARGET = BASE, BASE + 0x1000, BASE + 0x10000, BASE + 0x20000
XRGB, RGB565, RGB888 = 0, 2, 7


@pytest.fixture
def ram() -> GuestMemory:
    made = GuestMemory()
    made.add(Part(BASE, RAM, mmap.mmap(-1, RAM)))
    return made


class Pin:
    """Notes what was pending at each edge."""

    def __init__(self, block: G2d) -> None:
        self.block = block
        self.pulses: list[int] = []

    def pulse(self) -> None:
        self.pulses.append(self.block.registers[device.INTC_PEND])


@pytest.fixture
def block(ram: GuestMemory) -> G2d:
    made = G2d()
    made.memory, made.registers = ram, Registers(ram, REGISTERS)
    made.pin = Pin(made)  # type: ignore[assignment]
    made.reset()
    return made


@pytest.fixture
def pulses(block: G2d) -> list[int]:
    return block.pin.pulses  # type: ignore[attr-defined, no-any-return]


def word(ram: GuestMemory, address: int) -> int:
    return int.from_bytes(ram.read(address, 4), "little")


def rectangle(left: int, top: int, right: int, bottom: int) -> tuple[int, int]:
    return top << 16 | left, bottom << 16 | right


def copy(
    source: tuple[int, int, int, int], target: tuple[int, int, int, int],
    *, mode: int = XRGB, into: int = XRGB, stride: int = 64, into_stride: int = 64,
) -> dict[int, int]:  # fmt: skip
    """The registers of a copy between two pictures."""
    return {
        engine.SRC_BASE_ADDR: SOURCE, engine.SRC_STRIDE: stride, engine.SRC_COLOR_MODE: mode,
        engine.SRC_LEFT_TOP: rectangle(*source)[0], engine.SRC_RIGHT_BOTTOM: rectangle(*source)[1],
        engine.DST_BASE_ADDR: TARGET, engine.DST_STRIDE: into_stride, engine.DST_COLOR_MODE: into,
        engine.DST_LEFT_TOP: rectangle(*target)[0], engine.DST_RIGHT_BOTTOM: rectangle(*target)[1],
        engine.ROP4: 0xCCCC,
    }  # fmt: skip


def picture(ram: GuestMemory, length: int = 1024) -> bytes:
    data = random.Random(1).randbytes(length)
    ram.write(SOURCE, data)
    return data


WHOLE = (0, 0, 16, 16)


def test_a_copy_is_byte_exact_and_touches_nothing_else(ram: GuestMemory) -> None:
    data = picture(ram)
    Engine(ram).run(copy(WHOLE, WHOLE))
    assert ram.read(TARGET, 1024) == data
    assert not any(ram.read(TARGET + 1024, 4096))
    assert not any(ram.read(TARGET - 4096, 4096))


def test_a_rectangle_of_a_picture(ram: GuestMemory) -> None:
    data = picture(ram)
    Engine(ram).run(copy((3, 2, 7, 4), (8, 9, 12, 11)))
    for y in range(2):
        at = TARGET + (9 + y) * 64
        assert ram.read(at, 64)[32:48] == data[(2 + y) * 64 + 12 : (2 + y) * 64 + 28]
        assert not any(ram.read(at, 32))


def test_mirrored_both_ways(ram: GuestMemory) -> None:
    data = picture(ram)
    Engine(ram).run({**copy(WHOLE, WHOLE), engine.SRC_MSK_DIRECT: 3})
    words = struct.unpack("<256I", data)
    assert struct.unpack("<256I", ram.read(TARGET, 1024)) == words[::-1]


@pytest.mark.parametrize(("bit", "first"), [(1, 15), (2, 15 * 16)])
def test_mirrored_one_way(ram: GuestMemory, bit: int, first: int) -> None:
    data = picture(ram)
    Engine(ram).run({**copy(WHOLE, WHOLE), engine.DST_PAT_DIRECT: bit})
    assert ram.read(TARGET, 4) == data[4 * first : 4 * first + 4]


def test_stretched_by_the_nearest_pixel(ram: GuestMemory) -> None:
    data = picture(ram)
    Engine(ram).run(copy((0, 0, 8, 8), WHOLE))
    for x, y in ((0, 0), (5, 3), (15, 15)):
        at = y // 2 * 64 + x // 2 * 4
        assert ram.read(TARGET + y * 64 + x * 4, 4) == data[at : at + 4]


def test_inverted(ram: GuestMemory) -> None:
    data = picture(ram)
    Engine(ram).run({**copy(WHOLE, WHOLE), engine.ROP4: 0x3333})
    assert ram.read(TARGET, 1024) == bytes(255 - byte for byte in data)


@pytest.mark.parametrize(
    ("code", "expected"), [(0xCC, 0b1100), (0xAA, 0b1010), (0x66, 0b0110), (0x88, 0b1000), (0, 0)]
)
def test_raster_operations_are_truth_tables(code: int, expected: int) -> None:
    assert pixels.raster(code, bytes([0b1100]), bytes([0b1010]))[0] & 15 == expected


@pytest.mark.parametrize("select", [0, 1, 2])
def test_fills(ram: GuestMemory, select: int) -> None:
    names = {0: engine.SF_COLOR, 1: engine.FG_COLOR, 2: engine.BG_COLOR}
    command = 0 if select else engine.FAST_FILL
    registers = copy((0, 0, 0, 0), (1, 1, 3, 2)) | {
        engine.BITBLT_COMMAND: command, engine.SRC_SELECT: select, names[select]: 0xFEEDBEEF,
    }  # fmt: skip
    Engine(ram).run(registers)
    assert ram.read(TARGET + 64, 16) == bytes(4) + b"\xef\xbe\xed\xfe" * 2 + bytes(4)


def test_clipped_to_a_window(ram: GuestMemory) -> None:
    registers = copy(WHOLE, WHOLE) | {
        engine.BITBLT_COMMAND: engine.FAST_FILL | engine.CLIP, engine.SF_COLOR: 0xFFFFFFFF,
        engine.CW_LT: rectangle(2, 1, 0, 0)[0], engine.CW_RB: rectangle(0, 0, 4, 2)[1],
    }  # fmt: skip
    Engine(ram).run(registers)
    assert ram.read(TARGET, 1024).count(0xFF) == 8
    assert ram.read(TARGET + 64 + 8, 8) == b"\xff" * 8


@pytest.mark.parametrize("mode", range(8))
@pytest.mark.parametrize("order", range(4))
def test_each_format_survives_the_way_there_and_back(mode: int, order: int) -> None:
    form = pixels.format_of(order << 4 | mode)
    pixel = pixels.pack({"a": 0xF8, "r": 0x88, "g": 0x40, "b": 0xC8}, form)
    assert len(pixel) == form.size
    assert pixels.pack(pixels.unpack(pixel, form), form) == pixel


def test_white_is_white_and_black_is_black_in_every_format() -> None:
    for value in (0, 255):
        pixel = bytes([value] * 4)
        for mode in (RGB565, 3, 5, RGB888):
            small = pixels.convert(pixel, XRGB, mode)
            back = pixels.unpack(small, pixels.format_of(mode))
            assert (back["r"], back["g"], back["b"]) == (value,) * 3


def test_a_copy_into_another_format(ram: GuestMemory) -> None:
    ram.write(SOURCE, b"\x10\x80\xff\x00")  # blue 0x10, green 0x80, red 0xff
    Engine(ram).run(copy((0, 0, 1, 1), (0, 0, 1, 1), into=RGB565))
    assert word(ram, TARGET) == 0x1F << 11 | 0x20 << 5 | 0x02
    Engine(ram).run(copy((0, 0, 1, 1), (0, 0, 1, 1), into=RGB888))
    assert ram.read(TARGET, 3) == b"\x10\x80\xff"


@pytest.mark.parametrize("change", [{engine.DST_COLOR_MODE: 8}, {engine.BITBLT_COMMAND: 1 << 20}])
def test_what_is_not_modelled_is_told_and_leaves_the_picture_alone(
    ram: GuestMemory, change: dict[int, int]
) -> None:
    picture(ram)
    with pytest.raises(pixels.UnsupportedError):
        Engine(ram).run({**copy(WHOLE, WHOLE), **change})
    assert not any(ram.read(TARGET, 1024))


def test_beyond_the_ram_is_a_bus_error(ram: GuestMemory) -> None:
    picture(ram)
    with pytest.raises(BusError, match="0x40100000"):
        Engine(ram).run({**copy(WHOLE, WHOLE), engine.DST_BASE_ADDR: BASE + RAM})
    with pytest.raises(BusError):
        ram.read(BASE + RAM - 2, 4)


def test_the_negative_control_spoils_one_bit_of_each_job(ram: GuestMemory) -> None:
    data = picture(ram)
    Engine(ram, corrupt=True).run(copy(WHOLE, WHOLE))
    result = ram.read(TARGET, 1024)
    wrong = [one ^ other for one, other in zip(result, data, strict=True) if one != other]
    assert wrong == [1]


# --- the register page ----------------------------------------------------------------------------


def put(block: G2d, registers: dict[int, int]) -> None:
    for register, value in registers.items():
        block.registers[register] = value


def test_nothing_happens_without_a_start(ram: GuestMemory, block: G2d, pulses: list[int]) -> None:
    put(block, {device.SOFT_RESET: 1, **copy(WHOLE, WHOLE)})
    block.poll()
    assert pulses == []


def test_a_blit_by_registers(ram: GuestMemory, block: G2d, pulses: list[int]) -> None:
    data = picture(ram)
    put(block, {device.SOFT_RESET: 1, **copy(WHOLE, WHOLE), device.BITBLT_START: 1})
    block.poll()
    assert ram.read(TARGET, 1024) == data
    block.poll()
    assert pulses == [device.PEND_BITBLT]


def test_registers_of_one_job_are_not_those_of_the_next(ram: GuestMemory, block: G2d) -> None:
    data = picture(ram)
    put(block, {**copy(WHOLE, WHOLE), engine.SRC_MSK_DIRECT: 3, device.BITBLT_START: 1})
    block.poll()
    put(block, {**copy(WHOLE, WHOLE), device.BITBLT_START: 1})
    block.poll()
    assert ram.read(TARGET, 1024) == data


def lay(ram: GuestMemory, address: int, registers: dict[int, int], following: int = 0) -> None:
    """A command list as the driver makes it."""
    pairs = [word for pair in registers.items() for word in pair]
    words = [len(registers), *pairs, following]
    ram.write(address, struct.pack(f"<{len(words)}I", *words))


def start(block: G2d) -> None:
    put(block, {device.DMA_SFR_BASE_ADDR: LIST, device.DMA_COMMAND: device.DMA_START})


def test_a_chain_of_command_lists(ram: GuestMemory, block: G2d, pulses: list[int]) -> None:
    data = picture(ram)
    lay(ram, LIST, copy((0, 0, 16, 8), (0, 0, 16, 8)), LIST + 0x400)
    lay(ram, LIST + 0x400, copy((0, 8, 16, 16), (0, 8, 16, 16)))
    start(block)
    block.poll()
    assert ram.read(TARGET, 1024) == data
    assert pulses == [device.PEND_ALL]
    assert block.registers[device.DMA_STATUS] == 2 << 17 | 1


def test_a_held_list_waits_for_the_word_to_go_on(
    ram: GuestMemory, block: G2d, pulses: list[int]
) -> None:
    data = picture(ram)
    held = {device.DMA_HOLD_CMD: device.LIST_HOLD}
    lay(ram, LIST, {**held, **copy((0, 0, 16, 8), (0, 0, 16, 8))}, LIST + 0x400)
    lay(ram, LIST + 0x400, {**held, **copy((0, 8, 16, 16), (0, 8, 16, 16))})
    start(block)
    block.poll()
    assert pulses == [device.PEND_LIST]
    block.poll()
    assert ram.read(TARGET, 1024) == data[:512] + bytes(512)
    put(block, {device.DMA_COMMAND: device.DMA_CONTINUE})
    block.poll()
    assert pulses == [device.PEND_LIST, device.PEND_LIST | device.PEND_ALL]
    assert ram.read(TARGET, 1024) == data


def test_a_job_that_fails_completes_all_the_same(
    ram: GuestMemory, block: G2d, pulses: list[int]
) -> None:
    put(block, {**copy(WHOLE, WHOLE), engine.SRC_BASE_ADDR: 0, device.BITBLT_START: 1})
    block.poll()
    assert pulses == [device.PEND_BITBLT]


def test_a_job_that_never_completes(ram: GuestMemory, block: G2d, pulses: list[int]) -> None:
    ram.write(SOURCE, engine.NEVER)
    put(block, {**copy(WHOLE, WHOLE), device.BITBLT_START: 1})
    block.poll()
    lay(ram, LIST, copy(WHOLE, WHOLE))
    start(block)
    block.poll()
    assert pulses == []


@pytest.mark.parametrize("count", [0, 513])
def test_a_list_that_no_driver_makes_is_not_run(
    ram: GuestMemory, block: G2d, pulses: list[int], count: int
) -> None:
    ram.write(LIST, struct.pack("<I", count))
    start(block)
    block.poll()
    assert pulses == []


def test_options() -> None:
    G2d.make({})
    G2d.make({"corrupt": "yes"})
    with pytest.raises(ValueError, match="corrupt = 'yes'"):
        G2d.make({"colour": "red"})
    assert G2d.size == SIZE
