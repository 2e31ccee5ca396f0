# SPDX-License-Identifier: GPL-2.0-or-later
"""On which NUMA node this process' new pages are to lie."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from hil.uapi import mm

_preferred: int | None = None


def available() -> int:
    """Bytes that this machine could still give, by its own estimate (MemAvailable)."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


def prefer(node: int | None) -> None:
    """New pages of this process, and of the children that it forks, come from ``node``.

    MPOL_PREFERRED, not MPOL_BIND: a node without room would call the OOM killer.  None: no wish.
    """
    global _preferred  # noqa: PLW0603 - what this process has asked the kernel for
    mm.set_mempolicy(mm.MPOL_DEFAULT if node is None else mm.MPOL_PREFERRED, node)
    _preferred = node


@contextlib.contextmanager
def preferring(node: int) -> Iterator[None]:
    """`prefer` while the body runs; what was preferred before holds again afterwards."""
    before = _preferred
    prefer(node)
    try:
        yield
    finally:
        prefer(before)
