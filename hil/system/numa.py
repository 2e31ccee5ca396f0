# SPDX-License-Identifier: GPL-2.0-or-later
"""On which NUMA node this process' new pages are to lie."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hil.uapi import mm

_preferred: int | None = None


@contextlib.contextmanager
def preferring(node: int | None) -> Iterator[None]:
    """Pages touched in the body come from ``node`` if it has any (MPOL_PREFERRED).

    Not MPOL_BIND: a node without room would call the OOM killer.  None changes nothing; inside of
    another ``preferring`` that one holds again afterwards.
    """
    global _preferred  # noqa: PLW0603 - what this process has asked the kernel for
    if node is None:
        yield
        return
    before, _preferred = _preferred, node
    mm.set_mempolicy(mm.MPOL_PREFERRED, node)
    try:
        yield
    finally:
        _preferred = before
        mm.set_mempolicy(mm.MPOL_DEFAULT if before is None else mm.MPOL_PREFERRED, before)
