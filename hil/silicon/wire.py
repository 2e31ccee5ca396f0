# SPDX-License-Identifier: GPL-2.0-or-later
"""A stream socket to QEMU that carries file descriptors beside the bytes."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable

_MOST_FDS = 32


class HungUpError(Exception):
    """QEMU has closed the connection: the guest is over."""


class ProtocolError(Exception):
    """QEMU sent what the protocol does not have."""


class Wire:
    """One connection.  Descriptors that came belong to whoever takes them."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._fds: list[int] = []

    def receive(self, length: int) -> bytes:
        """Exactly ``length`` bytes; HungUpError at the end of the stream."""
        data = b""
        while len(data) < length:
            try:
                more, extra, _, _ = self._socket.recvmsg(
                    length - len(data), socket.CMSG_SPACE(_MOST_FDS * array.array("i").itemsize)
                )
            except ConnectionError as error:
                raise HungUpError(str(error)) from error
            for level, kind, content in extra:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds = array.array("i")
                    fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                    self._fds.extend(fds)
            if not more:
                raise HungUpError("end of stream")
            data += more
        return data

    def take_fds(self) -> list[int]:
        """The descriptors that came since the last time, now the caller's to close."""
        taken, self._fds = self._fds, []
        return taken

    def send(self, data: bytes, fds: Iterable[int] = ()) -> None:
        """Write all of ``data``; HungUpError when nobody is there any more."""
        rights = array.array("i", fds)
        try:
            if rights:
                extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                data = data[self._socket.sendmsg([data], extra) :]
            self._socket.sendall(data)
        except ConnectionError as error:
            raise HungUpError(str(error)) from error


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors that nobody took."""
    for fd in fds:
        os.close(fd)
