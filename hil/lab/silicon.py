# SPDX-License-Identifier: GPL-2.0-or-later
"""Device models beside QEMU: chosen a transport, started before it, ended with the guest.

Each model is a process of its own (``python -m hil.silicon``) with its log in the run folder.  Its
sockets are made here and inherited by both sides, so neither waits for the other and nothing is
left in the file system.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from hil.errors import HilError, NotCompletedError
from hil.lab import cache, hosttools, ram
from hil.lab.board import Machine, Silicon
from hil.silicon import models, qtest
from hil.silicon.__main__ import Order
from hil.silicon.device import PciDevice

# The devices of QEMU that a PCI model can stand behind, the better one first.
_PCI = {"vfio-user": "vfio-user-pci", "pci-proxy": "x-pci-proxy-dev"}
PCI_DEVICES = tuple(_PCI.values())
_FIRST_SLOT = 0x10
# The interrupt controller's inputs that INTA of a slot on the root bus ends in: GSI 20 to 23
# (QEMU hw/isa/lpc_ich9.c ich9_lpc_update_apic, hw/pci-host/q35.c).
_INTX = {"q35": "/machine/q35/ioapic unnamed-gpio-in {}"}
_END_SECONDS = 5.0
_FAILING_SECONDS = 3.0


class ModelError(NotCompletedError):
    """A device model ended while its guest was there: nothing is said of any driver."""


def check(machine: Machine, devices: frozenset[str], emulator: str) -> list[str]:
    """The transport of each model of a board, by what the QEMU has (``-device help``).

    HilError names a model that does not exist, and a QEMU that can't serve it.
    """
    return [_transport(silicon, devices, emulator) for silicon in machine.silicon]


def _transport(silicon: Silicon, devices: frozenset[str], emulator: str) -> str:
    kind = models.find(silicon.model, "machine.silicon")
    if not issubclass(kind, PciDevice):
        if silicon.transport != "registers":
            raise HilError(
                f"machine.silicon: the model {silicon.model!r} is no PCI device",
                'It takes transport = "registers", address and interrupt.',
            )
        return silicon.transport
    wanted = [silicon.transport] if silicon.transport else list(_PCI)
    for name in wanted:
        if _PCI.get(name) in devices:
            return name
    lacking = " nor ".join(_PCI.get(name, name) for name in wanted)
    raise HilError(
        f"the device model {silicon.model!r} needs a QEMU that has {' or '.join(_PCI.values())}; "
        f"{emulator.partition(' (')[0]} has no {lacking}",
        "x-pci-proxy-dev is in QEMU 5.2 and later, vfio-user-pci in QEMU 10.1 and later: "
        "hil run --qemu archive takes such a one into the cache and installs nothing.",
    )


class Models:
    """The device models of one guest; ``arguments`` and ``fds`` are for QEMU."""

    def __init__(
        self, machine: Machine, transports: list[str], folder: Path, console: Path
    ) -> None:
        """Start them.  ``folder`` has the RAM files; logs go beside ``console``."""
        self.arguments: list[str] = []
        self.fds: list[int] = []
        self.logs: list[Path] = []
        self._names: list[str] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ending = False
        self._machine, self._folder, self._console = machine, folder, console
        self._qtest = self._lock = -1
        try:
            if any(transport != "vfio-user" for transport in transports):
                self._open_qtest()
            for number, transport in enumerate(transports):
                self._start(number, machine.silicon[number], transport)
        except BaseException:
            self.close()
            raise
        finally:
            for fd in (self._qtest, self._lock):
                if fd >= 0:
                    os.close(fd)

    def _open_qtest(self) -> None:
        ours, theirs = socket.socketpair()
        self._qtest, self._lock = ours.detach(), qtest.lock_file()
        self.fds.append(theirs.detach())
        self.arguments += [
            "-chardev", f"socket,id=qtest,fd={self.fds[-1]}",
            "-qtest", "chardev:qtest", "-qtest-log", "none",
        ]  # fmt: skip

    def _start(self, number: int, silicon: Silicon, transport: str) -> None:
        order = Order(silicon.model, silicon.options, transport)
        if transport != "vfio-user":
            order = order._replace(qtest=self._qtest, lock=self._lock)
        slot = _FIRST_SLOT + number
        if transport == "registers":
            order = order._replace(
                pin=silicon.interrupt, base=int(silicon.address, 0), ram=self._ram()
            )
            self._run(silicon.model, number, order)
            return
        pin = _INTX[self._machine.type].format(20 + slot % 4)
        device: dict[str, object] = {
            "driver": _PCI[transport], "id": f"silicon{number}", "addr": f"{slot:#x}",
        }  # fmt: skip
        if transport == "pci-proxy":
            ours, theirs = socket.socketpair()
            self.fds.append(theirs.detach())
            device["fd"] = str(self.fds[-1])
        else:
            ours = socket.socket(socket.AF_UNIX)
            path = self._folder / f"silicon{number}"
            ours.bind(str(path))
            ours.listen(1)
            # Posted writes would leave a doorbell to the host's scheduler, and the guest waiting.
            device |= {"socket": {"type": "unix", "path": str(path)}, "x-no-posted-writes": True}
        with ours:
            self._run(silicon.model, number, order._replace(socket=ours.fileno(), pin=pin))
        self.arguments += ["-device", json.dumps(device)]

    def _ram(self) -> tuple[tuple[str, int, int, int], ...]:
        return tuple(
            (str(self._folder / region.part), region.offset, region.address, region.size)
            for region in ram.regions(self._machine)
        )

    def _run(self, model: str, number: int, order: Order) -> None:
        short = model.rpartition(":")[2].lower()
        stem = self._console.stem.removeprefix("console")
        log = self._console.with_name(f"silicon-{short}{number or ''}{stem}.log")
        kept = [fd for fd in (order.socket, order.qtest, order.lock) if fd >= 0]
        with cache.full_disk_is_an_error(log.parent, "a device model's log"):
            stream = log.open("ab", buffering=0)
        with stream:
            process = subprocess.Popen(
                # It dies with us however we die, as QEMU does.
                [str(hosttools.need("setpriv")), "--pdeathsig", "KILL",
                 sys.executable, "-m", "hil.silicon", json.dumps(order._asdict())],
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, pass_fds=kept,
                process_group=0,
            )  # fmt: skip
        self.logs.append(log)
        self._names.append(short)
        self._processes.append(process)

    def handed_over(self) -> None:
        """QEMU has its ends of the sockets: close ours, so that each side sees the other end."""
        while self.fds:
            os.close(self.fds.pop())

    def watch(self, end_guest: Callable[[], None]) -> None:
        """Have the guest ended as soon as a model fails: what it sees from then on is false."""
        for process in self._processes:
            threading.Thread(target=self._wait, args=(process, end_guest), daemon=True).start()

    def _wait(self, process: subprocess.Popen[bytes], end_guest: Callable[[], None]) -> None:
        if process.wait() != 0 and not self._ending:
            end_guest()

    def failure(self) -> str:
        """Which model failed, in words; empty while none has."""
        if self._ending:
            return ""
        for name, process, log in zip(self._names, self._processes, self.logs, strict=True):
            status = process.poll()
            if status:
                how = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
                return f"the device model {name} {how}{_last_words(log)}"
        return ""

    def raise_failure(self) -> None:
        """ModelError when a model has failed."""
        for process in self._processes:
            # One that fails at its start and a QEMU that misses it end at the same time.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_FAILING_SECONDS)
        if told := self.failure():
            raise ModelError(told, f"The whole log is in {self.logs[0].parent}.")

    def close(self) -> None:
        """End them; what they logged stays.  Twice does no harm."""
        self._ending = True
        self.handed_over()
        for process in self._processes:
            with contextlib.suppress(OSError):
                process.kill()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)


def _last_words(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    # What is indented belongs to the line before it: frames of a traceback, the hint of an error.
    told = [line.rstrip() for line in lines if line and not line[0].isspace()]
    return f": {told[-1]}" if told else ", and said nothing"
