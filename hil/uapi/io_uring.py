# SPDX-License-Identifier: GPL-2.0-or-later
"""io_uring's registered buffers, as include/uapi/linux/io_uring.h has them; nothing else of it."""

from __future__ import annotations

import ctypes

from hil.uapi import mm

IORING_REGISTER_BUFFERS = 0
IORING_UNREGISTER_BUFFERS = 1


class SqringOffsets(ctypes.Structure):
    """struct io_sqring_offsets."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in (
            "head", "tail", "ring_mask", "ring_entries", "flags", "dropped", "array", "resv1",
        )),
        ("user_addr", ctypes.c_uint64),
    )  # fmt: skip


class CqringOffsets(ctypes.Structure):
    """struct io_cqring_offsets."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in (
            "head", "tail", "ring_mask", "ring_entries", "overflow", "cqes", "flags", "resv1",
        )),
        ("user_addr", ctypes.c_uint64),
    )  # fmt: skip


class Params(ctypes.Structure):
    """struct io_uring_params."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in (
            "sq_entries", "cq_entries", "flags", "sq_thread_cpu", "sq_thread_idle", "features",
            "wq_fd",
        )),
        ("resv", ctypes.c_uint32 * 3),
        ("sq_off", SqringOffsets),
        ("cq_off", CqringOffsets),
    )  # fmt: skip


STRUCTURES = {
    "io_sqring_offsets": SqringOffsets,
    "io_cqring_offsets": CqringOffsets,
    "io_uring_params": Params,
}


class Iovec(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("iov_base", ctypes.c_size_t), ("iov_len", ctypes.c_size_t))


def setup(entries: int = 1) -> int:
    """A ring's descriptor.  OSError with ENOSYS or EPERM where io_uring is not to be had."""
    return mm.syscall("io_uring_setup", entries, ctypes.byref(Params()))


def register_buffer(fd: int, address: int, length: int) -> None:
    """Pin one buffer for as long as the ring lives or until it is taken back; OSError."""
    vector = Iovec(address, length)
    mm.syscall("io_uring_register", fd, IORING_REGISTER_BUFFERS, ctypes.byref(vector), 1)


def unregister_buffers(fd: int) -> None:
    """Take all buffers back; OSError with ENXIO when there are none."""
    mm.syscall("io_uring_register", fd, IORING_UNREGISTER_BUFFERS, None, 0)
