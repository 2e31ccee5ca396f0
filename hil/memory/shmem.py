# SPDX-License-Identifier: GPL-2.0-or-later
"""Shared memory that swap backs (mm/shmem.c): anonymous, memfd, tmpfs, System V.

Since 6.14 a tmpfs and since 6.11 a memfd may get folios of any size without being asked
(mm/shmem.c shmem_allowable_huge_orders), so the classes of single pages refuse them on purpose.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.memory import proof
from hil.memory.base import (
    HUGE,
    PAGE,
    Buffer,
    buffer_of,
    fill,
    memory_class,
    place,
    reserve,
    round_up,
)
from hil.system.switches import switched, value
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench

_TOP = "/sys/kernel/mm/transparent_hugepage"
_FOLIO = 64 * mm.KIB


def memfd(length: int, seals: int = 0) -> int:
    """An open memfd of single pages, ``length`` bytes long, filled and then sealed."""
    fd = empty_memfd(length)
    address = place(length, flags=mm.MAP_SHARED, fd=fd)
    try:
        no_huge_pages(address, length)
        fill(address, length)
    finally:
        mm.munmap(address, length)
    if seals:
        mm.add_seals(fd, seals)
    return fd


def empty_memfd(length: int) -> int:
    """An open memfd of ``length`` bytes that may be sealed; no page of it exists yet."""
    fd = mm.memfd_create(mm.MFD_CLOEXEC | mm.MFD_ALLOW_SEALING)
    os.ftruncate(fd, length)
    return fd


def no_huge_pages(address: int, length: int) -> None:
    # EINVAL where the kernel was built without transparent huge pages: then there is no need.
    with contextlib.suppress(OSError):
        mm.madvise(address, length, mm.MADV_NOHUGEPAGE)


def shared(length: int, fd: int = -1) -> Buffer:
    """A filled shared mapping of single pages: of ``fd``, or anonymous.  Takes ``fd`` over."""
    length = round_up(length, PAGE)
    flags = mm.MAP_SHARED | (mm.MAP_ANONYMOUS if fd < 0 else 0)
    address = place(length, flags=flags, fd=fd)
    buffer = buffer_of(address, length)
    if fd >= 0:
        buffer.of_file(fd)
    no_huge_pages(address, length)
    fill(address, length)
    buffer.proof = prove_single(address, length)
    return buffer


def prove_single(address: int, length: int) -> dict[str, object]:
    return proof.present(
        address,
        length,
        "single shmem pages",
        has=proof.SWAPBACKED,
        has_not=proof.COMPOUND | proof.ANON | proof.ZERO,
    )


def _pmd_switch() -> dict[str, tuple[str, ...]]:
    """The switch under which MADV_HUGEPAGE asks for PMD-sized shmem; 6.11 has one a size."""
    own = f"{_TOP}/hugepages-{HUGE >> 10}kB/shmem_enabled"
    if value(own) in ("", "inherit"):
        return {f"{_TOP}/shmem_enabled": ("advise", "within_size", "always", "force")}
    return {own: ("advise", "within_size", "always")}


def _huge(bench: Bench, length: int, fd: int = -1, *, advised: bool = True) -> Buffer:
    """A shared mapping that PMDs map: of ``fd`` (taken over), or anonymous."""
    if not value(f"{_TOP}/shmem_enabled"):
        raise NotApplicableError(
            "no huge pages for shmem: needs CONFIG_TRANSPARENT_HUGEPAGE and CONFIG_SHMEM "
            f"({_TOP}/shmem_enabled is not there)"
        )
    length = round_up(length, HUGE)
    flags = mm.MAP_SHARED | (mm.MAP_ANONYMOUS if fd < 0 else 0)
    if fd >= 0:
        os.ftruncate(fd, length)
    with switched(bench.guard, _pmd_switch() if advised else {}):
        address = place(length, flags=flags, fd=fd)
        buffer = buffer_of(address, length)
        if fd >= 0:
            buffer.of_file(fd)
        mm.madvise(address, length, mm.MADV_HUGEPAGE)
        for start in range(0, length, HUGE):
            ctypes.memset(address + start, 0, 1)
        wanted_text = "shmem in huge pages, mapped by PMDs"
        try:
            buffer.proof = proof.huge_mapped(address, length, "ShmemPmdMapped", wanted_text)
        except NotApplicableError:
            with contextlib.suppress(OSError):
                mm.madvise(address, length, mm.MADV_COLLAPSE)  # 6.1
            buffer.proof = proof.huge_mapped(address, length, "ShmemPmdMapped", wanted_text)
    fill(address, length)
    return buffer


@memory_class("shared-anonymous", "shared anonymous memory, single pages")
def shared_anonymous(bench: Bench, length: int, direction: Direction) -> Buffer:
    return shared(length)


@memory_class("shared-anonymous-thp", "shared anonymous memory in huge pages mapped by PMDs")
def shared_anonymous_thp(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _huge(bench, length)


@memory_class("memfd", "a shared mapping of a memfd, single pages")
def memfd_shared(bench: Bench, length: int, direction: Direction) -> Buffer:
    length = round_up(length, PAGE)
    return shared(length, empty_memfd(length))


@memory_class("memfd-large-folio", "a shared mapping of a memfd in folios of 64 KiB")
def memfd_large_folio(bench: Bench, length: int, direction: Direction) -> Buffer:
    own = f"{_TOP}/hugepages-{_FOLIO >> 10}kB/shmem_enabled"
    if not value(own):
        raise NotApplicableError(
            "no large folios for memfds: needs Linux 6.11 with CONFIG_TRANSPARENT_HUGEPAGE "
            f"({own} is not there)"
        )
    length = round_up(length, _FOLIO)
    wanted: dict[str, tuple[str, ...]] = {own: ("advise", "always")}
    if length >= HUGE:  # else whole 2 MiB would come first
        wanted[f"{_TOP}/hugepages-{HUGE >> 10}kB/shmem_enabled"] = ("never",)
        wanted[f"{_TOP}/shmem_enabled"] = ("never",)
    fd = mm.memfd_create()
    os.ftruncate(fd, length)
    with switched(bench.guard, wanted):
        address = place(length, flags=mm.MAP_SHARED, fd=fd)
        buffer = buffer_of(address, length)
        buffer.of_file(fd)
        mm.madvise(address, length, mm.MADV_HUGEPAGE)
        fill(address, length)
    buffer.proof = proof.folios(address, length, _FOLIO)
    return buffer


@memory_class("memfd-thp", "a shared mapping of a memfd in huge pages mapped by PMDs")
def memfd_thp(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _huge(bench, length, mm.memfd_create())


def _tmpfs_file(bench: Bench, kind: str, length: int) -> int:
    """A new file on a tmpfs, open; its name must be there while it gets mapped.

    An unlinked file counts as a memfd for huge pages (mm/shmem.c shmem_mmap).  A tmpfs of our own
    that is mounted nowhere goes with its last file; a directory is needed only without the rights.
    """
    huge = "always" if kind == "tmpfs-huge" else "never"
    try:
        root = mm.detached_mount("tmpfs", {"huge": huge})
    except OSError:
        try:
            root = mm.detached_mount("tmpfs", {})  # no huge pages in this kernel
        except OSError:
            root = os.open(bench.directory(kind), os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        name = f"hil-{os.getpid()}"
        fd = os.open(name, flags, 0o600, dir_fd=root)
        os.unlink(name, dir_fd=root)  # nothing is left behind, however this process ends
        os.ftruncate(fd, length)
        return fd
    finally:
        os.close(root)


@memory_class("tmpfs", "a shared mapping of a file on tmpfs, single pages")
def tmpfs(bench: Bench, length: int, direction: Direction) -> Buffer:
    length = round_up(length, PAGE)
    return shared(length, _tmpfs_file(bench, "tmpfs", length))


@memory_class("tmpfs-thp", "a shared mapping of a file on tmpfs in huge pages mapped by PMDs")
def tmpfs_thp(bench: Bench, length: int, direction: Direction) -> Buffer:
    length = round_up(length, HUGE)
    return _huge(bench, length, _tmpfs_file(bench, "tmpfs-huge", length), advised=False)


@memory_class("sysv", "a System V shared memory segment, single pages")
def sysv(bench: Bench, length: int, direction: Direction) -> Buffer:
    length = round_up(length, PAGE)
    segment = mm.shmget(length)
    try:
        address = mm.shmat(segment, reserve(length))
    finally:
        mm.shm_remove(segment)  # it lives on while somebody is attached
    buffer = Buffer(address, length)
    buffer.at_close(mm.shmdt, address)
    no_huge_pages(address, length)
    fill(address, length)
    buffer.proof = prove_single(address, length)
    return buffer
