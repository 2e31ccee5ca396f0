# SPDX-License-Identifier: GPL-2.0-or-later
"""userfaultfd(2) as include/uapi/linux/userfaultfd.h has it: missing pages of anonymous memory."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

from ioctl_opt import IOWR

from hil.uapi import mm

UFFD_API = 0xAA
UFFD_USER_MODE_ONLY = 1  # 5.11
UFFD_EVENT_PAGEFAULT = 0x12
UFFD_FEATURE_SIGBUS = 1 << 7  # 4.14
UFFD_FEATURE_MOVE = 1 << 16  # 6.8
UFFDIO_REGISTER_MODE_MISSING = 1


class Api(ctypes.Structure):
    """struct uffdio_api."""

    _fields_ = (
        ("api", ctypes.c_uint64),
        ("features", ctypes.c_uint64),
        ("ioctls", ctypes.c_uint64),
    )


class Register(ctypes.Structure):
    """struct uffdio_register."""

    _fields_ = (
        ("start", ctypes.c_uint64),
        ("len", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("ioctls", ctypes.c_uint64),
    )


class Copy(ctypes.Structure):
    """struct uffdio_copy."""

    _fields_ = (
        ("dst", ctypes.c_uint64),
        ("src", ctypes.c_uint64),
        ("len", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("copy", ctypes.c_int64),
    )


class Zeropage(ctypes.Structure):
    """struct uffdio_zeropage."""

    _fields_ = (
        ("start", ctypes.c_uint64),
        ("len", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("zeropage", ctypes.c_int64),
    )


class Move(ctypes.Structure):
    """struct uffdio_move."""

    _fields_ = (
        ("dst", ctypes.c_uint64),
        ("src", ctypes.c_uint64),
        ("len", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("move", ctypes.c_int64),
    )


UFFDIO_API = IOWR(UFFD_API, 0x3F, Api)
UFFDIO_REGISTER = IOWR(UFFD_API, 0x00, Register)
UFFDIO_COPY = IOWR(UFFD_API, 0x03, Copy)
UFFDIO_ZEROPAGE = IOWR(UFFD_API, 0x04, Zeropage)

UFFDIO_MOVE = IOWR(UFFD_API, 0x05, Move)

MESSAGE_SIZE = 32


def new(flags: int = 0, features: int = 0) -> int:
    """A non-blocking userfaultfd; EPERM without the right to serve faults of the kernel."""
    fd = mm.syscall("userfaultfd", flags | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, UFFDIO_API, Api(api=UFFD_API, features=features))
    except OSError:
        os.close(fd)
        raise
    return fd


def register(fd: int, address: int, length: int) -> None:
    """Have faults on missing pages of a range go to ``fd``."""
    wanted = Register(start=address, len=length, mode=UFFDIO_REGISTER_MODE_MISSING)
    fcntl.ioctl(fd, UFFDIO_REGISTER, wanted)


def faults(fd: int) -> list[int]:
    """The addresses of the faults that wait to be served; empty when none does."""
    try:
        data = os.read(fd, 16 * MESSAGE_SIZE)
    except BlockingIOError:
        return []
    found = []
    for start in range(0, len(data), MESSAGE_SIZE):
        if data[start] == UFFD_EVENT_PAGEFAULT:
            found.append(struct.unpack_from("=Q", data, start + 16)[0])
    return found


def copy(fd: int, address: int, source: int, length: int) -> None:
    """Put copies of ``source``'s pages at ``address`` and wake who waits for them.

    EEXIST when a page is there already.
    """
    fcntl.ioctl(fd, UFFDIO_COPY, Copy(dst=address, src=source, len=length))


def move(fd: int, address: int, source: int, length: int) -> None:
    """Move pages from ``source`` to ``address``: EBUSY for a page that is pinned (6.8)."""
    fcntl.ioctl(fd, UFFDIO_MOVE, Move(dst=address, src=source, len=length))
