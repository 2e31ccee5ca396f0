# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory that changes behind a pointer that stays the same."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from hil.evidence import frames
from hil.memory.anonymous import filled, prove_single
from hil.memory.base import PAGE, Buffer, memory_class, round_up
from hil.memory.shmem import no_huge_pages
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench


@memory_class("remapped-same-address", "unmapped and mapped anew between two pins of one pointer")
def remapped_same_address(bench: Bench, length: int, direction: Direction) -> Buffer:
    """``settle`` remaps; the frames that it replaced are then in facts, as a count.

    videobuf2 does not pin again when pointer and length are the same at the same index
    (drivers/media/common/videobuf2/videobuf2-core.c __prepare_userptr).
    """
    buffer = filled(length)
    address, length = buffer.address, buffer.length

    def settle() -> None:
        before = frames.frames(address, length)
        mm.munmap(address, length)
        mm.mmap(
            length,
            flags=mm.MAP_PRIVATE | mm.MAP_ANONYMOUS | mm.MAP_FIXED_NOREPLACE,
            address=address,
        )
        no_huge_pages(address, length)
        ctypes.memset(address, 0xA5, length)
        after = prove_single(address, length)
        pairs = zip(before, frames.frames(address, length), strict=True)
        buffer.facts["remapped"] = after["present"]
        buffer.facts["changed_frames"] = sum(1 for old, new in pairs if old != new)

    buffer.settle = settle
    return buffer


@memory_class("resized-same-address", "one pointer pinned twice, the second time with less length")
def resized_same_address(bench: Bench, length: int, direction: Direction) -> Buffer:
    """A driver that keeps pins by pointer and length has to give back those of the first length."""
    buffer = filled(round_up(length, PAGE) + PAGE)

    def settle() -> None:
        buffer.length -= PAGE
        buffer.facts["second_length"] = buffer.length

    buffer.settle = settle
    return buffer
