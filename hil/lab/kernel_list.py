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
    from rich.text import Text

    series, notes = kernels.list_series(arch=arch, refresh=refresh)
    on_disk = dict(kernel_store.cached(arch))
    titles = ["spec", "release", "package", "suite", "fetch", "on disk", "also"]
    # The package's version tells little that the release does not; narrow terminals do without.
    left_out = {"release", "also"} if every else {"package"} if console.width < 100 else set()
    rows = [dict(zip(titles, titles, strict=True))]
    for one in series:
        for build in [*one.older, one.newest] if every else [one.newest]:
            here = on_disk.get(build.release)
            cells = (
                f"debian:{build.release if every else one.series}",
                build.release,
                build.package_version,
                ", ".join(build.suites),
                cache.megabytes(build.size),
                cache.megabytes(_taken(here)) if here else "",
                _others(one),
            )
            rows.append(dict(zip(titles, cells, strict=True)))
    shown = [title for title in titles if title not in left_out]
    widths = {title: max(len(row[title]) for row in rows) for title in shown}
    for number, row in enumerate(rows):
        parts = [
            row[t].rjust(widths[t]) if t in ("fetch", "on disk") else row[t].ljust(widths[t])
            for t in shown
        ]
        style = "underline" if number == 0 else "bold" if row["on disk"] else ""
        # Nothing is cut: names go from here into commands.
        console.print(Text("  ".join(parts).rstrip(), style), soft_wrap=True)
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
