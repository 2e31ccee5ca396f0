# SPDX-License-Identifier: GPL-2.0-or-later
"""Ranges that may not be written, may not be accessed at all, or have holes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hil.memory import proof, shmem, thp
from hil.memory.anonymous import filled
from hil.memory.base import PAGE, Buffer, memory_class, round_up
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench


def _protect(buffer: Buffer, prot: int, wanted: str) -> Buffer:
    """Change the whole buffer's protection; ``wanted`` as smaps shows it."""
    mm.mprotect(buffer.address, buffer.length, prot)
    perms = proof.smaps(buffer.address).get("Perms")
    proof.must(perms == wanted, f"a mapping {wanted}", perms)
    buffer.proof["Perms"] = perms
    return buffer


def _bad_page(buffer: Buffer, index: int) -> Buffer:
    """Prove that one page cannot be read and that the first one can unless it is that one."""
    address = buffer.address + index * PAGE
    proof.must(not mm.readable(address), f"page {index} that cannot be read", "one that can")
    if index:
        proof.must(mm.readable(buffer.address), "a first page that can be read", "one that cannot")
    buffer.proof.update(proof.Sight(buffer.address, buffer.length).summary())
    buffer.proof["unreadable_page"] = index
    buffer.facts["first_page_bad"] = index == 0
    return buffer


@memory_class("readonly-private", "private anonymous memory, written and then PROT_READ")
def readonly_private(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _protect(filled(length), mm.PROT_READ, "r--p")


@memory_class("readonly-shared", "shared anonymous memory, written and then PROT_READ")
def readonly_shared(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _protect(shmem.shared(length), mm.PROT_READ, "r--s")


@memory_class("prot-none", "private anonymous memory, written and then PROT_NONE")
def prot_none(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _bad_page(_protect(filled(length), mm.PROT_NONE, "---p"), 0)


@memory_class("thp-prot-none", "whole transparent huge pages, written and then PROT_NONE")
def thp_prot_none(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _bad_page(_protect(thp.thp(bench, length, direction), mm.PROT_NONE, "---p"), 0)


@memory_class("prot-none-shared", "shared anonymous memory, written and then PROT_NONE")
def prot_none_shared(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _bad_page(_protect(shmem.shared(length), mm.PROT_NONE, "---s"), 0)


def _with_hole_at(length: int, place: str) -> tuple[Buffer, int]:
    """Ordinary memory of three pages or more, and the number of one of them."""
    buffer = filled(max(round_up(length, PAGE), 3 * PAGE))
    return buffer, {"first": 0, "middle": buffer.pages // 2, "last": buffer.pages - 1}[place]


@memory_class("prot-none-middle", "private anonymous memory with one PROT_NONE page in the middle")
def prot_none_middle(bench: Bench, length: int, direction: Direction) -> Buffer:
    buffer, index = _with_hole_at(length, "middle")
    mm.mprotect(buffer.address + index * PAGE, PAGE, mm.PROT_NONE)
    return _bad_page(buffer, index)


def _unmapped(length: int, place: str) -> Buffer:
    buffer, index = _with_hole_at(length, place)
    hole = buffer.address + index * PAGE
    mm.munmap(hole, PAGE)
    proof.must(not proof.smaps(hole), "a hole", "a mapping")
    return _bad_page(buffer, index)


@memory_class("unmapped-first", "nothing is mapped at the buffer's first page")
def unmapped_first(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _unmapped(length, "first")


@memory_class("unmapped-middle", "nothing is mapped at a page in the middle")
def unmapped_middle(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _unmapped(length, "middle")


@memory_class("unmapped-last", "nothing is mapped at the buffer's last page")
def unmapped_last(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _unmapped(length, "last")
