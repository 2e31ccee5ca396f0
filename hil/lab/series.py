# SPDX-License-Identifier: GPL-2.0-or-later
"""Several kernels at once: "all", and ranges such as 5.10..7.3, over what the archive has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from hil.errors import HilError
from hil.lab import kernel_store, kernels, versions
from hil.lab.progress import Say

ALL = "all"
_RANGE = re.compile(r"(?:debian:)?(\d+\.\d+)?\.\.(?:debian:)?(\d+\.\d+)?")


class Lacking(NamedTuple):
    """A series that was asked for by "all" or a range, and cannot be had."""

    series: str
    reason: str


def expand(
    specs: Sequence[str], *, arch: str = "amd64", say: Say | None = None
) -> tuple[list[str], list[Lacking]]:
    """The specs, with "all" and ranges replaced by the series to be had; and those that cannot be.

    Either end of a range may be left out.  The archive is asked only where one of them is there.
    HilError for a range in which there is nothing.
    """
    found: dict[str, None] = {}
    lacking: dict[str, Lacking] = {}
    for spec in specs:
        match = _RANGE.fullmatch(spec)
        if spec != ALL and (match is None or not any(match.groups())):
            if ".." in spec and "/" not in spec:
                raise HilError(
                    f"{spec!r} is no range of kernels",
                    "Expected is SERIES..SERIES, such as 5.10..7.3 or debian:6.1..debian:6.12.",
                )
            found[spec] = None
            continue
        first, last = match.groups() if match else (None, None)
        there, missing = to_be_had(arch, say)
        inside = [series for series in there if _within(series, first, last)]
        if not inside:
            raise HilError(
                f"there is no kernel in the range {spec}",
                f"Series to be had: {', '.join(there)}.",
            )
        found.update(dict.fromkeys(f"debian:{series}" for series in inside))
        lacking |= {one.series: one for one in missing if _within(one.series, first, last)}
    return list(found), [lacking[name] for name in sorted(lacking, key=versions.number)]


def to_be_had(arch: str, say: Say | None = None) -> tuple[list[str], list[Lacking]]:
    """Series that the archive or the cache has, oldest first, and those that lack something.

    HilError where there are no lists, none can be fetched, and no kernel is in the cache.
    """
    here = {versions.series(kernel.version) for _, kernel in kernel_store.cached(arch)}
    try:
        there, lacks = kernels.series(arch, say)
    except HilError:
        if not here:
            raise
        there, lacks = [], {}
    whole = sorted({*there, *here} - {""}, key=versions.number)
    return whole, [Lacking(name, why) for name, why in lacks.items() if name not in whole]


def _within(series: str, first: str | None, last: str | None) -> bool:
    number = versions.number(series)
    return (first is None or versions.number(first) <= number) and (
        last is None or number <= versions.number(last)
    )
