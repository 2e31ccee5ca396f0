# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading and writing this process's memory where a load or store might raise a signal."""

from __future__ import annotations

import ctypes
import os
from errno import EFAULT

from hil.uapi import mm

_copies: tuple[int, int] = (0, -1)


def _scratch() -> int:
    """A memfd of this very process: a fork's child must not write into its parent's."""
    global _copies  # noqa: PLW0603
    if _copies[0] != os.getpid():
        _copies = (os.getpid(), os.memfd_create("copies", os.MFD_CLOEXEC))
    return _copies[1]


def peek(address: int, length: int) -> bytes:
    """Copy memory of this process; EFAULT where a load would raise SIGSEGV or SIGBUS.

    The kernel copies as the CPU does (copy_from_user): nothing is pinned, no reference is taken,
    and a page that userfaultfd serves may come meanwhile.
    """
    fd, done = _scratch(), 0
    while done < length:
        part = (ctypes.c_char * (length - done)).from_address(address + done)
        done += os.pwrite(fd, part, done)
    return os.pread(fd, length, 0)


def poke(address: int, data: bytes) -> None:
    """Write into memory of this process; EFAULT where a store would raise a signal.

    Of a range that is partly there the front may have been written.
    """
    fd, done = _scratch(), 0
    os.pwrite(fd, data, 0)
    while done < len(data):
        part = (ctypes.c_char * (len(data) - done)).from_address(address + done)
        got = os.preadv(fd, [part], done)
        if not got:
            raise OSError(EFAULT, os.strerror(EFAULT))
        done += got


def pin_shortly(address: int, length: int) -> int:
    """Have the kernel pin memory of this process, read it, and let it go: bytes read.

    process_vm_readv(2) pins what it reads (mm/process_vm_access.c pin_user_pages_remote).
    """
    copy = ctypes.create_string_buffer(length)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(copy), length)
    remote = (ctypes.c_size_t * 2)(address, length)
    return int(mm.process_vm_readv(local, remote))
