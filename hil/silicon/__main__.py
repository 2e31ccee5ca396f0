# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m hil.silicon ORDER``: one device model, for one guest, until QEMU ends.

ORDER is JSON, made by hil/lab/silicon.py: see `Order`.  Descriptors are inherited.  Exit status 0
when QEMU hung up, else 1 with the reason on standard error.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.silicon import models, registers, trace
from hil.silicon.device import PciDevice
from hil.silicon.guest_memory import GuestMemory, part
from hil.silicon.pci_proxy import ProxyServer
from hil.silicon.qtest import Pin, Qtest, QtestInterrupts
from hil.silicon.vfio_user import VfioUserServer


class Order(NamedTuple):
    """What to run, and by which means."""

    model: str
    options: dict[str, str]
    transport: str
    """pci-proxy, vfio-user or registers."""
    socket: int = -1
    """PCI: the descriptor of the connection, for vfio-user of the socket that listens."""
    qtest: int = -1
    lock: int = -1
    pin: str = ""
    """The interrupt pin (`Pin`)."""
    base: int = 0
    """registers: their guest-physical address."""
    ram: tuple[tuple[str, int, int, int], ...] = ()
    """registers: file, offset in it, guest-physical address, size of each piece of RAM."""


def run(order: Order) -> None:
    """Serve until QEMU ends; HilError for an order that can't be carried out."""
    kind = models.find(order.model)
    if order.transport == "registers":
        assert issubclass(kind, registers.RegisterDevice)
        memory = GuestMemory()
        for file, offset, address, size in order.ram:
            fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
            memory.add(part(address, size, fd, offset))
            os.close(fd)
        with _options_of(order):
            block = kind.make(order.options)
        registers.serve(block, memory, order.base, Pin(_qtest(order), order.pin))
        return
    assert issubclass(kind, PciDevice)
    extended = order.transport == "vfio-user"
    with _options_of(order):
        device = kind.make(order.options, extended=extended)
    server: VfioUserServer | ProxyServer
    if extended:
        server = VfioUserServer(device, socket.socket(fileno=order.socket).accept()[0])
    else:
        qtest = _qtest(order)
        device.interrupts = QtestInterrupts(qtest, device.config, Pin(qtest, order.pin))
        server = ProxyServer(device, socket.socket(fileno=order.socket))
    if folder := os.environ.get("HIL_SILICON_TRACE"):
        name = f"{order.model.rpartition(':')[2]}-{os.getpid()}.trace"
        with Path(folder, name).open("w", buffering=1) as stream:
            trace.record(device, stream)
            server.serve()
        return
    server.serve()


@contextmanager
def _options_of(order: Order) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise HilError(
            f"{order.model}: {error}", "See machine.silicon in the board file."
        ) from error


def _qtest(order: Order) -> Qtest:
    return Qtest(socket.socket(fileno=order.qtest), order.lock)


def main() -> int:
    """The process's own entry."""
    logging.basicConfig(
        level=os.environ.get("HIL_SILICON_LOG", "INFO").upper(), stream=sys.stderr,
        format="%(relativeCreated)9.0f %(name)s: %(message)s",
    )  # fmt: skip
    try:
        run(Order(**json.loads(sys.argv[1])))
    except HilError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
