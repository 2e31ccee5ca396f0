# SPDX-License-Identifier: GPL-2.0-or-later
"""Device models apart from QEMU: configuration space, guest RAM, and each transport's protocol."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from errno import ENOSYS
from pathlib import Path

import pytest
from silicon_parts import DOORBELL, MEMORY, RAM, REGISTERS, ProxyClient, Toy, VfioClient, ram

from hil.errors import HilError
from hil.silicon import models, pci_proxy, registers, vfio_user
from hil.silicon.guest_memory import BusError, GuestMemory, part
from hil.silicon.qtest import Pin, Qtest, QtestInterrupts, lock_file
from hil.silicon.wire import HungUpError, ProtocolError

# configuration space


def test_configuration_space_keeps_what_may_change() -> None:
    config = Toy(extended=False).config
    config.write(0, 4, 0xFFFFFFFF)
    assert config.read(0, 4) == 0x56781234
    config.write(4, 2, 0xFFFF)
    assert config.read(4, 2) == 0x0547
    config.write(0x3C, 2, 0xFF0B)
    assert config.read(0x3C, 2) == 0x010B  # the line, not the pin
    assert config.read(8, 4) == 0x04000000


def test_bars_tell_their_size() -> None:
    narrow, wide = Toy(extended=False).config, Toy(extended=True).config
    for config in (narrow, wide):
        config.write(0x18, 4, 0xFFFFFFFF)
    assert narrow.read(0x18, 4) == 0xFFFF0008
    assert wide.read(0x18, 4) == 0xFFFF000C
    wide.write(0x1C, 4, 0xFFFFFFFF)
    assert wide.read(0x1C, 4) == 0xFFFFFFFF
    assert narrow.read(0x1C, 4) == 0
    narrow.write(0x10, 4, 0xFEBF1234)
    assert narrow.bar_address(REGISTERS) == 0xFEBF1000


def test_capabilities_are_linked_and_msi_is_read_back() -> None:
    config = Toy(extended=False).config
    config.add_capability(0x40, b"\x01\0\x03\0\0\0\0\0")
    assert config.read(0x34, 1) == 0x40
    assert config.read(0x40, 2) == 0x5001
    assert config.read(0x50, 2) == 0x0005
    assert not config.msi.enabled
    config.write(0x54, 4, 0xFEE01004)
    config.write(0x5C, 2, 0x4021)
    config.write(0x52, 2, 0xFFFF)
    assert config.msi == (True, 0xFEE01004, 0x4021)


def test_a_memory_bar_is_cleared_in_part() -> None:
    bar = Toy(extended=False).bars[MEMORY]
    bar.bytes[:] = b"\xff" * bar.size
    bar.clear(100, 3 * 4096)
    bar.clear(20000, 8)
    zeros = [i for i, byte in enumerate(bar.bytes[:]) if not byte]
    assert zeros == [*range(100, 100 + 3 * 4096), *range(20000, 20008)]


# guest RAM


def test_guest_memory_goes_on_in_the_next_part() -> None:
    fd, _ = ram()
    memory = GuestMemory()
    memory.add(part(0x1000, 0x1000, fd, 0x2000))
    memory.add(part(0x2000, 0x1000, fd, 0))
    memory.write(0x1FFE, b"abcd")
    assert os.pread(fd, 2, 0x2FFE) + os.pread(fd, 2, 0) == b"abcd"
    assert memory.read(0x1FFE, 4) == b"abcd"
    with pytest.raises(BusError, match="0x3000"):
        memory.read(0x2FFF, 2)
    memory.remove(0x2000, 0x1000)
    with pytest.raises(BusError):
        memory.write(0x2000, b"x")


# x-pci-proxy-dev


class Interrupted:
    """Notes the interrupts of a device whose guest has no MSI."""

    def __init__(self) -> None:
        self.levels: list[bool] = []

    def msi(self, vector: int = 0) -> bool:
        return False

    def intx(self, level: bool) -> None:
        self.levels.append(level)


@pytest.fixture
def proxied() -> Iterator[tuple[Toy, ProxyClient]]:
    toy = Toy(extended=False)
    toy.interrupts = Interrupted()
    client = ProxyClient(toy)
    yield toy, client
    client.served.hang_up()


def test_proxy_finds_bars_and_reaches_registers(proxied: tuple[Toy, ProxyClient]) -> None:
    toy, client = proxied
    assert client.config_read(0, 4) == 0x56781234
    assert client.place(REGISTERS, 0xFEB00000) == 4096
    assert client.place(MEMORY, 0xFEA00000) == 1 << 16
    client.bar_write(0xFEB00020, 4, 0xAABBCCDD)
    assert client.bar_read(0xFEB00020, 4) == 0xAABBCCDD
    client.bar_write(0xFEA00100, 8, 0x1122334455667788)
    assert toy.bars[MEMORY].bytes[0x100:0x108] == bytes.fromhex("8877665544332211")
    assert client.bar_read(0xFEA00102, 2) == 0x5566
    client.ask(pci_proxy.RESET, b"")
    assert (toy.resets, client.bar_read(0xFEB00020, 4)) == (1, 0)
    assert client.served.hang_up() is None


def test_proxy_hands_over_guest_memory(proxied: tuple[Toy, ProxyClient]) -> None:
    toy, client = proxied
    fd, content = ram()
    content[0x8010:0x8014] = struct.pack("<I", 41)
    client.sync_memory([(0, 0x1000, 0, fd), (0x100000, RAM - 0x1000, 0x1000, fd)])
    client.place(REGISTERS, 0xFEB00000)
    client.bar_write(0xFEB00000 + DOORBELL, 4, 0x107010)
    assert content[0x8010:0x8014] == struct.pack("<I", 42)
    assert isinstance(toy.interrupts, Interrupted)
    assert toy.interrupts.levels == [True]
    client.sync_memory([])  # the memory map changes
    client.config_read(0, 4)
    with pytest.raises(BusError):
        toy.memory.read(0x107010, 4)


@pytest.mark.parametrize(("command", "address"), [(99, 0), (pci_proxy.BAR_READ, 0x1000)])
def test_proxy_does_not_guess(proxied: tuple[Toy, ProxyClient], command: int, address: int) -> None:
    _, client = proxied
    client.say(command, pci_proxy.BAR.pack(address, 0, 4, True))
    assert client.served.wire.recv(1) == b""
    assert isinstance(client.served.hang_up(), ProtocolError)


# vfio-user


@pytest.fixture
def vfio() -> Iterator[tuple[Toy, VfioClient]]:
    toy = Toy(extended=True)
    client = VfioClient(toy)
    yield toy, client
    client.served.hang_up()


def test_vfio_tells_of_the_device(vfio: tuple[Toy, VfioClient]) -> None:
    _, client = vfio
    assert client.capabilities["pgsizes"] == 4096
    info, _ = client.ask(vfio_user.DEVICE_INFO, struct.pack("<IIII", 16, 0, 0, 0))
    assert struct.unpack("<IIII", info) == (16, 3, 9, 5)
    found = {}
    for index in range(9):
        body = struct.pack("<IIIIQQ", 32, 0, index, 0, 0, 0)
        region, fds = client.ask(vfio_user.REGION_INFO, body)
        _, flags, _, _, size, _ = struct.unpack("<IIIIQQ", region)
        if size:
            found[index] = (flags, size, len(fds))
        for fd in fds:
            assert os.fstat(fd).st_size == size
            os.close(fd)
    assert found == {0: (3, 4096, 0), 2: (7, 1 << 16, 1), 7: (3, 4096, 0)}
    irqs = [
        struct.unpack("<IIII", client.ask(vfio_user.IRQ_INFO, struct.pack("<IIII", 16, 0, i, 0))[0])
        for i in range(5)
    ]
    assert [irq[3] for irq in irqs] == [1, 1, 0, 0, 0]


def test_vfio_reaches_registers_and_memory(vfio: tuple[Toy, VfioClient]) -> None:
    toy, client = vfio
    assert client.region_read(vfio_user.CONFIG_REGION, 0, 4) == 0x56781234
    client.region_write(REGISTERS, 0x20, 4, 0xAABBCCDD)
    assert client.region_read(REGISTERS, 0x20, 4) == 0xAABBCCDD
    client.region_write(MEMORY, 0x100, 8, 0x1122334455667788)
    assert toy.bars[MEMORY].bytes[0x100:0x108] == bytes.fromhex("8877665544332211")
    writes = [(0x30, 7), (0x34, 9)]
    body = struct.pack("<Q", 2) + b"".join(
        struct.pack("<QIIQ", offset, REGISTERS, 4, value) for offset, value in writes
    )
    client.ask(vfio_user.WRITE_MULTI, body)
    assert [toy.kept[offset] for offset, _ in writes] == [7, 9]
    client.ask(vfio_user.DEVICE_RESET, b"")
    assert toy.resets == 1
    client.ask(77, b"", errno=ENOSYS)
    assert client.served.hang_up() is None


def test_vfio_maps_memory_and_interrupts(vfio: tuple[Toy, VfioClient]) -> None:
    toy, client = vfio
    fd, content = ram()
    client.dma_map(0x100000, RAM - 0x1000, 0x1000, fd)
    message, line = (os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2))
    trigger = vfio_user.DATA_EVENTFD | vfio_user.ACTION_TRIGGER
    client.set_irqs(trigger, vfio_user.INTX, 1, [line])
    client.region_write(REGISTERS, DOORBELL, 4, 0x107010)
    assert os.eventfd_read(line) == 1  # no MSI yet
    client.set_irqs(vfio_user.DATA_NONE | vfio_user.ACTION_UNMASK, vfio_user.INTX, 1)
    assert os.eventfd_read(line) == 1  # still up
    toy.interrupts.intx(False)
    client.set_irqs(vfio_user.DATA_NONE | vfio_user.ACTION_UNMASK, vfio_user.INTX, 1)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(line)
    client.set_irqs(trigger, vfio_user.MSI, 1, [message])
    client.region_write(REGISTERS, DOORBELL, 4, 0x107010)
    assert os.eventfd_read(message) == 1
    client.set_irqs(vfio_user.DATA_NONE | vfio_user.ACTION_TRIGGER, vfio_user.MSI, 0)
    assert not toy.interrupts.msi()
    assert content[0x8010:0x8014] == struct.pack("<I", 2)
    body = struct.pack("<IIQQ", 24, 0, 0x100000, RAM - 0x1000)
    client.ask(vfio_user.DMA_UNMAP, body)
    with pytest.raises(BusError):
        toy.memory.read(0x107010, 4)


# qtest


class FakeQemu:
    """The qtest socket's other end: keeps the lines, answers each."""

    def __init__(self, answer: bytes = b"OK\n") -> None:
        self.socket, self._theirs = socket.socketpair()
        self.lines: list[str] = []
        self._answer = answer
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with self._theirs.makefile("rb") as lines:
            for line in lines:
                self.lines.append(line.decode().strip())
                self._theirs.sendall(self._answer)


def test_interrupts_through_qtest() -> None:
    qemu = FakeQemu()
    qtest = Qtest(qemu.socket, lock_file())
    config = Toy(extended=False).config
    wires = QtestInterrupts(qtest, config, Pin(qtest, "/machine/q35/ioapic unnamed-gpio-in 20"))
    assert not wires.msi()
    wires.intx(True)
    wires.intx(True)
    wires.intx(False)
    config.write(0x54, 4, 0xFEE01004)
    config.write(0x5C, 2, 0x21)
    config.write(0x52, 2, 1)
    assert wires.msi()
    assert qemu.lines == [
        "set_irq_in /machine/q35/ioapic unnamed-gpio-in 20 1",
        "set_irq_in /machine/q35/ioapic unnamed-gpio-in 20 0",
        "writel 0xfee01004 0x21",
    ]


def test_a_refusal_of_qtest_is_an_error() -> None:
    qtest = Qtest(FakeQemu(b"FAIL Unknown device\n").socket, lock_file())
    with pytest.raises(ProtocolError, match=r"set_irq_in /nowhere x 1 1.*Unknown device"):
        qtest.set_irq_in("/nowhere", "x", 1, True)
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(HungUpError):
        Qtest(ours, lock_file()).write_word(0, 0)


# registers in RAM


class Adder(registers.RegisterDevice):
    """Adds 1 to the word at the address in register 4 when register 0 says so."""

    size = 0x20
    done = 0

    @classmethod
    def make(cls, options: Mapping[str, str]) -> Adder:
        return cls()

    def poll(self) -> None:
        if self.registers[0] == 1:
            self.registers[0] = 0
            (word,) = struct.unpack("<I", self.memory.read(self.registers[4], 4))
            self.memory.write(self.registers[4], struct.pack("<I", word + 1))
            self.pin.pulse()
        self.done += 1
        if self.done == 5:
            raise HungUpError


def test_registers_in_ram_are_polled() -> None:
    fd, content = ram()
    memory = GuestMemory()
    memory.add(part(0x40000000, RAM, fd, 0))
    qemu = FakeQemu()
    adder = Adder()
    content[0x2000:0x2020] = b"\xff" * 0x20
    pin = Pin(Qtest(qemu.socket, lock_file()), "/machine/x unnamed-gpio-in 91")

    def order() -> None:
        adder.registers[4] = 0x40000100
        adder.registers[0] = 1

    first = adder.poll
    adder.poll = lambda: (order() if adder.done == 1 else None, first())[1]  # type: ignore[method-assign]
    registers.serve(adder, memory, 0x40002000, pin)
    assert content[0x100] == 1
    assert content[0x2008:0x2020] == bytes(0x18)  # reset
    assert [line[-1] for line in qemu.lines] == ["1", "0"]


# models


def test_models_are_found_by_name() -> None:
    assert models.find("silicon_parts:Toy") is Toy
    assert models.find(f"{Path(__file__).with_name('silicon_parts.py')}:Toy").__name__ == "Toy"
    for name in models.NAMES:
        assert models.find(name).__module__.startswith("hil.silicon.")


@pytest.mark.parametrize(
    "name", ["gaudy", "silicon_parts:Nobody", "nowhere:Toy", "os:path", "x.py:Toy", ""]
)
def test_a_model_that_is_not_there(name: str) -> None:
    with pytest.raises(HilError, match="no device model") as caught:
        models.find(name, "board.toml")
    assert "FILE.py:Class" in caught.value.hint
    assert caught.value.message.startswith("board.toml: ")
