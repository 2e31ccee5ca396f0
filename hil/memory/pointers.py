# SPDX-License-Identifier: GPL-2.0-or-later
"""Pointers and lengths that no user mapping can have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hil.memory import proof
from hil.memory.anonymous import filled
from hil.memory.base import PAGE, Buffer, memory_class, round_up
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench

# In the kernel's half on x86-64 and on arm64 with any size of address space; on arm with the usual
# split of 3 GiB to 1 GiB.
_KERNEL = 0xFFFF_FFC0_0000_0000 if mm.WORD_BITS == 64 else 0xC010_0000


def _nowhere(address: int, length: int) -> Buffer:
    proof.must(not mm.readable(address), "an address that cannot be read", "one that can")
    return Buffer(address, length, {"unreadable_page": 0}, {"first_page_bad": True})


@memory_class("kernel-address", "an address in the kernel's half")
def kernel_address(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _nowhere(_KERNEL, round_up(length, PAGE))


@memory_class("address-wrap", "address + length goes over the end of the address space")
def address_wrap(bench: Bench, length: int, direction: Direction) -> Buffer:
    end = 1 << mm.WORD_BITS
    buffer = _nowhere(end - PAGE, max(round_up(length, PAGE), 2 * PAGE))
    buffer.proof["wraps_to"] = hex((buffer.address + buffer.length) % end)
    return buffer


@memory_class("null-pointer", "address 0")
def null_pointer(bench: Bench, length: int, direction: Direction) -> Buffer:
    return _nowhere(0, round_up(length, PAGE))


@memory_class("zero-length", "ordinary memory, handed over with length 0")
def zero_length(bench: Bench, length: int, direction: Direction) -> Buffer:
    buffer = filled(length)
    buffer.length = 0
    return buffer


@memory_class("too-short", "ordinary memory, handed over with half the length that a frame needs")
def too_short(bench: Bench, length: int, direction: Direction) -> Buffer:
    buffer = filled(length)
    buffer.length = max(length // 2, 1)
    buffer.proof["needed"] = length
    return buffer
