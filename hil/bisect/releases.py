# SPDX-License-Identifier: GPL-2.0-or-later
"""The archive's releases in a line, as commits of a repository that is made for it.

A stable point is not in the history of the next series, so there are two lines: the newest of each
series, and then the points of the series in which the cell changed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hil.bisect.git import Repository, made_history
from hil.errors import HilError
from hil.lab import kernels, versions
from hil.lab.catalogue import Build
from hil.lab.progress import Say


def offered(arch: str, say: Say) -> list[Build]:
    """Whole stock kernels of the archive, oldest first, each package revision once.

    Rebuilds of one package for older Debian releases count as the same; of them one that is on
    this disk is taken, else the newest build.
    """
    series, _ = kernels.list_series(arch=arch, say=say)
    chosen: dict[str, tuple[bool, Build]] = {}
    for one in series:
        for build in (*one.older, one.newest):
            key = re.sub(r"~(bpo|deb)\d.*$", "", build.package_version)
            here = build.release in one.cached
            if key not in chosen or here or not chosen[key][0]:
                chosen[key] = (here, build)
    return sorted((build for _, build in chosen.values()), key=lambda b: b.order)


def end(builds: Sequence[Build], name: str, option: str) -> Build:
    """The release that an option names: a series is its newest one."""
    fits = [
        build for build in builds
        if name in (build.series, build.version, build.release, build.package_version)
    ]  # fmt: skip
    if not fits:
        series = list(dict.fromkeys(build.series for build in builds))
        raise HilError(
            f"{option} {name}: the archive has no such release",
            f"Series: {', '.join(series)}; `hil kernels list --all` lists releases.",
        )
    return fits[-1]


def coarse(builds: Sequence[Build], old: Build, new: Build) -> list[Build]:
    """From ``old`` to ``new``: all points of one series, or the newest of each series between."""
    if old.series == new.series:
        return [b for b in builds if b.series == old.series and old.order <= b.order <= new.order]
    newest = {build.series: build for build in builds}
    low, high = versions.number(old.series), versions.number(new.series)
    between = [b for s, b in newest.items() if low < versions.number(s) < high]
    return [old, *between, new]


def fine(builds: Sequence[Build], old: Build, new: Build) -> list[Build]:
    """``old``, and the points of ``new``'s series up to it; `coarse` where both are of one."""
    if old.series == new.series:
        return coarse(builds, old, new)
    return [old, *(b for b in builds if b.series == new.series and b.order <= new.order)]


def history(folder: Path, line: Sequence[Build]) -> tuple[Repository, dict[str, str]]:
    """A repository of this line, and the release that each commit stands for."""
    repository, commits = made_history(folder, [build.release for build in line])
    return repository, dict(zip(commits, (build.release for build in line), strict=True))
