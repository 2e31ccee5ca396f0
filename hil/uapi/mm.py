# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory calls with every flag and any address, which ``mmap.mmap`` does not give.

Addresses and lengths are bytes.  Every call raises OSError with the kernel's errno.
Numbers: include/uapi/asm-generic/mman-common.h, linux/mman.h, linux/mempolicy.h, linux/memfd.h,
linux/fcntl.h, linux/shm.h of v7.3; the same on x86-64, arm64 and arm.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
WORD_BITS = 8 * ctypes.sizeof(ctypes.c_void_p)

PROT_NONE, PROT_READ, PROT_WRITE, PROT_EXEC = 0, 1, 2, 4
PROT_RW = PROT_READ | PROT_WRITE

MAP_SHARED = 0x01
MAP_PRIVATE = 0x02
MAP_FIXED = 0x10
MAP_ANONYMOUS = 0x20
MAP_GROWSDOWN = 0x0100
MAP_NORESERVE = 0x4000
MAP_HUGETLB = 0x40000
MAP_FIXED_NOREPLACE = 0x100000
HUGE_SHIFT = 26
"""log2 of a huge page's size goes into bits 26..31 of mmap's, memfd_create's and shmget's flags."""

MADV_NORMAL = 0
MADV_RANDOM = 1
MADV_DONTNEED = 4
MADV_FREE = 8
MADV_MERGEABLE = 12
MADV_UNMERGEABLE = 13
MADV_HUGEPAGE = 14
MADV_NOHUGEPAGE = 15
MADV_DONTDUMP = 16
MADV_COLD = 20
MADV_PAGEOUT = 21
MADV_POPULATE_READ = 22  # 5.14
MADV_POPULATE_WRITE = 23  # 5.14
MADV_COLLAPSE = 25  # 6.1
MADV_SOFT_OFFLINE = 101
MADV_GUARD_INSTALL = 102  # 6.13
MADV_GUARD_REMOVE = 103

MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE = 0, 1, 2, 3
MPOL_MF_STRICT, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL = 1, 2, 4

MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_HUGETLB = 1, 2, 4
F_ADD_SEALS, F_GET_SEALS = 1033, 1034
F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE = 1, 2, 4, 8
F_SEAL_FUTURE_WRITE = 16  # 5.1

IPC_PRIVATE, IPC_CREAT, IPC_RMID = 0, 0o1000, 0
SHM_HUGETLB = 0o4000

FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
FALLOC_FL_COLLAPSE_RANGE = 8
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2
XFS_SUPER_MAGIC = 0x58465342
STATX_ATTR_DAX = 0x00200000
CAP_IPC_LOCK = 14

# arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h,
# arch/arm/tools/syscall.tbl
_EVERYWHERE = {
    "io_uring_setup": 425,
    "io_uring_register": 427,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
}
_NUMBERS = {
    "x86_64": {
        "delete_module": 176,
        "mbind": 237,
        "migrate_pages": 256,
        "set_mempolicy": 238,
        "move_pages": 279,
        "vmsplice": 278,
        "userfaultfd": 323,
        "memfd_secret": 447,
    },
    "aarch64": {
        "delete_module": 106,
        "mbind": 235,
        "migrate_pages": 238,
        "set_mempolicy": 237,
        "move_pages": 239,
        "vmsplice": 75,
        "userfaultfd": 282,
        "memfd_secret": 447,
    },
    # memfd_secret is not wired up on arm.
    "arm": {
        "delete_module": 129,
        "mbind": 319,
        "migrate_pages": 400,
        "set_mempolicy": 321,
        "move_pages": 344,
        "vmsplice": 343,
        "userfaultfd": 388,
    },
}

_libc = ctypes.CDLL(None, use_errno=True)
_MAP_FAILED = (1 << WORD_BITS) - 1

_address, _size, _int, _long = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_long


def _declare(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(_libc, name)
    function.restype, function.argtypes = result, arguments
    return function


# mmap64: off_t is 32 bits wide in 32-bit ARM's mmap.
_mmap = _declare("mmap64", _address, _address, _size, _int, _int, _int, ctypes.c_int64)
_munmap = _declare("munmap", _int, _address, _size)
_mprotect = _declare("mprotect", _int, _address, _size, _int)
_madvise = _declare("madvise", _int, _address, _size, _int)
_mremap = _declare("mremap", _address, _address, _size, _size, _int, _address)
_swapon = _declare("swapon", _int, ctypes.c_char_p, _int)
_swapoff = _declare("swapoff", _int, ctypes.c_char_p)
_mlock = _declare("mlock", _int, _address, _size)
_munlock = _declare("munlock", _int, _address, _size)
_shmget = _declare("shmget", _int, _int, _size, _int)
_shmat = _declare("shmat", _address, _int, _address, _int)
_shmdt = _declare("shmdt", _int, _address)
_shmctl = _declare("shmctl", _int, _int, _int, _address)
_unshare = _declare("unshare", _int, _int)
_mount = _declare(
    "mount",
    _int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_umount2 = _declare("umount2", _int, ctypes.c_char_p, _int)
_statx = _declare("statx", _int, _int, ctypes.c_char_p, _int, ctypes.c_uint, _address)
_fallocate = _declare("fallocate64", _int, _int, _int, ctypes.c_int64, ctypes.c_int64)
_statfs = _declare("statfs", _int, ctypes.c_char_p, _address)
_capget = _declare("capget", _int, _address, _address)
_capset = _declare("capset", _int, _address, _address)
_readv = _declare(
    "process_vm_readv", _long, _int, _address, ctypes.c_ulong, _address, ctypes.c_ulong,
    ctypes.c_ulong,
)  # fmt: skip

_syscall = _libc.syscall
_syscall.restype = _long


def _fail() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _done(result: int) -> int:
    if result < 0:
        raise _fail()
    return result


def machine() -> str:
    """This machine's name as the tables here spell it: x86_64, aarch64, arm."""
    name = os.uname().machine
    return "arm" if name.startswith("arm") else name


def syscall(name: str, *arguments: Any) -> int:
    """A system call that the C library does not wrap; ENOSYS where this machine has none."""
    number = _EVERYWHERE.get(name) or _NUMBERS.get(machine(), {}).get(name)
    if number is None:
        raise OSError(38, f"no system call {name} on {machine()}")
    # Plain ints would be cut to 32 bits on the way through a variadic function.
    words = (_long(word) if isinstance(word, int) else word for word in arguments)
    return _done(_syscall(_long(number), *words))


def mmap(
    length: int,
    prot: int = PROT_RW,
    flags: int = MAP_PRIVATE | MAP_ANONYMOUS,
    fd: int = -1,
    *,
    offset: int = 0,
    address: int = 0,
) -> int:
    """Map and return the address; with ``address`` and no MAP_FIXED it is a hint."""
    result = _mmap(address or None, length, prot, flags, fd, offset)
    if result in (None, _MAP_FAILED):
        raise _fail()
    return int(result)


def munmap(address: int, length: int) -> None:
    _done(_munmap(address, length))


def mremap(address: int, length: int, target: int) -> None:
    """Move a mapping, its pages with it, to ``target``; what was mapped there goes."""
    if _mremap(address, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, target) == _MAP_FAILED:
        raise _fail()


def mprotect(address: int, length: int, prot: int) -> None:
    _done(_mprotect(address, length, prot))


def madvise(address: int, length: int, advice: int) -> None:
    _done(_madvise(address, length, advice))


def mlock(address: int, length: int) -> None:
    _done(_mlock(address, length))


def munlock(address: int, length: int) -> None:
    _done(_munlock(address, length))


def _node_mask(node: int | None) -> tuple[Any, int]:
    if node is None:
        return None, 0
    words = node // WORD_BITS + 1
    mask = (ctypes.c_ulong * words)()
    mask[node // WORD_BITS] = 1 << node % WORD_BITS
    # One bit more than there is: get_nodes() in mm/mempolicy.c looks at maxnode - 1 bits.
    return mask, words * WORD_BITS + 1


def set_mempolicy(mode: int, node: int | None = None) -> None:
    """The calling thread's policy; one node is all that is needed here."""
    mask, bits = _node_mask(node)
    syscall("set_mempolicy", mode, mask, bits)


def mbind(address: int, length: int, mode: int, node: int | None, flags: int = 0) -> None:
    """Policy of a range; MPOL_MF_MOVE migrates what is there already."""
    mask, bits = _node_mask(node)
    syscall("mbind", address, length, mode, mask, bits, flags)


def move_pages(addresses: list[int], node: int, flags: int = MPOL_MF_MOVE) -> tuple[int, list[int]]:
    """Ask for pages of this process to be on ``node``.

    Returns the call's own result (more than 0: that many did not move, since 5.18 or so) and the
    status of each page: the node it is on now, or a negative errno.  A status that the kernel did
    not write stays at -4096: no errno has that number (mm/migrate.c do_pages_move).
    """
    count = len(addresses)
    pages = (ctypes.c_void_p * count)(*addresses)
    nodes = (ctypes.c_int * count)(*([node] * count))
    status = (ctypes.c_int * count)(*([-4096] * count))
    result = syscall("move_pages", 0, count, pages, nodes, status, flags)
    return result, list(status)


def migrate_pages(nodes: list[int], target: int) -> int:
    """Move this process's pages from ``nodes`` to ``target``; how many could not be moved."""
    one, bits = _node_mask(max(*nodes, target))
    other, _ = _node_mask(max(*nodes, target))
    for mask, members in ((one, nodes), (other, [target])):
        for word in range(len(mask)):
            mask[word] = 0
        for node in members:
            mask[node // WORD_BITS] |= 1 << node % WORD_BITS
    return syscall("migrate_pages", 0, bits, one, other)


def vmsplice(fd: int, address: int, length: int) -> int:
    """Put pages into a pipe by reference (FOLL_GET, fs/splice.c): how many bytes."""
    part = (ctypes.c_size_t * 2)(address, length)
    return syscall("vmsplice", fd, part, 1, 0)


def swapon(path: str | os.PathLike[str], priority: int) -> None:
    _done(_swapon(os.fsencode(path), 0x8000 | priority))  # SWAP_FLAG_PREFER


def swapoff(path: str | os.PathLike[str]) -> None:
    _done(_swapoff(os.fsencode(path)))


def memfd_create(flags: int = MFD_CLOEXEC, huge: int = 0) -> int:
    """An open memfd.  ``huge``: the size in bytes of its hugetlb pages."""
    if huge:
        flags |= MFD_HUGETLB | (huge.bit_length() - 1) << HUGE_SHIFT
    return os.memfd_create("hil", flags)


def add_seals(fd: int, seals: int) -> None:
    fcntl.fcntl(fd, F_ADD_SEALS, seals)


def memfd_secret() -> int:
    """An open memfd_secret(2) file (5.14; off by default before 6.5, mm/secretmem.c)."""
    return syscall("memfd_secret", 0)


def shmget(length: int, flags: int = 0o600) -> int:
    """A new private System V segment; returns its id."""
    return _done(_shmget(IPC_PRIVATE, length, IPC_CREAT | flags))


def shmat(segment: int, address: int = 0) -> int:
    result = _shmat(segment, address or None, 0)
    if result == _MAP_FAILED:
        raise _fail()
    return int(result)


def shmdt(address: int) -> None:
    _done(_shmdt(address))


def shm_remove(segment: int) -> None:
    """Mark a segment for removal: it goes when the last process lets go of it."""
    _done(_shmctl(segment, IPC_RMID, None))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    _done(_fallocate(fd, mode, offset, length))


def file_system(path: str | os.PathLike[str]) -> int:
    """The file system's magic number (linux/magic.h): MREMAP_MAYMOVE = 1
    MREMAP_FIXED = 2
    FALLOC_FL_COLLAPSE_RANGE = 8
        XFS_SUPER_MAGIC, ..."""
    # statfs.f_type is the first word; glibc's struct has 120 bytes on 64-bit machines.
    answer = (ctypes.c_ulong * 32)()
    _done(_statfs(os.fsencode(path), answer))
    return int(answer[0])


def is_dax(fd: int) -> bool:
    """Whether the kernel says that a file is accessed through DAX (STATX_ATTR_DAX, 5.8)."""
    answer = (ctypes.c_uint64 * 32)()
    at_empty_path = 0x1000
    _done(_statx(fd, b"", at_empty_path, 0, answer))
    return bool(answer[1] & STATX_ATTR_DAX)


def detached_mount(kind: str, options: dict[str, str]) -> int:
    """Make a file system that is mounted nowhere; returns a descriptor of its root directory.

    It lives as long as something of it is open.  fsopen(2), fsconfig(2) and fsmount(2), 5.2.
    """
    set_string, create = 1, 6
    context = syscall("fsopen", kind.encode(), 1)
    try:
        for name, value in options.items():
            syscall("fsconfig", context, set_string, name.encode(), value.encode(), 0)
        syscall("fsconfig", context, create, None, None, 0)
        return syscall("fsmount", context, 1, 0)
    finally:
        os.close(context)


def drop_capability(number: int) -> None:
    """Take one capability out of this process' effective, permitted and inheritable sets."""
    version_3 = 0x20080522
    header = (ctypes.c_uint32 * 2)(version_3, 0)
    data = (ctypes.c_uint32 * 6)()
    _done(_capget(header, data))
    for field in range(3):
        data[number // 32 * 3 + field] &= ~(1 << number % 32) & 0xFFFFFFFF
    _done(_capset(header, data))


def readable(address: int) -> bool:
    """Whether this process could read the byte at ``address``.

    process_vm_readv(2) on itself: the kernel walks the same page tables and answers EFAULT where a
    load would have raised a signal.  A page that is there but untouched gets populated by it.
    """
    byte = ctypes.create_string_buffer(1)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(byte), 1)
    remote = (ctypes.c_size_t * 2)(address, 1)
    return process_vm_readv(local, remote) == 1


def process_vm_readv(local: Any, remote: Any) -> int:
    """Copy from one range of this process to another, each (address, bytes); -1 where it fails."""
    return int(_readv(os.getpid(), local, 1, remote, 1, 0))
