# SPDX-License-Identifier: GPL-2.0-or-later
"""Device models as the lab runs them: transport, process, log, and what is said when one fails.

The models are real processes; QEMU is a client of this test.
"""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from silicon_parts import ProxyClient, Served

from hil.errors import HilError
from hil.lab import ram
from hil.lab import silicon as lab
from hil.lab.board import Machine, Node, Silicon

NEW, OLD = frozenset({"vfio-user-pci", "e1000"}), frozenset({"x-pci-proxy-dev", "e1000"})
TOY, BAD_TOY = Silicon("silicon_parts:Toy"), Silicon("silicon_parts:BadToy")
BLOCK = Silicon("test_silicon:Adder", "registers", "0x100000", "/machine/x unnamed-gpio-in 5")
MACHINE = Machine("x86_64", "q35", (Node("2M"),))


def machine(*silicon: Silicon) -> Machine:
    return replace(MACHINE, silicon=silicon)


def test_the_transport_is_what_qemu_has() -> None:
    board = machine(TOY, BLOCK)
    assert lab.check(board, NEW, "QEMU 11") == ["vfio-user", "registers"]
    assert lab.check(board, OLD, "QEMU 7.2") == ["pci-proxy", "registers"]
    assert lab.check(board, NEW | OLD, "QEMU 10.1") == ["vfio-user", "registers"]
    asked = replace(TOY, transport="pci-proxy")
    assert lab.check(machine(asked), NEW | OLD, "QEMU 10.1") == ["pci-proxy"]


@pytest.mark.parametrize(
    ("silicon", "devices", "message"),
    [
        (TOY, frozenset({"e1000"}), "QEMU 6 has no vfio-user-pci nor x-pci-proxy-dev"),
        (replace(TOY, transport="vfio-user"), OLD, "QEMU 6 has no vfio-user-pci"),
        (replace(BLOCK, transport=""), NEW, "'test_silicon:Adder' is no PCI device"),
        (replace(TOY, model="tow"), NEW, "no device model 'tow'"),
    ],
)
def test_what_cannot_be_served_is_said(
    silicon: Silicon, devices: frozenset[str], message: str
) -> None:
    with pytest.raises(HilError) as caught:
        lab.check(machine(silicon), devices, "QEMU 6 (Debian)")
    assert message in caught.value.message
    assert caught.value.hint


def test_ram_is_where_the_machine_has_it() -> None:
    small = ram.regions(MACHINE)
    assert small == [("node0", 0, 0, 2 << 20)]
    large = ram.regions(replace(MACHINE, nodes=(Node("1G"), Node("3G"))))
    assert large == [
        ("node0", 0, 0, 1 << 30),
        ("node1", 0, 1 << 30, 1 << 30),
        ("node1", 1 << 30, 4 << 30, 2 << 30),
    ]


class Running:
    """Models of one guest that never was, and their sockets as QEMU would have them."""

    def __init__(self, folder: Path, transports: list[str], *silicon: Silicon) -> None:
        self.board = machine(*silicon)
        for region in ram.parts(self.board):
            (folder / region.id).write_bytes(bytes(region.size))
        self.models = lab.Models(self.board, transports, folder, folder / "console.log")
        self.sockets = [socket.socket(fileno=fd) for fd in self.models.fds]
        self.models.fds.clear()
        for sock in self.sockets:
            sock.settimeout(20)

    def client(self, number: int) -> ProxyClient:
        found = ProxyClient.__new__(ProxyClient)
        found.served = Served.__new__(Served)
        found.served.wire = self.sockets[number]
        return found


@pytest.fixture(autouse=True)
def _models_find_the_toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def test_a_model_runs_until_qemu_hangs_up(tmp_path: Path) -> None:
    running = Running(tmp_path, ["pci-proxy"], TOY)
    try:
        words = running.models.arguments
        assert words[words.index("-qtest") + 1] == "chardev:qtest"
        device = json.loads(words[words.index("-device") + 1])
        assert device["driver"] == "x-pci-proxy-dev"
        client = running.client(1)
        assert client.config_read(0, 4) == 0x56781234
        ended: list[bool] = []
        running.models.watch(lambda: ended.append(True))
        for sock in running.sockets:
            sock.close()
        running.models.raise_failure()
        assert running.models.failure() == ""
        assert ended == []
    finally:
        running.models.close()


def test_a_model_that_fails_ends_the_guest_and_says_why(tmp_path: Path) -> None:
    running = Running(tmp_path, ["pci-proxy"], BAD_TOY)
    try:
        ended = threading.Event()
        running.models.watch(ended.set)
        client = running.client(1)
        client.place(0, 0xFEB00000)
        client.say(4, (0xFEB00000).to_bytes(8, "little") + bytes(16))
        assert ended.wait(20)
        with pytest.raises(lab.ModelError) as caught:
            running.models.raise_failure()
        assert caught.value.message == (
            "the device model badtoy ended with 1: RuntimeError: the doorbell is out of order"
        )
        assert "Traceback" in (tmp_path / "silicon-badtoy.log").read_text()
    finally:
        running.models.close()
    assert running.models.failure() == ""  # from here on its end is wanted


def test_an_option_that_the_model_does_not_know(tmp_path: Path) -> None:
    running = Running(tmp_path, ["pci-proxy"], replace(TOY, options={"colour": "red"}))
    try:
        with pytest.raises(lab.ModelError, match="unknown option 'colour'"):
            running.models.raise_failure()
    finally:
        running.models.close()


def test_models_share_the_interrupt_wire(tmp_path: Path) -> None:
    running = Running(tmp_path, ["registers", "registers"], BLOCK, BLOCK)
    try:
        assert len(running.sockets) == 1  # they poll for five times, then hang up
        running.models.raise_failure()
        logs = {path.name for path in running.models.logs}
        assert logs == {"silicon-adder.log", "silicon-adder1.log"}
    finally:
        running.models.close()
