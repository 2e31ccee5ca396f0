# SPDX-License-Identifier: GPL-2.0-or-later
"""Files on persistent memory, mapped without a page cache (fs/dax.c)."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.memory import proof
from hil.memory.anonymous import single_pages
from hil.memory.base import (
    HUGE,
    PAGE,
    Buffer,
    buffer_of,
    fill,
    pattern,
    place,
    populate,
    register,
    round_up,
)
from hil.memory.pagecache import nameless
from hil.uapi import mm

if TYPE_CHECKING:
    from pathlib import Path

    from hil.cells import Direction
    from hil.memory.base import Maker
    from hil.memory.bench import Bench


def _file(directory: Path, length: int) -> int:
    """An open file of ``length`` bytes that the kernel accesses through DAX."""
    fd = nameless(directory)
    try:
        os.posix_fallocate(fd, 0, length)
        os.pwrite(fd, pattern(length), 0)
        if not mm.is_dax(fd):
            raise NotApplicableError(
                f"{directory}: the kernel does not access its files through DAX "
                "(statx shows no STATX_ATTR_DAX): mount with -o dax on a pmem device"
            )
    except BaseException:
        os.close(fd)
        raise
    return fd


def _on_device(address: int, length: int) -> dict[str, object]:
    """Every page is there and none of them is an ordinary page of a cache or of a process."""
    found = proof.present(
        address,
        length,
        "pages of persistent memory",
        has_not=proof.ANON | proof.SWAPBACKED | proof.ZERO,
    )
    zones = proof.zone_names(address, length)
    ordinary = [name for name in zones if name.partition("/")[2] not in ("Device", "")]
    proof.must(not ordinary, "pages of persistent memory", f"pages in {', '.join(ordinary)}")
    return {**found, "zones": zones, "dax": True}


def _shared(directory: Path, length: int) -> Buffer:
    fd = _file(directory, length)
    buffer = buffer_of(place(length, flags=mm.MAP_SHARED, fd=fd), length)
    buffer.at_close(os.close, fd)
    fill(buffer.address, length)
    buffer.proof = _on_device(buffer.address, length)
    return buffer


def _private(directory: Path, length: int) -> Buffer:
    fd = _file(directory, length)
    buffer = buffer_of(place(length, flags=mm.MAP_PRIVATE, fd=fd), length)
    buffer.at_close(os.close, fd)
    populate(buffer.address, length)
    buffer.proof = _on_device(buffer.address, length)
    return buffer


def _private_cowed(directory: Path, length: int) -> Buffer:
    fd = _file(directory, length)
    buffer = buffer_of(place(length, flags=mm.MAP_PRIVATE, fd=fd), length)
    buffer.at_close(os.close, fd)
    fill(buffer.address, length)
    buffer.proof = proof.present(buffer.address, length, "private copies", has=proof.ANON)
    buffer.proof["dax"] = True
    return buffer


def _second_vma(directory: Path, length: int) -> Buffer:
    """The first half is anonymous memory, the rest a shared mapping of a DAX file."""
    length = max(length, 2 * PAGE)
    first = length // 2 // PAGE * PAGE
    address, length = single_pages(length)
    fill(address, first)
    fd = _file(directory, length - first)
    buffer = buffer_of(address, length)
    buffer.at_close(os.close, fd)
    middle = address + first
    mm.mmap(length - first, flags=mm.MAP_SHARED | mm.MAP_FIXED, fd=fd, address=middle)
    fill(middle, length - first)
    buffer.proof = _on_device(middle, length - first)
    buffer.proof["before"] = proof.present(address, first, "anonymous pages", has=proof.ANON)
    buffer.facts["first_page_bad"] = False
    return buffer


def _shared_pmd(directory: Path, length: int) -> Buffer:
    """smaps counts no PMDs of DAX before 6.17, so the page faults are counted instead."""
    length = round_up(length, HUGE)
    fd = _file(directory, length + HUGE)
    _align(fd, length)
    buffer = buffer_of(place(length, flags=mm.MAP_SHARED, fd=fd), length)
    buffer.at_close(os.close, fd)
    before = resource.getrusage(resource.RUSAGE_SELF)
    ctypes.memset(buffer.address, 0x5A, length)
    after = resource.getrusage(resource.RUSAGE_SELF)
    faults = after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt
    buffer.proof = _on_device(buffer.address, length)
    buffer.proof["faults"] = faults
    try:
        # The interpreter itself may fault a little on the way.
        proof.must(
            faults < length // HUGE + 64,
            "a DAX file mapped by PMDs (needs an extent on a 2 MiB border)",
            f"{faults} page faults for {length // PAGE} pages",
        )
    except NotApplicableError:
        buffer.close()
        raise
    return buffer


def _align(fd: int, length: int) -> None:
    """Cut so much off the front of a file that what is left begins on a 2 MiB border of memory.

    A PMD fits where the offset in the file and the frame agree (fs/dax.c dax_iomap_pmd_fault);
    a file system without a stripe does not place files so by itself.
    """
    address = place(PAGE, mm.PROT_READ, mm.MAP_SHARED, fd)
    try:
        populate(address, PAGE)
        frame = proof.Sight(address, PAGE).frames[0]
    finally:
        mm.munmap(address, PAGE)
    # All of a huge page where it is on a border already: the page looked at has an entry of its
    # own in the file, with which no PMD fits (fs/dax.c grab_mapping_entry), until it is cut off.
    front = -frame * PAGE % HUGE or HUGE
    try:
        mm.fallocate(fd, mm.FALLOC_FL_COLLAPSE_RANGE, 0, front)
        os.ftruncate(fd, length)
    except OSError as error:
        raise NotApplicableError(f"a file cannot be cut at its front: {error.strerror}") from error


_VARIANTS: tuple[tuple[str, str, Callable[[Path, int], Buffer]], ...] = (
    ("shared", "shared mapping", _shared),
    ("private", "private mapping, only read so far", _private),
    ("private-cowed", "private mapping, every page written and so copied", _private_cowed),
    ("second-vma", "shared mapping that follows anonymous memory in one buffer", _second_vma),
    ("shared-pmd", "shared mapping by PMDs", _shared_pmd),
)


def _maker(kind: str, make: Callable[[Path, int], Buffer]) -> Maker:
    def maker(bench: Bench, length: int, direction: Direction) -> Buffer:
        return make(bench.directory(kind), round_up(length, PAGE))

    return maker


for _kind in ("ext4", "xfs"):
    for _name, _summary, _make in _VARIANTS:
        register(
            f"fsdax-{_kind}-{_name}",
            f"DAX file on {_kind}, {_summary}",
            _maker(f"fsdax-{_kind}", _make),
            "fsdax",
        )
