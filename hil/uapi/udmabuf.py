# SPDX-License-Identifier: GPL-2.0-or-later
"""/dev/udmabuf as include/uapi/linux/udmabuf.h has it: a DMA-BUF made of a memfd's pages."""

from __future__ import annotations

import ctypes
import fcntl

from ioctl_opt import IOW

UDMABUF_FLAGS_CLOEXEC = 1


class Create(ctypes.Structure):
    """struct udmabuf_create."""

    _fields_ = (
        ("memfd", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("offset", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
    )


UDMABUF_CREATE = IOW(ord("u"), 0x42, Create)


def create(fd: int, memfd: int, length: int) -> int:
    """A DMA-BUF of the first ``length`` bytes of a memfd that is sealed against shrinking."""
    request = Create(memfd=memfd, flags=UDMABUF_FLAGS_CLOEXEC, offset=0, size=length)
    return int(fcntl.ioctl(fd, UDMABUF_CREATE, request))
