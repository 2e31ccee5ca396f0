# SPDX-License-Identifier: GPL-2.0-or-later
"""memfds that are sealed, mapped read-only, or secret."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.memory import proof, shmem
from hil.memory.base import PAGE, Buffer, buffer_of, fill, memory_class, place, populate, round_up
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench


def _readonly(fd: int, length: int) -> Buffer:
    """A shared read-only mapping of what ``fd`` is, through a descriptor that cannot write.

    Through one that can, kernels before 6.7 refuse to map a write-sealed memfd shared at all
    (mm/memfd.c; 5de195060b2e's neighbours made VM_SHARED no longer mean writable).
    """
    reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(fd)
    address = place(length, mm.PROT_READ, mm.MAP_SHARED, reader)
    buffer = buffer_of(address, length)
    buffer.of_file(reader)
    populate(address, length)
    buffer.proof = shmem.prove_single(address, length)
    buffer.proof["VmFlags"] = " ".join(proof.flags_of(address))
    may_write = "mw" in proof.flags_of(address)
    proof.must(not may_write, "a mapping that may not become writable", buffer.proof["VmFlags"])
    return buffer


@memory_class(
    "memfd-future-write-seal", "a writable mapping of a memfd, sealed F_SEAL_FUTURE_WRITE later"
)
def memfd_future_write_seal(bench: Bench, length: int, direction: Direction) -> Buffer:
    length = round_up(length, PAGE)
    fd = shmem.empty_memfd(length)
    buffer = shmem.shared(length, fd)
    mm.add_seals(fd, mm.F_SEAL_FUTURE_WRITE)
    buffer.proof["seals"] = seals(fd)
    return buffer


@memory_class("memfd-readonly-shared", "a shared read-only mapping of a memfd opened read-only")
def memfd_readonly_shared(bench: Bench, length: int, direction: Direction) -> Buffer:
    length = round_up(length, PAGE)
    return _readonly(shmem.memfd(length), length)


@memory_class("memfd-write-sealed-shared", "a shared read-only mapping of a write-sealed memfd")
def memfd_write_sealed_shared(bench: Bench, length: int, direction: Direction) -> Buffer:
    length = round_up(length, PAGE)
    fd = shmem.memfd(length, mm.F_SEAL_WRITE)
    found = seals(fd)
    buffer = _readonly(fd, length)
    buffer.proof["seals"] = found
    return buffer


@memory_class("memfd-sealed-private", "a private writable mapping of a memfd with all seals")
def memfd_sealed_private(bench: Bench, length: int, direction: Direction) -> Buffer:
    length = round_up(length, PAGE)
    all_seals = mm.F_SEAL_SEAL | mm.F_SEAL_SHRINK | mm.F_SEAL_GROW | mm.F_SEAL_WRITE
    fd = shmem.memfd(length, all_seals)
    address = place(length, flags=mm.MAP_PRIVATE, fd=fd)
    buffer = buffer_of(address, length)
    buffer.of_file(fd)
    populate(address, length)
    buffer.proof = shmem.prove_single(address, length)
    buffer.proof["seals"] = seals(fd)
    return buffer


def seals(fd: int) -> str:
    """The seals of a memfd, in words."""
    word = fcntl.fcntl(fd, mm.F_GET_SEALS)
    names = ("seal", "shrink", "grow", "write", "future-write", "exec")
    return " ".join(name for bit, name in enumerate(names) if word & 1 << bit)


@memory_class("memfd-secret", "memory that the kernel's direct map does not hold (memfd_secret)")
def memfd_secret(bench: Bench, length: int, direction: Direction) -> Buffer:
    length = round_up(length, PAGE)
    try:
        fd = mm.memfd_secret()
    except OSError as error:
        raise NotApplicableError(
            f"memfd_secret: {error.strerror}: needs Linux 5.14 with CONFIG_SECRETMEM, before 6.5 "
            "also secretmem.enable=1 on the kernel's command line"
        ) from error
    os.ftruncate(fd, length)
    address = place(length, flags=mm.MAP_SHARED, fd=fd)
    buffer = buffer_of(address, length)
    buffer.of_file(fd)
    fill(address, length)
    fields = proof.smaps(address)
    buffer.proof = proof.Sight(address, length).summary()
    buffer.proof["Name"] = fields["Name"]
    proof.must("secretmem" in str(fields["Name"]), "secret memory", fields["Name"])
    proof.must(buffer.proof["present"] == length // PAGE, "secret memory", buffer.proof)
    return buffer
