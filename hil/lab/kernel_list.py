# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of `hil kernels list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hil.lab import cache, kernel_store, kernels

if TYPE_CHECKING:
    from rich.console import Console


def print_list(
    console: Console, *, arch: str = "amd64", refresh: bool = False, every: bool = False
) -> int:
    """Print the series to be had, one row each, or ``every`` release; returns the exit status 0.

    Sizes are what is fetched; of kernels on this disk, what they take there.  HilError when there
    are no package lists and none can be fetched.
    """
    from rich.table import Table

    series, notes = kernels.list_series(arch=arch, refresh=refresh)
    on_disk = dict(kernel_store.cached(arch))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("spec", "release", "package", "suite"):
        table.add_column(title)
    for title in ("fetch", "on disk"):
        table.add_column(title, justify="right")
    table.add_column("" if every else "also")
    for one in series:
        builds = [*one.older, one.newest] if every else [one.newest]
        for build in builds:
            here = on_disk.get(build.release)
            size = cache.megabytes(_taken(here)) if here else ""
            spec = f"debian:{build.release if every else one.series}"
            others = "" if every else _others(one)
            table.add_row(
                spec,
                build.release,
                build.package_version,
                ", ".join(build.suites),
                cache.megabytes(build.size),
                size,
                others,
                style="bold" if here else None,
            )
    console.print(table)
    for note in notes:
        console.print(f"[yellow]note:[/] {note}", highlight=False)
    return 0


def _others(series: kernels.Series) -> str:
    count = f"{len(series.older)} older" if series.older else ""
    cached = [release for release in series.cached if release != series.newest.release]
    return ", ".join(filter(None, [count, f"cached: {' '.join(cached)}" if cached else ""]))


def _taken(kernel: kernel_store.Kernel) -> int:
    folder = kernel.vmlinuz.parent
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file())
