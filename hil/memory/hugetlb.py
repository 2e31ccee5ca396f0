# SPDX-License-Identifier: GPL-2.0-or-later
"""hugetlb memory: pages from the machine's pools, 2 MiB and 1 GiB, on arm64 64 KiB and 32 MiB."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.memory import proof
from hil.memory.base import HUGE, PAGE, Buffer, buffer_of, fill, memory_class, place, round_up
from hil.system import hugepages
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench


# Runs of 16 contiguous entries, of pages and of 2 MiB blocks (arch/arm64/mm/hugetlbpage.c).
_64K, _32M = 64 * mm.KIB, 32 * mm.MIB


def _name(size: int) -> str:
    for unit, name in ((mm.GIB, "GiB"), (mm.MIB, "MiB")):
        if size >= unit:
            return f"{size // unit} {name}"
    return f"{size >> 10} KiB"


def need(bench: Bench, size: int, count: int, node: int | None = None) -> None:
    """Have ``count`` free pages of ``size`` bytes, or say how to get them."""
    pool = hugepages.provide(bench.guard, size, count, node)
    if pool is None:
        raise NotApplicableError(
            f"this machine has no huge pages of {_name(size)}: needs CONFIG_HUGETLBFS"
            + (" on arm64" if size in (_64K, _32M) else "")
            + (" and a CPU with pdpe1gb" if size == mm.GIB and mm.machine() == "x86_64" else "")
        )
    if pool.available < count:
        raise NotApplicableError(
            f"needs {count} free huge pages of {_name(size)}, the pool has {pool.available}: boot "
            f"with hugepagesz={_name(size).replace(' ', '')[:-2]} hugepages={count} or write to "
            f"{hugepages.folder(size, node)}/nr_hugepages"
        )


def mapped(
    bench: Bench, length: int, flags: int, *, size: int = HUGE, memfd: bool = False
) -> Buffer:
    """Whole huge pages that nobody has touched; ``flags`` is MAP_SHARED or MAP_PRIVATE."""
    length = round_up(length, size)
    need(bench, size, length // size)
    if memfd:
        fd = mm.memfd_create(huge=size)
        os.ftruncate(fd, length)
        address = place(length, flags=flags, fd=fd, align=size)
    else:
        kind = mm.MAP_HUGETLB | (size.bit_length() - 1) << mm.HUGE_SHIFT
        fd = -1
        address = place(length, flags=flags | mm.MAP_ANONYMOUS | kind, align=size)
    buffer = buffer_of(address, length)
    if fd >= 0:
        buffer.of_file(fd)
    return buffer


def prove(address: int, length: int, size: int) -> dict[str, object]:
    """Every page in [address, address + length) is a hugetlb page of ``size`` bytes."""
    fields = proof.smaps(address)
    proof.must(
        fields.get("KernelPageSize") == size,
        f"huge pages of {_name(size)}",
        f"pages of {fields.get('KernelPageSize')} bytes",
    )
    found = proof.present(
        address, length, f"huge pages of {_name(size)}", has=proof.HUGETLB, has_not=proof.ZERO
    )
    return {**found, "KernelPageSize": size}


def touched(
    bench: Bench, length: int, flags: int, *, size: int = HUGE, memfd: bool = False
) -> Buffer:
    """Pages of ``size`` bytes, written to and proven.

    The zone is a fact because 6.1 refuses a hugetlb page in ZONE_MOVABLE with ENOMEM and a warning
    (mm/hugetlb.c follow_hugetlb_page).
    """
    buffer = mapped(bench, length, flags, size=size, memfd=memfd)
    fill(buffer.address, length)
    buffer.proof = prove(buffer.address, buffer.length, size)
    buffer.facts["zone"] = proof.zone_name(buffer.address)
    return buffer


def _gigantic(bench: Bench, length: int, flags: int, *, memfd: bool = False) -> Buffer:
    """A buffer inside of a 1 GiB page, across one of its 2 MiB borders.

    Only its own bytes are written: the kernel has to clear 1 GiB anyway.
    """
    whole = mapped(bench, length + HUGE, flags, size=mm.GIB, memfd=memfd)
    length = round_up(length, PAGE)
    start = whole.address + HUGE - PAGE
    fill(start, length)
    whole.proof = prove(start, length, mm.GIB)
    whole.proof["offset_in_huge_page"] = HUGE - PAGE
    whole.facts["zone"] = proof.zone_name(start)
    whole.address, whole.length = start, length
    return whole


@memory_class("hugetlb-2m-private", "a private mapping of 2 MiB hugetlb pages")
def hugetlb_2m_private(bench: Bench, length: int, direction: Direction) -> Buffer:
    return touched(bench, length, mm.MAP_PRIVATE)


@memory_class("hugetlb-2m-shared", "a shared mapping of 2 MiB hugetlb pages")
def hugetlb_2m_shared(bench: Bench, length: int, direction: Direction) -> Buffer:
    return touched(bench, length, mm.MAP_SHARED)


@memory_class("hugetlb-2m-memfd", "a shared mapping of a memfd of 2 MiB hugetlb pages")
def hugetlb_2m_memfd(bench: Bench, length: int, direction: Direction) -> Buffer:
    return touched(bench, length, mm.MAP_SHARED, memfd=True)


@memory_class("hugetlb-2m-untouched", "2 MiB hugetlb pages, reserved and not touched yet")
def hugetlb_2m_untouched(bench: Bench, length: int, direction: Direction) -> Buffer:
    buffer = mapped(bench, length, mm.MAP_PRIVATE)
    buffer.proof = proof.absent(buffer.address, buffer.length)
    size = proof.smaps(buffer.address).get("KernelPageSize")
    proof.must(size == HUGE, "a mapping of 2 MiB huge pages", f"pages of {size} bytes")
    buffer.proof["KernelPageSize"] = size
    return buffer


@memory_class("hugetlb-2m-readonly", "2 MiB hugetlb pages, private, written and then PROT_READ")
def hugetlb_2m_readonly(bench: Bench, length: int, direction: Direction) -> Buffer:
    buffer = touched(bench, length, mm.MAP_PRIVATE)
    mm.mprotect(buffer.address, buffer.length, mm.PROT_READ)
    buffer.proof["Perms"] = proof.smaps(buffer.address)["Perms"]
    proof.must(buffer.proof["Perms"] == "r--p", "a read-only mapping", buffer.proof["Perms"])
    return buffer


@memory_class("hugetlb-64k-private", "a private mapping of 64 KiB hugetlb pages (arm64)")
def hugetlb_64k_private(bench: Bench, length: int, direction: Direction) -> Buffer:
    return touched(bench, length, mm.MAP_PRIVATE, size=_64K)


@memory_class("hugetlb-32m-private", "a private mapping of 32 MiB hugetlb pages (arm64)", slow=True)
def hugetlb_32m_private(bench: Bench, length: int, direction: Direction) -> Buffer:
    return touched(bench, length, mm.MAP_PRIVATE, size=_32M)


# Slow: a page of 1 GiB is cleared each time.
@memory_class("hugetlb-1g-private", "a private mapping of a 1 GiB hugetlb page", slow=True)
def hugetlb_1g_private(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _gigantic(bench, length, mm.MAP_PRIVATE)


@memory_class("hugetlb-1g-shared", "a shared mapping of a 1 GiB hugetlb page", slow=True)
def hugetlb_1g_shared(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _gigantic(bench, length, mm.MAP_SHARED)


@memory_class("hugetlb-1g-memfd", "a shared mapping of a memfd of 1 GiB hugetlb pages", slow=True)
def hugetlb_1g_memfd(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _gigantic(bench, length, mm.MAP_SHARED, memfd=True)
