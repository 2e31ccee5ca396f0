# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows that a buffer is what its class says, or says what the kernel gave instead.

Rests on /proc/self/pagemap, /proc/kpageflags and /proc/self/smaps (fs/proc/task_mmu.c,
fs/proc/page.c); frame numbers need CAP_SYS_ADMIN.
"""

from __future__ import annotations

import os
from array import array
from functools import reduce
from operator import and_, or_

from hil.errors import NotApplicableError
from hil.evidence import frames
from hil.memory.base import HUGE, PAGE

ANON = 1 << 12
SWAPBACKED = 1 << 14
HEAD = 1 << 15
TAIL = 1 << 16
COMPOUND = HEAD | TAIL
HUGETLB = 1 << 17
KSM = 1 << 21
THP = 1 << 22
ZERO = 1 << 24
# 6.12.117 and 6.18.15 show KPF_KSM for every anonymous page, 5.10, 6.1, 6.18.44 and 7.3 do not: its
# presence alone proves nothing, and its absence must not be asked for.

_SAMPLES = 64
_kpageflags = -1


def flag_words(numbers: list[int]) -> list[int]:
    """/proc/kpageflags words of ``numbers`` (sorted): one read for each run of neighbours.

    Of more than 64 runs, 64 spread over all of them are read.
    """
    global _kpageflags  # noqa: PLW0603 - the file is the same for every process
    if _kpageflags < 0:
        _kpageflags = os.open("/proc/kpageflags", os.O_RDONLY | os.O_CLOEXEC)
    runs: list[list[int]] = []
    after = -1
    for number in numbers:
        if number == after:
            runs[-1][1] += 1
        else:
            runs.append([number, 1])
        after = number + 1
    if len(runs) > _SAMPLES:
        runs = [runs[i * (len(runs) - 1) // (_SAMPLES - 1)] for i in range(_SAMPLES)]
    words = array("Q")
    for start, count in runs:
        words.frombytes(os.pread(_kpageflags, count * 8, start * 8))
    return words.tolist()


class Sight:
    """What stands behind a range of addresses at one moment."""

    __slots__ = ("compound", "every", "first", "frames", "last", "pages", "some", "swapped")

    def __init__(self, address: int, length: int) -> None:
        words = frames.entries(address, length)
        present, mask = frames.PRESENT, frames.FRAME_MASK
        self.pages = len(words)
        self.frames = [word & mask for word in words if word & present]
        self.swapped = sum(1 for word in words if word & frames.SWAPPED)
        if self.frames and not any(self.frames):
            raise NotApplicableError(
                "pagemap hides the page frames: run as root (CAP_SYS_ADMIN) to prove a buffer"
            )
        flags = flag_words(sorted(set(self.frames)))
        self.every = reduce(and_, flags) if flags else 0
        self.some = reduce(or_, flags) if flags else 0
        self.compound = bool(flags) and all(word & COMPOUND for word in flags)
        self.first = words[0] if words else 0
        self.last = words[-1] if words else 0

    @property
    def whole(self) -> bool:
        """Every page is there."""
        return len(self.frames) == self.pages

    def summary(self) -> dict[str, object]:
        """For proofs and messages: counts, and the flag names of the first and last page."""
        found: dict[str, object] = {"pages": self.pages, "present": len(self.frames)}
        if self.swapped:
            found["swapped"] = self.swapped
        for name, word in (("first", self.first), ("last", self.last)):
            frame = frames.frame_of(word)
            if frame is not None:
                found[name] = " ".join(sorted(frames.flags(frame)))
        return found


def must(holds: bool, wanted: str, seen: object) -> None:
    """NotApplicableError with what was wanted and what was seen, unless ``holds``."""
    if not holds:
        if isinstance(seen, dict):
            seen = ", ".join(f"{name} {value}" for name, value in seen.items())
        raise NotApplicableError(f"asked the kernel for {wanted}, it gave {seen}")


def present(
    address: int, length: int, wanted: str, *, has: int = 0, has_not: int = 0
) -> dict[str, object]:
    """Prove that every page is there with the flags ``has`` and without ``has_not``."""
    sight = Sight(address, length)
    holds = sight.whole and sight.every & has == has and not sight.some & has_not
    must(holds, wanted, sight.summary())
    return sight.summary()


def absent(address: int, length: int) -> dict[str, object]:
    """Prove that no page is there, nor in swap."""
    words = frames.entries(address, length)
    # A page that is not there may still be soft-dirty or armed.
    there = frames.PRESENT | frames.SWAPPED
    touched = sum(1 for word in words if word & there) if any(words) else 0
    must(not touched, "pages that nobody has touched", f"{touched} touched")
    return {"pages": len(words), "present": 0}


def large(address: int, length: int, wanted: str, *, has: int = 0) -> dict[str, object]:
    """Prove that every page belongs to a folio of more than one page."""
    sight = Sight(address, length)
    must(sight.whole and sight.compound and sight.every & has == has, wanted, sight.summary())
    return sight.summary()


def folios(address: int, length: int, size: int) -> dict[str, object]:
    """Prove that folios of exactly ``size`` bytes, each whole, stand behind an aligned range."""
    count = size // PAGE
    sight = Sight(address, length)
    wanted = f"folios of {size >> 10} KiB"
    must(sight.whole, wanted, sight.summary())
    for start in range(0, len(sight.frames), count):
        first = sight.frames[start]
        run = list(range(first, first + count))
        flags = flag_words([*run, first + count])
        holds = (
            first % count == 0
            and sight.frames[start : start + count] == run
            and bool(flags[0] & HEAD)
            and all(word & TAIL for word in flags[1:count])
            # Else this is the front of a larger folio.
            and not (len(flags) > count and flags[count] & TAIL)
        )
        must(holds, wanted, sight.summary())
    return {**sight.summary(), "folio": size}


def smaps(address: int) -> dict[str, int | str]:
    """Fields of the mapping that ``address`` lies in, in bytes; VmFlags and Name are text.

    Read only as far as needed: mappings of this package come early (see base.reserve).
    Empty when nothing is mapped there.
    """
    found: dict[str, int | str] = {}
    inside, rest = False, b""
    fd = os.open("/proc/self/smaps", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while data := os.read(fd, 1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if not line[:1].isupper():  # a new mapping: "7f00-7f01 rw-p 0 fd:00 12 /name"
                    if inside:
                        return found
                    span, _, about = line.decode().partition(" ")
                    start, _, end = span.partition("-")
                    if int(start, 16) > address:
                        return found
                    inside = address < int(end, 16)
                    if inside:
                        words = about.split(None, 4)
                        found = {"Perms": words[0], "Name": words[4] if len(words) > 4 else ""}
                elif inside:
                    field, _, value = line.decode().partition(":")
                    value = value.strip()
                    found[field] = int(value[:-3]) * 1024 if value.endswith(" kB") else value
    finally:
        os.close(fd)
    return found


def flags_of(address: int) -> list[str]:
    """The two-letter VmFlags of the mapping at ``address`` (fs/proc/task_mmu.c)."""
    return str(smaps(address).get("VmFlags", "")).split()


def huge_mapped(address: int, length: int, field: str, wanted: str) -> dict[str, object]:
    """Prove that all of an aligned range is mapped by PMDs.

    ``field`` is what smaps counts them under: AnonHugePages, ShmemPmdMapped, FilePmdMapped.
    """
    fields = smaps(address)
    mapped = fields.get(field, 0)
    sight = Sight(address, PAGE)
    must(
        isinstance(mapped, int) and mapped >= length,
        wanted,
        f"{field} {mapped} of {length} bytes, first page {sight.summary().get('first', 'absent')}",
    )
    first = Sight(address, HUGE)
    whole = first.frames == list(range(first.frames[0], first.frames[0] + HUGE // PAGE))
    must(whole and first.compound, wanted, first.summary())
    return {**first.summary(), field: mapped}


def zone_name(address: int) -> str | None:
    """The zone of one page: "Movable"; None when it is not present."""
    frame = frames.frame_of(frames.entries(address, 1)[0])
    zone = None if frame is None else frames.zone_of(frame)
    return zone.name if zone else None


def zone_names(address: int, length: int) -> dict[str, int]:
    """Pages by node and zone, "1/Movable": 113."""
    return frames.histogram(frames.entries(address, length))
