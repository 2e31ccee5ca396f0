# SPDX-License-Identifier: GPL-2.0-or-later
"""What is in the cache, part by part, and removing what nobody uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hil.errors import HilError
from hil.lab import cache, holding, limits, ram

OTHER = "other"


class Kind(NamedTuple):
    """A folder of the cache."""

    name: str
    what: str
    pattern: str
    """Which paths below it are its parts."""
    held: bool
    """Whether runs hold each part; if not, its parts go only while no run uses the cache."""


KINDS = (
    Kind("snapshots", "guests that stand before their first cell", "*", True),
    Kind("kernels", "stock kernels, unpacked", "*/*", True),
    Kind("vmlinux", "their ELF images", "*", True),
    Kind("initramfs", "one for each kernel, board and own module", "*", True),
    Kind("images", "guests' roots", "*", True),
    Kind("packages", "packages of guests' roots, and of QEMU", "*/*", False),
    Kind("archive", "package lists of the mirror", "*", False),
    Kind("filesystems", "file systems that pmem starts with", "*", False),
    Kind("drivers", "drivers that were built", "*/*", False),
    Kind("headers", "kernel headers for building", "*/*", False),
    Kind("sources", "kernel sources for building", "*", False),
    Kind("modules", "corrected copies of modules", "*", False),
    Kind("faults", "faulty drivers, and where they are built", "*", False),
    Kind("bisect", "worktrees and builds of bisections", "*", False),
    Kind("changelogs", "the distribution's changelogs", "*", False),
    Kind("devicetrees", "device trees of boards", "*", False),
    Kind("sha256", "remembered checksums", "*", False),
    Kind("kvm", "whether KVM runs a guest", "*", False),
)
_NOT_PARTS = ("locks",)


class Part(NamedTuple):
    """One thing that can be removed by itself."""

    kind: str
    path: Path
    size: int
    """Bytes on disk."""
    used: float
    """When it was last used or made, seconds since the epoch."""


def parts(kinds: Iterable[str] = ()) -> list[Part]:
    """Every part of these kinds, or of all; the one that was not used for longest first.

    What processes that are gone have left half made is cleared away meanwhile.
    """
    ram.clean()
    root = cache.root()
    wanted = set(kinds)
    found = [
        Part(kind.name, path, _size(path), _used(path))
        for kind in KINDS
        if not wanted or kind.name in wanted
        for path in (root / kind.name).glob(kind.pattern)
        if not path.name.startswith(".")
    ]
    if not wanted or OTHER in wanted:
        known = {*_NOT_PARTS, *(kind.name for kind in KINDS)}
        found += [
            Part(OTHER, path, _size(path), _used(path))
            for path in root.iterdir()
            if path.name not in known and not path.name.startswith(".")
        ]
    return sorted(found, key=lambda part: part.used)


class Pruned(NamedTuple):
    """What came of removing."""

    gone: list[Part]
    in_use: list[Part]
    """They should have gone, but a run uses them."""


def prune(
    kinds: Iterable[str] = (),
    *,
    all_: bool = False,
    older: float | None = None,
    limit: int | None = None,
    dry: bool = False,
    now: Callable[[], float] = time.time,
) -> Pruned:
    """Remove parts of these kinds, or of every kind.

    ``all_`` is all of them; ``older`` those that were not used for so many seconds; ``limit`` the
    oldest until the rest takes no more bytes.  Without any of the three, snapshots beyond their
    limit go.  What a run uses stays, whatever is asked.  ``dry`` removes nothing, and cannot tell
    what is in use.
    """
    there = parts(kinds)
    if all_:
        chosen = there
    elif older is not None or limit is not None:
        chosen = [part for part in there if older is not None and now() - part.used > older]
        rest = [part for part in there if part not in chosen]
        chosen += _beyond(rest, limit) if limit is not None else []
    else:
        snapshots = [part for part in there if part.kind == "snapshots"]
        chosen = _beyond(snapshots, limits.get().snapshots)
    if dry:
        return Pruned(chosen, [])
    held = {kind.name for kind in KINDS if kind.held}
    gone: list[Part] = []
    in_use: list[Part] = []
    with holding.Alone() as alone:
        for part in chosen:
            free = alone.got or part.kind in held
            (gone if free and holding.remove(part.path) else in_use).append(part)
    return Pruned(gone, in_use)


def check_kinds(names: Sequence[str]) -> None:
    """HilError for a name that is no kind."""
    known = [*(kind.name for kind in KINDS), OTHER]
    for name in names:
        if name not in known:
            raise HilError(f"no kind {name!r} in the cache", f"Kinds: {', '.join(known)}.")


def _beyond(there: Sequence[Part], limit: int) -> list[Part]:
    """The oldest, so that the rest fits; ``there`` has the oldest first."""
    total = sum(part.size for part in there)
    chosen = []
    for part in there:
        if total <= limit:
            break
        chosen.append(part)
        total -= part.size
    return chosen


def _size(path: Path) -> int:
    size = 0
    with suppress(OSError):
        for entry in (
            [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
        ):
            with suppress(OSError):
                size += entry.lstat().st_blocks * 512
    return size


def _used(path: Path) -> float:
    with suppress(OSError):
        return path.lstat().st_mtime
    return 0.0
