# SPDX-License-Identifier: GPL-2.0-or-later
"""Mappings that reach beyond the end of their file: a touch there is SIGBUS."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hil.memory import proof, shmem
from hil.memory.base import PAGE, Buffer, buffer_of, fill, memory_class, place, round_up
from hil.memory.pagecache import single_file
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench


def _beyond(fd: int, inside: int, length: int, flags: int, *, has: int, has_not: int) -> Buffer:
    """``inside`` bytes of file and the rest beyond its end; takes ``fd`` over."""
    buffer = buffer_of(place(length, flags=flags, fd=fd), length)
    buffer.at_close(os.close, fd)
    shmem.no_huge_pages(buffer.address, length)
    fill(buffer.address, inside)
    end = buffer.address + inside
    buffer.proof = proof.present(
        buffer.address, inside, "the file's pages", has=has, has_not=has_not
    )
    proof.must(not mm.readable(end), "SIGBUS beyond the end of the file", "a page")
    buffer.proof["unreadable_page"] = inside // PAGE
    buffer.facts["first_page_bad"] = False
    return buffer


def _sizes(length: int) -> tuple[int, int]:
    """Half of the pages are inside of the file, one at least."""
    length = max(round_up(length, PAGE), 2 * PAGE)
    return length // PAGE // 2 * PAGE, length


@memory_class("memfd-beyond-eof", "a shared mapping of a memfd that ends in the middle")
def memfd_beyond_eof(bench: Bench, length: int, direction: Direction) -> Buffer:
    inside, length = _sizes(length)
    fd = shmem.empty_memfd(inside)
    return _beyond(fd, inside, length, mm.MAP_SHARED, has=proof.SWAPBACKED, has_not=proof.ANON)


@memory_class("ext4-beyond-eof", "a shared mapping of an ext4 file that ends in the middle")
def ext4_beyond_eof(bench: Bench, length: int, direction: Direction) -> Buffer:
    inside, length = _sizes(length)
    fd = single_file(bench.directory("ext4"), inside)
    unwanted = proof.SWAPBACKED | proof.ANON
    return _beyond(fd, inside, length, mm.MAP_SHARED, has=0, has_not=unwanted)


@memory_class(
    "ext4-private-beyond-eof", "a private mapping of an ext4 file that ends in the middle"
)
def ext4_private_beyond_eof(bench: Bench, length: int, direction: Direction) -> Buffer:
    inside, length = _sizes(length)
    fd = single_file(bench.directory("ext4"), inside)
    return _beyond(fd, inside, length, mm.MAP_PRIVATE, has=proof.ANON, has_not=proof.COMPOUND)
