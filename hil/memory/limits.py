# SPDX-License-Identifier: GPL-2.0-or-later
"""At the limits of what a process may have: locked memory, guard pages, a growing stack."""

from __future__ import annotations

import ctypes
import resource
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.memory import proof
from hil.memory.anonymous import filled
from hil.memory.base import HUGE, PAGE, Buffer, memory_class, reserve, round_up
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench


@memory_class(
    "over-memlock",
    "ordinary memory of a process that may lock none (RLIMIT_MEMLOCK 0)",
    alone=True,
)
def over_memlock(bench: Bench, length: int, direction: Direction) -> Buffer:
    """Takes the right and the limit from this process for good."""
    buffer = filled(length)
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, hard))
    mm.drop_capability(mm.CAP_IPC_LOCK)
    try:
        mm.mlock(buffer.address, PAGE)
    except OSError as error:
        buffer.proof["mlock"] = str(error.strerror)
    else:
        proof.must(False, "a refusal to lock memory", "a locked page")
    return buffer


@memory_class("guard-pages", "private anonymous memory with a guard page in the middle")
def guard_pages(bench: Bench, length: int, direction: Direction) -> Buffer:
    buffer = filled(max(length, 3 * PAGE))
    index = buffer.pages // 2
    guard = buffer.address + index * PAGE
    try:
        mm.madvise(guard, PAGE, mm.MADV_GUARD_INSTALL)
    except OSError as error:
        raise NotApplicableError(
            f"MADV_GUARD_INSTALL: {error.strerror}: needs Linux 6.13"
        ) from error
    proof.must(not mm.readable(guard), "a guard page", "a page that can be read")
    proof.must(mm.readable(guard + PAGE), "a page behind it that can be read", "none")
    buffer.proof.update(proof.Sight(buffer.address, buffer.length).summary())
    buffer.proof["unreadable_page"] = index
    buffer.facts["first_page_bad"] = False
    return buffer


@memory_class("below-stack", "nothing mapped, just below a mapping that grows down", alone=True)
def below_stack(bench: Bench, length: int, direction: Direction) -> Buffer:
    length = round_up(length, PAGE)
    # A growing mapping stays away from the one below it by stack_guard_gap, 1 MiB by default.
    top = reserve(length + HUGE) + HUGE + length
    stack = 16 * PAGE
    flags = mm.MAP_PRIVATE | mm.MAP_ANONYMOUS | mm.MAP_GROWSDOWN | mm.MAP_FIXED_NOREPLACE
    mm.mmap(stack, flags=flags, address=top)
    ctypes.memset(top, 0x5A, stack)
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if soft != resource.RLIM_INFINITY and soft < length + stack:
        resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))
    buffer = Buffer(top - length, length)
    buffer.at_close(mm.munmap, top - length, length + stack)  # it may have grown
    found = proof.flags_of(top)
    proof.must("gd" in found, "a mapping that grows down (VmFlags gd)", found)
    proof.must(not proof.smaps(top - 1), "nothing mapped below it", "a mapping")
    buffer.proof = {"VmFlags": " ".join(found), "grows_down_at": hex(top)}
    return buffer
