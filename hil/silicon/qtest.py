# SPDX-License-Identifier: GPL-2.0-or-later
"""Interrupts through QEMU's qtest socket, for transports that have none.

x-pci-proxy-dev hands INTx to KVM's irqfd only (hw/remote/proxy.c: setup_irqfd) and knows no MSI; a
model whose registers lie in RAM has no wire at all.  The qtest protocol (QEMU system/qtest.c, text
lines) works beside any accelerator: ``set_irq_in`` drives an input pin of a device, and an MSI is,
as on the bus, a write to the address that the guest put into the capability.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hil.silicon.device import ConfigSpace
from hil.silicon.wire import HungUpError, ProtocolError


class Qtest:
    """The socket.  All models of a guest share it, each with its line and answer under the lock."""

    def __init__(self, sock: socket.socket, lock: int) -> None:
        """``lock`` is a descriptor of a file that all who share the socket have."""
        self._socket, self._lock = sock, lock
        self._mutex = threading.Lock()

    def set_irq_in(self, path: str, name: str, number: int, level: bool) -> None:
        """Drive input ``number`` of the GPIO array ``name`` of the device at a QOM path."""
        self._command(f"set_irq_in {path} {name} {number} {int(level)}")

    def write_word(self, address: int, value: int) -> None:
        """Write 32 bits to a guest-physical address, as a device on the bus would."""
        self._command(f"writel {address:#x} {value:#x}")

    def _command(self, line: str) -> None:
        with self._mutex, _locked(self._lock):
            try:
                self._socket.sendall(line.encode() + b"\n")
                answer = b""
                while not answer.endswith(b"\n"):
                    more = self._socket.recv(4096)
                    if not more:
                        raise HungUpError("end of the qtest stream")
                    answer += more
            except ConnectionError as error:
                raise HungUpError(str(error)) from error
        if not answer.startswith(b"OK"):
            raise ProtocolError(f"qtest: {line!r} gave {answer.decode().strip()!r}")


@contextmanager
def _locked(fd: int) -> Iterator[None]:
    fcntl.lockf(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(fd, fcntl.LOCK_UN)


class Pin:
    """An interrupt pin of the machine: "QOM-PATH GPIO-NAME NUMBER"."""

    def __init__(self, qtest: Qtest, where: str) -> None:
        """ValueError when ``where`` is not three words, the last of them a number."""
        path, name, number = where.split()
        self._qtest, self._path, self._name, self._number = qtest, path, name, int(number)

    def set(self, level: bool) -> None:
        """It stays so until the next call."""
        self._qtest.set_irq_in(self._path, self._name, self._number, level)

    def pulse(self) -> None:
        """Up and down: one edge."""
        self.set(True)
        self.set(False)


class QtestInterrupts:
    """MSI by bus writes, INTx by a pin of the interrupt controller."""

    def __init__(self, qtest: Qtest, config: ConfigSpace, pin: Pin) -> None:
        self._qtest, self._config, self._pin = qtest, config, pin
        self._level = False

    def msi(self, vector: int = 0) -> bool:
        found = self._config.msi
        if found.enabled:
            self._qtest.write_word(found.address, found.data + vector)
        return found.enabled

    def intx(self, level: bool) -> None:
        if level != self._level:
            self._level = level
            self._pin.set(level)


def lock_file() -> int:
    """A new descriptor for the lock that the models of one guest share."""
    return os.memfd_create("hil-qtest-lock")
