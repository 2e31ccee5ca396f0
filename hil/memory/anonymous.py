# SPDX-License-Identifier: GPL-2.0-or-later
"""Private anonymous memory in base pages and in multi-size huge pages."""

from __future__ import annotations

import contextlib
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
    populate,
    round_up,
)
from hil.system.switches import switched, value
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench

_ODD = 123
"""Start of an unaligned buffer in its first page: no power of two divides it."""
_FOLIO = 64 * mm.KIB


def single_pages(length: int) -> tuple[int, int]:
    """Untouched anonymous memory that never becomes huge; returns address and rounded length."""
    length = round_up(length, PAGE)
    address = place(length)
    # EINVAL where the kernel was built without transparent huge pages: then there is no need.
    with contextlib.suppress(OSError):
        mm.madvise(address, length, mm.MADV_NOHUGEPAGE)
    return address, length


def filled(length: int) -> Buffer:
    """Ordinary memory: touched, single pages, proven."""
    address, length = single_pages(length)
    fill(address, length)
    buffer = buffer_of(address, length)
    buffer.proof = prove_single(address, length)
    return buffer


def prove_single(address: int, length: int) -> dict[str, object]:
    return proof.present(
        address,
        length,
        "single anonymous pages",
        has=proof.ANON,
        has_not=proof.COMPOUND | proof.ZERO,
    )


@memory_class("anonymous", "private anonymous memory, touched, single pages")
def anonymous(bench: Bench, length: int, direction: Direction) -> Buffer:
    return filled(length)


@memory_class("anonymous-untouched", "private anonymous memory that nobody has touched")
def anonymous_untouched(bench: Bench, length: int, direction: Direction) -> Buffer:
    address, length = single_pages(length)
    buffer = buffer_of(address, length)
    buffer.proof = proof.absent(address, length)
    return buffer


@memory_class("anonymous-zero-page", "private anonymous memory only read so far: the zero page")
def anonymous_zero_page(bench: Bench, length: int, direction: Direction) -> Buffer:
    address, length = single_pages(length)
    populate(address, length)
    buffer = buffer_of(address, length)
    buffer.proof = proof.present(address, length, "the shared zero page", has=proof.ZERO)
    return buffer


@memory_class("anonymous-large-folio", "private anonymous memory in folios of 64 KiB")
def anonymous_large_folio(bench: Bench, length: int, direction: Direction) -> Buffer:
    top = "/sys/kernel/mm/transparent_hugepage"
    own = f"{top}/hugepages-{_FOLIO >> 10}kB/enabled"
    if not value(own):
        raise NotApplicableError(
            "no multi-size huge pages: needs Linux 6.8 with CONFIG_TRANSPARENT_HUGEPAGE "
            f"({own} is not there)"
        )
    length = round_up(length, _FOLIO)
    wanted: dict[str, tuple[str, ...]] = {own: ("madvise", "always")}
    if length >= HUGE:  # a range that holds a whole 2 MiB would get a PMD-sized page first
        wanted[f"{top}/hugepages-{HUGE >> 10}kB/enabled"] = ("never",)
    address = place(length)
    buffer = buffer_of(address, length)
    with switched(bench.guard, wanted):
        mm.madvise(address, length, mm.MADV_HUGEPAGE)
        fill(address, length)
    buffer.proof = proof.folios(address, length, _FOLIO)
    return buffer


@memory_class("anonymous-unaligned", "private anonymous memory with an odd start and an odd length")
def anonymous_unaligned(bench: Bench, length: int, direction: Direction) -> Buffer:
    # Its last bytes lie in one page more than as many bytes from a page's start would.
    odd = round_up(length | 1, PAGE) - _ODD // 2
    odd += 0 if odd >= length else PAGE
    address, mapped = single_pages(_ODD + odd)
    fill(address, mapped)
    buffer = buffer_of(address, mapped)
    buffer.proof = prove_single(address, mapped)
    buffer.address, buffer.length = address + _ODD, odd
    buffer.proof["offset_in_page"] = _ODD
    return buffer


@memory_class("two-mappings", "private anonymous memory whose second half is a mapping of its own")
def two_mappings(bench: Bench, length: int, direction: Direction) -> Buffer:
    address, length = single_pages(max(length, 2 * PAGE))
    half = length // 2 // PAGE * PAGE
    # Another flag, and nothing else of it differs: two VMAs (mm/madvise.c madvise_vma_behavior).
    mm.madvise(address + half, length - half, mm.MADV_DONTDUMP)
    fill(address, length)
    buffer = buffer_of(address, length)
    flags = [proof.flags_of(at) for at in (address, address + half)]
    buffer.proof = {**prove_single(address, length), "second_mapping": " ".join(flags[1])}
    proof.must(["dd" in one for one in flags] == [False, True], "two mappings", buffer.proof)
    return buffer
