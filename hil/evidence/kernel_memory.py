# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel has allocated: objects by slab cache, and addresses for its own mappings.

/proc/slabinfo (mm/slab_common.c): SLUB counts what lies in a CPU's own slabs as allocated
(mm/slub.c get_slabinfo), so a single reading is off by some slabs for each CPU, and a cache whose
slabs hold many small objects says little.  /proc/vmallocinfo (mm/vmalloc.c vmalloc_info_show): one
line an area with its size in bytes; small mappings of vm_map_ram() share areas of some MiB.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hil.errors import NotApplicableError

SLABINFO = Path("/proc/slabinfo")
VMALLOCINFO = Path("/proc/vmallocinfo")


class Cache(NamedTuple):
    """One slab cache; merged ones go by one name."""

    objects: int
    """Objects allocated."""
    per_slab: int


def parse(text: str) -> dict[str, Cache]:
    """The caches of a slabinfo text, version 2.1: name active_objs num_objs objsize objperslab."""
    found = {}
    for line in text.splitlines()[2:]:
        words = line.split()
        if len(words) > 4:
            found[words[0]] = Cache(int(words[1]), int(words[4]))
    return found


class Reading(NamedTuple):
    """What is allocated at one moment."""

    caches: dict[str, Cache]
    addresses: int
    """Bytes of the kernel's addresses in use; what is only to be flushed is not."""


def reading() -> Reading:
    """All of it now; NotApplicableError for who may not read it, or where there is none."""
    try:
        return Reading(parse(SLABINFO.read_text()), addresses(VMALLOCINFO.read_text()))
    except OSError as error:
        raise NotApplicableError(f"{error.filename}: {error.strerror}: run as root") from error


def addresses(text: str) -> int:
    """The bytes of all areas of a vmallocinfo text but those that wait for a flush."""
    words = (line.split(maxsplit=3) for line in text.splitlines())
    return sum(int(w[1]) for w in words if len(w) > 2 and w[2] != "unpurged")


def grown(before: Reading, after: Reading, turns: int, mapped: int) -> dict[str, int]:
    """What grew by about an object a turn or more, or by ``mapped`` bytes of addresses a turn.

    Cache -> objects, "addresses" -> bytes.  Left out are caches of which a few slabs hold as many
    objects as there were turns.
    """
    found = {}
    for name, now in after.caches.items():
        more = now.objects - before.caches.get(name, Cache(0, 0)).objects
        if more >= turns * 3 // 4 and now.per_slab * 4 <= turns:
            found[name] = more
    more = after.addresses - before.addresses
    if mapped and more >= turns * mapped * 3 // 4:
        found["addresses"] = more
    return found
