# SPDX-License-Identifier: GPL-2.0-or-later
"""The device's end of a USB/IP connection, and how vhci-hcd gets the other end.

Documentation/usb/usbip_protocol.rst.  The kernel's host controller only sends commands, so the
dialogue by which a remote device is imported is not needed.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from pathlib import Path
from typing import NamedTuple

VHCI = Path("/sys/devices/platform/vhci_hcd.0")
_STATE = Path("/sys/module/vhci_hcd/initstate")

PATIENCE = 5.0
"""Seconds that the controller may take to have a port free."""

_SUBMIT, _UNLINK, _RET_SUBMIT, _RET_UNLINK = 1, 2, 3, 4
# All begin with command, sequence number, device, direction, endpoint.
_COMMAND = struct.Struct(">IIIIIIiiii8s")
_ANSWER = struct.Struct(">IIIIIiiiii8x")
_UNLINKED = struct.Struct(">IIIIIi24x")
_PACKET = struct.Struct(">II8x")
_PACKET_ANSWER = struct.Struct(">IIII")
_MOST_PACKETS = 1024
_EPIPE, _ECONNRESET = 32, 104
_HIGH_SPEED = 3  # enum usb_device_speed, include/uapi/linux/usb/ch9.h
_FREE = "004"  # VDEV_ST_NULL, tools/usb/usbip/libsrc/vhci_driver.h


class Urb(NamedTuple):
    """A request of the host controller.

    ``packets`` has offset and room of each isochronous packet, and is empty for other transfers.
    """

    sequence: int
    endpoint: int
    to_host: bool
    length: int
    setup: bytes
    data: bytes
    """What the host sends to the device."""
    packets: list[tuple[int, int]]


class Unlink(NamedTuple):
    """The host controller wants an URB back."""

    sequence: int
    victim: int


class Connection:
    """The device's end of the socket; EOFError or OSError when the host controller has let go."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Pull the cable: the host controller sees the connection break."""
        self._socket.close()

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            more = self._socket.recv(length - len(data), socket.MSG_WAITALL)
            if not more:
                raise EOFError
            data += more
        return data

    def receive(self) -> Urb | Unlink:
        """The next request of the host controller."""
        command, sequence, _, to_host, endpoint, flags, length, _, count, _, setup = (
            _COMMAND.unpack(self._read(_COMMAND.size))
        )
        if command == _UNLINK:
            return Unlink(sequence, flags)  # the field after the header is the victim's number
        if command != _SUBMIT:
            raise EOFError(f"command {command}")
        data = b"" if to_host else self._read(length)
        # -1 or 0 where the transfer is not isochronous
        packets = self._read(_PACKET.size * count) if 0 < count <= _MOST_PACKETS else b""
        return Urb(
            sequence, endpoint, bool(to_host), length, setup, data,
            list(_PACKET.iter_unpack(packets)),
        )  # fmt: skip

    def answer(self, urb: Urb, data: bytes | None) -> None:
        """Finish an URB: with data for the host, b"" for one that only sends, None for a stall."""
        status = -_EPIPE if data is None else 0
        data = data or b""
        length = len(data) if urb.to_host else urb.length
        head = _ANSWER.pack(_RET_SUBMIT, urb.sequence, 0, 0, 0, status, length, 0, 0, 0)
        self._socket.sendall(head + (data if urb.to_host else b""))

    def answer_packets(self, urb: Urb, packets: list[bytes]) -> None:
        """Finish an isochronous URB with what each of its packets holds."""
        data = b"".join(packets)
        told = b"".join(
            _PACKET_ANSWER.pack(offset, room, len(packet), 0)
            for (offset, room), packet in zip(urb.packets, packets, strict=True)
        )
        head = _ANSWER.pack(_RET_SUBMIT, urb.sequence, 0, 0, 0, 0, len(data), 0, len(packets), 0)
        self._socket.sendall(head + data + told)

    def unlinked(self, request: Unlink, *, was_waiting: bool) -> None:
        """Answer an unlink: the URB was taken back, or had been answered before."""
        status = -_ECONNRESET if was_waiting else 0
        self._socket.sendall(_UNLINKED.pack(_RET_UNLINK, request.sequence, 0, 0, 0, status))


def free_port(status: str) -> int:
    """The first free high-speed port in vhci's ``status`` file; OSError when all are taken."""
    for line in status.splitlines():
        found = re.match(r"hs\s+(\d+)\s+(\d+)\s", line)
        if found and found[2] == _FREE:
            return int(found[1])
    raise OSError("every high-speed port of vhci_hcd.0 is taken")


def _wait_for_port() -> int:
    """A free port: none is while the controller starts or lets go of what was pulled out."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return free_port((VHCI / "status").read_text())
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.01)


def plug() -> tuple[Connection, int]:
    """Plug a device in: the device's end of the connection, and vhci's port; OSError."""
    port = _wait_for_port()
    ours, theirs = socket.socketpair()
    try:
        # port, socket, device id (bus 1, device port + 1), speed
        order = f"{port} {theirs.fileno()} {(1 << 16) + port + 1} {_HIGH_SPEED}"
        (VHCI / "attach").write_text(order)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()  # vhci holds its own reference
    return Connection(ours), port


def there() -> bool:
    """Whether the virtual host controller is there, and its module has done all that it does first.

    Its files can be read before its ports are set up: to 7.3 ``status`` then follows a null pointer
    (drivers/usb/usbip/vhci_sysfs.c status_show_vhci).  /sys is writable for root alone.
    """
    try:
        state = _STATE.read_text().strip()
    except OSError:
        state = "live"  # part of the kernel image
    return state == "live" and os.access(VHCI / "attach", os.W_OK)
