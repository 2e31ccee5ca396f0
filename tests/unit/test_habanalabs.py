# SPDX-License-Identifier: GPL-2.0-or-later
"""The habanalabs pinner against a model of the driver's answers; no device is needed."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from errno import EAGAIN, EBUSY, EINVAL, EIO, ENOMEM, ENOTTY, EPERM, ETIMEDOUT
from pathlib import Path
from typing import Any

import pytest

from hil.cells import Direction
from hil.memory.base import Buffer, pattern
from hil.pinners import habanalabs, habanalabs_discovery, habanalabs_life
from hil.pinners.base import Node
from hil.system import modules
from hil.uapi import access, mm
from hil.uapi import habanalabs as uapi

SRAM = 0x7FF0000000
NODE = Node("/dev/accel/accel0", "habanalabs", "0000:00:10.0", "1da3:1010", "none", (), "")


class Driver:
    """Maps, and copies between what is mapped and its SRAM; keeps what it was asked."""

    def __init__(self) -> None:
        self.numbers = {number: nr for nr, number in uapi.DRM_NUMBERS.items()}
        self.mapped: dict[int, tuple[int, int]] = {}
        self.sram = bytearray(uapi_size())
        self.log: list[str] = []
        self.map_errno = 0
        self.status = uapi.HL_WAIT_CS_STATUS_COMPLETED
        self.buffers: dict[int, bytearray] = {}

    def ioctl(self, fd: int, number: int, it: Any) -> int:
        if number not in self.numbers:
            raise OSError(ENOTTY, "Inappropriate ioctl for device")
        (self._info, self._cb, self._cs, self._wait, self._memory)[self.numbers[number]](it)
        return 0

    def _info(self, it: uapi.InfoArgs) -> None:
        found = uapi.HwIpInfo.from_address(it.return_pointer)
        found.sram_base_address, found.sram_size = SRAM, len(self.sram)

    def _memory(self, it: Any) -> None:
        request = getattr(it, "in")
        if request.op == uapi.HL_MEM_OP_UNMAP:
            self.log.append("unmap")
            del self.mapped[request.unmap.device_virt_addr]
            return
        assert (request.op, request.flags) == (uapi.HL_MEM_OP_MAP, uapi.HL_MEM_USERPTR)
        if self.map_errno:
            raise OSError(self.map_errno, os.strerror(self.map_errno))
        address, size = request.map_host.host_virt_addr, request.map_host.mem_size
        device = (len(self.log) + 1) << 48
        self.mapped[device] = (address, size)
        self.log.append("map")
        it.out.device_virt_addr = device

    def _cb(self, it: Any) -> None:
        request = getattr(it, "in")
        if request.op == uapi.HL_CB_OP_CREATE:
            self.buffers[0x1000] = bytearray(request.cb_size)
            it.out.cb_handle = 0x1000
        else:
            del self.buffers[request.cb_handle]

    def _cs(self, it: Any) -> None:
        chunk = uapi.CsChunk.from_address(getattr(it, "in").chunks_execute)
        packets = self.buffers[chunk.cb_handle][: chunk.cb_size]
        size, control, source, target = uapi._PACKET.unpack_from(packets)
        assert control >> 24 & 0x1F == 9
        self.log.append(f"queue {chunk.queue_index}")
        self._store(target, self._load(source, size))
        it.out.seq = 7

    def _wait(self, it: Any) -> None:
        assert getattr(it, "in").seq == 7
        it.out.status = self.status

    def _real(self, device: int) -> int:
        start = max(d for d in self.mapped if d <= device)
        return self.mapped[start][0] + device - start

    def _load(self, device: int, size: int) -> bytes:
        if device < 1 << 48:
            return bytes(self.sram[device - SRAM : device - SRAM + size])
        return access.peek(self._real(device), size)

    def _store(self, device: int, data: bytes) -> None:
        if device < 1 << 48:
            self.sram[device - SRAM : device - SRAM + len(data)] = data
        else:
            access.poke(self._real(device), data)


def uapi_size() -> int:
    return 4 * habanalabs.LENGTH


@pytest.fixture(name="driver")
def _driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    monkeypatch.setattr("fcntl.ioctl", driver.ioctl)
    monkeypatch.setattr(habanalabs, "open_node", lambda *_: os.open("/dev/null", os.O_RDWR))

    class Mapped:
        """A command buffer's mapping: the driver's own bytes."""

        def __init__(self, fd: int, size: int, offset: int) -> None:
            self._bytes = driver.buffers[offset]

        def __enter__(self) -> bytearray:
            return self._bytes

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("mmap.mmap", Mapped)
    return driver


@pytest.fixture(name="buffer")
def _buffer() -> Iterator[Buffer]:
    """Three lengths of memory and a page more, filled."""
    size = 3 * habanalabs.LENGTH + mm.PAGE
    address = mm.mmap(size)
    ctypes.memmove(address, pattern(size), size)
    yield Buffer(address, 3 * habanalabs.LENGTH)
    mm.munmap(address, size)


def session(direction: Direction) -> habanalabs.HabanaSession:
    return habanalabs.HabanaPinner(NODE).open(direction)


def test_a_pin_is_a_mapping_and_the_release_takes_it_back(driver: Driver, buffer: Buffer) -> None:
    one = session(Direction.CAPTURE)
    assert one.pin(buffer) == ("HL_MEM_OP_MAP", 0, 0)
    assert list(driver.mapped.values()) == [(buffer.address, buffer.length)]
    one.release()
    one.release()
    assert driver.log == ["map", "unmap"]


def test_memory_that_another_process_mapped_proves_nothing(driver: Driver, buffer: Buffer) -> None:
    with session(Direction.CAPTURE) as one:
        assert one.transfer(buffer) is None


def test_what_user_space_has_back_is_mapped_no_more(driver: Driver, buffer: Buffer) -> None:
    with session(Direction.CAPTURE) as one:
        one.pin(buffer)
        one.stop()
        assert driver.mapped == {}
        one.pin(Buffer(buffer.address, 100))
        assert len(driver.mapped) == 1


def test_a_refusal_is_a_result(driver: Driver, buffer: Buffer) -> None:
    driver.map_errno = ENOMEM
    with session(Direction.OUTPUT) as one:
        assert one.pin(buffer) == ("HL_MEM_OP_MAP", ENOMEM, 0)
    assert driver.log == []


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("length", [100, habanalabs.LENGTH, 3 * habanalabs.LENGTH])
def test_data_goes_through_the_buffer(
    driver: Driver, buffer: Buffer, direction: Direction, length: int
) -> None:
    part = Buffer(buffer.address, length)
    with session(direction) as one:
        one.pin(part)
        moved = one.transfer(part)
    assert moved is not None
    assert moved.sent == moved.arrived
    assert len(moved.sent) == length
    assert driver.log.count("queue 0") == driver.log.count("queue 4") == 1
    assert driver.log[-2:] == ["unmap", "unmap"]
    assert driver.buffers == {}
    if direction is Direction.CAPTURE:
        assert access.peek(buffer.address, length)[:50] == moved.sent[:50] != pattern(50)


@pytest.mark.parametrize("direction", list(Direction))
def test_a_device_with_other_pages_is_seen(
    driver: Driver, buffer: Buffer, direction: Direction
) -> None:
    with session(direction) as one:
        one.pin(buffer)
        real = driver._real
        own = driver.mapped[max(driver.mapped)][0]
        driver._real = lambda d: real(d) + (mm.PAGE if real(d) < own + buffer.length and  # type: ignore[method-assign]
                                            real(d) >= own else 0)  # fmt: skip
        moved = one.transfer(buffer)
    assert moved is not None
    assert moved.sent != moved.arrived


@pytest.mark.parametrize(
    ("status", "errno"),
    [
        (uapi.HL_WAIT_CS_STATUS_BUSY, ETIMEDOUT),
        (uapi.HL_WAIT_CS_STATUS_TIMEDOUT, ETIMEDOUT),
        (uapi.HL_WAIT_CS_STATUS_ABORTED, EIO),
    ],
)
def test_a_submission_that_fails_is_told(
    driver: Driver, buffer: Buffer, status: int, errno: int
) -> None:
    driver.status = status
    with session(Direction.CAPTURE) as one:
        one.pin(buffer)
        with pytest.raises(OSError) as caught:
            one.transfer(buffer)
    assert caught.value.errno == errno
    assert driver.mapped == {}


def test_a_driver_from_before_drm_has_numbers_of_its_own(driver: Driver, buffer: Buffer) -> None:
    driver.numbers = {number: nr for nr, number in uapi.OWN_NUMBERS.items()}
    with session(Direction.CAPTURE) as one:
        assert one.pin(buffer).errno == 0


def test_a_card_that_resets_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [EAGAIN, EBUSY, 0, EBUSY, EPERM]

    def open_(*_: object) -> int:
        errno = answers.pop(0)
        if errno:
            raise OSError(errno, os.strerror(errno))
        return 99

    monkeypatch.setattr(os, "open", open_)
    assert habanalabs.open_node(Path("/dev/accel/accel0")) == 99
    with pytest.raises(OSError, match="busy"):
        habanalabs.open_node(Path("/dev/accel/accel0"), patience=-1)
    with pytest.raises(PermissionError):
        habanalabs.open_node(Path("/dev/accel/accel0"))


# discovery


@pytest.fixture(name="found")
def _found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with one card that can be opened, and a corrected module in /mod."""
    monkeypatch.setattr(habanalabs_discovery, "devices", lambda: [(NODE.path, NODE.bus)])
    monkeypatch.setattr(habanalabs_discovery, "_SUBSYSTEMS", ("block",))  # any that is there
    monkeypatch.setattr(habanalabs, "open_node", lambda *_: os.open("/dev/null", os.O_RDWR))
    for name in ("_LOADED", "_STOCK"):
        monkeypatch.setattr(habanalabs_discovery, name, tmp_path / name)
    monkeypatch.setattr(habanalabs_discovery, "_CORRECTIONS", tmp_path / "corrections")
    return tmp_path


def names(only: tuple[str, ...] = ()) -> list[str]:
    return [pinner.name for pinner in habanalabs_discovery.survey(only).pinners]


def test_a_card_of_a_lab_machine(found: Path) -> None:
    assert names() == ["habanalabs-accel0", "habanalabs-accel0-reset"]
    assert names(("/dev/video0",)) == []
    assert names(("habanalabs",)) == names(("0000:00:*",)) == names()
    first = habanalabs_discovery.survey().pinners[0]
    assert (first.family, first.note, first.slow) == ("habanalabs", "", False)


def test_a_card_that_no_driver_took_is_told_of(
    found: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, vendor, driver in (("00:10.0", "0x1da3", False), ("00:11.0", "0x1da3", True),
                                 ("00:12.0", "0x8086", False)):  # fmt: skip
        folder = found / "pci" / name
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "device").write_text("0x0001\n")
        if driver:
            (folder / "driver").mkdir()
    monkeypatch.setattr(habanalabs_discovery, "_PCI", found / "pci")
    (first, second) = habanalabs_discovery.survey().nodes
    assert (first.bus, first.card, first.pinners) == ("00:10.0", "1da3:0001", ())
    assert "its probe failed" in first.reason
    assert second.path == NODE.path


def test_a_guest_with_a_corrected_module_says_so_and_shows_the_stock_one(found: Path) -> None:
    for name in ("_LOADED", "_STOCK"):
        (found / name).mkdir()
        (found / name / "habanalabs.ko").touch()
    (found / "corrections").write_text("habanalabs\thl_fops.fop_flags\n")
    pinners = habanalabs_discovery.survey().pinners
    assert [p.name.rpartition("-")[2] for p in pinners] == ["accel0", "reload", "reset", "stock"]
    assert [p.note for p in pinners] == ["corrected habanalabs.ko: hl_fops.fop_flags"] * 3 + [""]
    assert [p.slow for p in pinners] == [False, True, True, False]


@pytest.mark.parametrize(
    ("errno", "words", "pinners"),
    [
        (EINVAL, "FOP_UNSIGNED_OFFSET", ["habanalabs-accel0-stock"]),
        (EPERM, "gave the device up", []),
        (EBUSY, "in use by another program", []),
        (EIO, "open gives Input/output error", []),
    ],
)
def test_a_node_that_cannot_be_opened(
    found: Path, monkeypatch: pytest.MonkeyPatch, errno: int, words: str, pinners: list[str]
) -> None:
    def fails(*_: object) -> int:
        raise OSError(errno, os.strerror(errno))

    monkeypatch.setattr(habanalabs, "open_node", fails)
    survey = habanalabs_discovery.survey()
    assert words in survey.nodes[0].reason
    assert [p.name for p in survey.pinners] == pinners
    for pinner in survey.pinners:
        monkeypatch.setattr(habanalabs_life, "_wait_for", lambda _: None)
        with pinner.open(Direction.CAPTURE) as one:
            assert one.pin(Buffer(0, 0)) == ("open", errno, 0)


def test_the_stock_module_takes_the_place_of_the_corrected_one(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(modules, "_run", lambda *words: commands.append(words))
    monkeypatch.setattr(habanalabs_life, "_wait_for", lambda _: None)
    pinner = habanalabs_life.stock(NODE, Path("/hil/stock/habanalabs.ko"))
    assert (pinner.memory, pinner.conditions) == (("anonymous",), ("steady",))
    pinner.open(Direction.CAPTURE).release()
    assert commands == [("rmmod", "habanalabs"), ("insmod", "/hil/stock/habanalabs.ko")]


def test_a_hard_reset_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hard_reset_cnt").write_text("3\n")
    monkeypatch.setattr(habanalabs_life, "RESET_SECONDS", 0.2)
    with pytest.raises(OSError, match="was not reset"):
        habanalabs_life.hard_reset(tmp_path)
    assert (tmp_path / "hard_reset").read_text() == "1"
    counts = iter(["3\n", "3\n", "4\n"])
    monkeypatch.setattr(Path, "read_text", lambda _: next(counts))
    habanalabs_life.hard_reset(tmp_path)
