# SPDX-License-Identifier: GPL-2.0-or-later
"""Anonymous pages that a pin must first make its own: merged, in swap, shared with a child."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hil.errors import NotApplicableError
from hil.evidence import frames
from hil.memory import proof
from hil.memory.anonymous import filled, single_pages
from hil.memory.base import PAGE, Buffer, buffer_of, memory_class, pattern
from hil.system import ksm
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Direction
    from hil.memory.bench import Bench

_PATIENCE = 10.0
"""Seconds that ksmd gets: it takes three rounds over all that is mergeable."""


@memory_class("ksm", "equal pages that ksmd has merged into one")
def ksm_merged(bench: Bench, length: int, direction: Direction) -> Buffer:
    if not Path(ksm.ROOT).is_dir():
        raise NotApplicableError(f"no samepage merging: needs CONFIG_KSM ({ksm.ROOT})")
    address, length = single_pages(max(length, 2 * PAGE))
    buffer = buffer_of(address, length)
    page = pattern(PAGE - 8) + os.getpid().to_bytes(8, "little")
    ctypes.memmove(address, page * (length // PAGE), length)
    few = length // PAGE // 256 + 1  # max_page_sharing
    deadline = time.monotonic() + _PATIENCE
    with ksm.merging(bench.guard):
        mm.madvise(address, length, mm.MADV_MERGEABLE)
        while time.monotonic() < deadline:
            time.sleep(0.01)
            if _different(address, length) <= few:
                break
    buffer.proof = proof.present(address, length, "pages merged by ksmd", has=proof.KSM)
    different = _different(address, length)
    proof.must(different <= few, "pages merged by ksmd", f"{different} different frames")
    buffer.proof["different_frames"] = different
    return buffer


def _different(address: int, length: int) -> int:
    """How many frames stand behind a range; a missing page counts as one."""
    return len(set(frames.frames(address, length)))


@memory_class("swapped-out", "private anonymous memory that is in swap")
def swapped_out(bench: Bench, length: int, direction: Direction) -> Buffer:
    if len(Path("/proc/swaps").read_text().splitlines()) < 2:
        raise NotApplicableError("no swap: swapon a file, a partition or a zram device")
    buffer = filled(length)
    for attempt in range(5):
        try:
            mm.madvise(buffer.address, buffer.length, mm.MADV_PAGEOUT)
        except OSError as error:
            raise NotApplicableError(f"MADV_PAGEOUT: {error.strerror}: needs Linux 5.4") from error
        sight = proof.Sight(buffer.address, buffer.length)
        if sight.swapped == sight.pages:
            buffer.proof = sight.summary()
            return buffer
        time.sleep(0.01 * attempt)
    raise NotApplicableError(
        f"asked the kernel to swap {sight.pages} pages out, {sight.swapped} are in swap "
        "(is it full, or memory.swap.max 0?)"
    )


@memory_class(
    "cow-shared-with-child", "private anonymous memory that a forked child shares", alone=True
)
def cow_shared_with_child(bench: Bench, length: int, direction: Direction) -> Buffer:
    buffer = filled(length)
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    hold_read, hold_write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            # The device node, which is open by now, must not stay open through this child.
            low, high = sorted((ready_write, hold_read))
            os.closerange(0, low)
            os.closerange(low + 1, high)
            os.closerange(high + 1, os.sysconf("SC_OPEN_MAX"))
            os.write(ready_write, b"1")
            os.read(hold_read, 1)  # ends when the parent closes its end or dies
        finally:
            os._exit(0)
    os.close(ready_write)
    os.close(hold_read)
    buffer.at_close(os.waitpid, pid, 0)
    buffer.at_close(os.close, hold_write)
    os.read(ready_read, 1)
    os.close(ready_read)
    words = frames.entries(buffer.address, buffer.length)
    alone = sum(1 for word in words if word & frames.EXCLUSIVE)
    proof.must(alone == 0, "pages mapped by two processes", f"{alone} pages mapped by one")
    buffer.proof["mapped_by_this_process_only"] = alone
    buffer.proof["child"] = pid
    return buffer
