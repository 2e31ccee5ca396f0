# SPDX-License-Identifier: GPL-2.0-or-later
"""What `hil cache` prints."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from hil.lab import cache, cache_parts, limits
from hil.lab.cache_parts import Part, Pruned

_RULES = {
    "initramfs": "unused for 14 days: dropped",
    "images": "the newest 4, and those of the last day",
}


def print_cache(console: Console, *, every: bool = False) -> None:
    """Print a row for each kind, or ``every`` part, and the limits; HilError for a wrong file."""
    limit = limits.get()
    there = cache_parts.parts()
    rules = {**_RULES, "snapshots": f"limit {cache.megabytes(limit.snapshots)}, oldest out first"}
    table = Table(box=None, pad_edge=False, header_style="underline")
    for title in ("kind", "parts", "on disk", "last used", ""):
        numbers = title in ("parts", "on disk")
        table.add_column(title, justify="right" if numbers else "left", overflow="fold")
    now = time.time()
    for kind in (*(kind.name for kind in cache_parts.KINDS), cache_parts.OTHER):
        own = [part for part in there if part.kind == kind]
        if not own:
            continue
        table.add_row(
            kind, str(len(own)), cache.megabytes(sum(part.size for part in own)),
            _ages(own, now), rules.get(kind, ""), style="bold" if every else "",
        )  # fmt: skip
        for part in reversed(own) if every else ():
            table.add_row(
                f"  {part.path.name}", "", cache.megabytes(part.size), _age(now - part.used), ""
            )
    total = cache.megabytes(sum(part.size for part in there))
    table.add_row("", str(len(there)), total, "", "", style="bold")
    console.print(table)
    root = cache.root()
    set_ = limit.told if limit.told != "built in" else f"built in; {limits.file()} changes it"
    for line in (
        f"{root}, {cache.megabytes(cache.free(root))} free",
        f"limit of snapshots: {set_}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def print_pruned(console: Console, found: Pruned, *, dry: bool) -> None:
    """Print what went, or would go, and what stayed because it is in use."""
    for part in found.gone:
        console.print(f"{_named(part)}", highlight=False, soft_wrap=True)
    size = cache.megabytes(sum(part.size for part in found.gone))
    verb = "would go" if dry else "removed"
    console.print(f"{len(found.gone)} parts {verb}, {size}", style="bold", highlight=False)
    if found.in_use:
        size = cache.megabytes(sum(part.size for part in found.in_use))
        console.print(f"{len(found.in_use)} parts stay, {size}: a run uses them", highlight=False)


def _named(part: Part) -> str:
    age = _age(time.time() - part.used)
    path = part.path.relative_to(cache.root())
    return f"{path}: {cache.megabytes(part.size)}, last used {age} ago"


def _ages(parts: Sequence[Part], now: float) -> str:
    """``parts`` has the oldest first."""
    oldest, newest = _age(now - parts[0].used), _age(now - parts[-1].used)
    return newest if oldest == newest else f"{newest} to {oldest}"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
