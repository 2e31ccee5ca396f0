# SPDX-License-Identifier: GPL-2.0-or-later
"""The hugetlb pools (mm/hugetlb.c): how many pages there are, and getting more of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hil.system.guard import Guard

_ROOT = Path("/sys/kernel/mm/hugepages")
_NODES = Path("/sys/devices/system/node")


class Pool(NamedTuple):
    """Pages of one size, on the whole machine or on one node."""

    total: int
    free: int
    reserved: int
    """Promised to mappings and not yet taken; 0 for a node, where the kernel does not say."""

    @property
    def available(self) -> int:
        return self.free - self.reserved


def folder(size: int, node: int | None = None) -> Path:
    """The sysfs folder of the pool of ``size`` bytes."""
    name = f"hugepages-{size >> 10}kB"
    return _ROOT / name if node is None else _NODES / f"node{node}" / "hugepages" / name


def pool(size: int, node: int | None = None) -> Pool | None:
    """The pool's state now; None when this machine has no huge pages of that size."""
    where = folder(size, node)
    try:
        total = int((where / "nr_hugepages").read_text())
        free = int((where / "free_hugepages").read_text())
    except OSError:
        return None
    try:
        reserved = int((where / "resv_hugepages").read_text())
    except OSError:
        reserved = 0
    return Pool(total, free, reserved)


def provide(guard: Guard | None, size: int, count: int, node: int | None = None) -> Pool | None:
    """Have ``count`` pages of ``size`` bytes available, enlarging the pool if that is allowed.

    The pool stays enlarged until the guard restores it.  Returns the pool as it is then, which may
    be short: the kernel takes as many pages as it finds.
    """
    now = pool(size, node)
    if now is None or now.available >= count or guard is None:
        return now
    # The write fails only for gigantic pages that cannot be had at run time (EINVAL).
    try:
        guard.set(folder(size, node) / "nr_hugepages", now.total + count - now.available)
    except OSError:
        return now
    return pool(size, node)
