# SPDX-License-Identifier: GPL-2.0-or-later
"""Counters of the whole machine: pins taken and given back, huge pages.

nr_foll_pin_acquired and nr_foll_pin_released (mm/gup.c, since 5.7) count one for each page and
pin, also within huge pages.  They never go down: what is held is acquired - released.  A page that
had to be migrated first counts twice as acquired and once as released; a refused pin may count
+1/+1.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_ACQUIRED = b"nr_foll_pin_acquired "
_RELEASED = b"nr_foll_pin_released "


class Pins(NamedTuple):
    """FOLL_PIN references in pages of PAGE_SIZE, since boot or since another reading."""

    acquired: int
    released: int

    @property
    def live(self) -> int:
        """Pages that are pinned."""
        return self.acquired - self.released

    def since(self, before: Pins) -> Pins:
        """What came after ``before``."""
        return Pins(self.acquired - before.acquired, self.released - before.released)

    def as_dict(self) -> dict[str, int]:
        return {"acquired": self.acquired, "released": self.released, "live": self.live}


_vmstat = -1
_refresh: int | None = -1
_meminfo = -1
_gigantic: int | None = -1


def _value(data: bytes, key: bytes) -> int:
    at = data.find(key)
    if at < 0:
        raise KeyError(key.decode().strip())
    at += len(key)
    return int(data[at : data.index(b"\n", at)])


def parse_vmstat(data: bytes) -> Pins:
    """The pin counters in /proc/vmstat; KeyError where the kernel has none (before 5.7)."""
    return Pins(_value(data, _ACQUIRED), _value(data, _RELEASED))


def refresh() -> None:
    """Fold every CPU's share into the counters (``vmstat_refresh`` in mm/vmstat.c).

    Without it a reading is off by up to the per-CPU threshold.  The write may fail with EINVAL
    where some counter is below zero (up to 5.11); the folding is done by then.
    """
    global _refresh  # noqa: PLW0603
    if _refresh == -1:
        try:
            _refresh = os.open("/proc/sys/vm/stat_refresh", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            _refresh = None
    if _refresh is not None:
        try:  # noqa: SIM105 - contextlib.suppress costs more than the call
            os.pwrite(_refresh, b"1\n", 0)
        except OSError:
            pass


def pins() -> Pins:
    """The pin counters of this moment, exact.  KeyError where the kernel has none."""
    global _vmstat  # noqa: PLW0603
    refresh()
    if _vmstat < 0:
        _vmstat = os.open("/proc/vmstat", os.O_RDONLY | os.O_CLOEXEC)
    # A read of a seq_file ends at a page; the pin counters are in the first.
    data = os.pread(_vmstat, 4096, 0)
    if _RELEASED not in data or data.find(b"\n", data.find(_RELEASED)) < 0:
        while more := os.pread(_vmstat, 4096, len(data)):
            data += more
    return parse_vmstat(data)


def parse_hugepages(data: bytes) -> dict[str, int]:
    """The HugePages_ lines of /proc/meminfo: pages of the default size; empty without hugetlb."""
    found: dict[str, int] = {}
    at = data.find(b"HugePages_Total:")
    while at >= 0 and data.startswith(b"HugePages_", at):
        end = data.find(b"\n", at)
        name, _, value = data[at : end if end >= 0 else len(data)].partition(b":")
        found[name.decode()] = int(value)
        at = end + 1 if end >= 0 else -1
    return found


def hugepages() -> dict[str, int]:
    """HugePages_{Total,Free,Rsvd,Surp} of the default size, and the free 1 GiB pages."""
    global _meminfo, _gigantic  # noqa: PLW0603
    if _meminfo < 0:
        _meminfo = os.open("/proc/meminfo", os.O_RDONLY | os.O_CLOEXEC)
        _gigantic = _open_gigantic(Path("/sys/kernel/mm/hugepages/hugepages-1048576kB"))
    found = parse_hugepages(os.pread(_meminfo, 4096, 0))
    if _gigantic is not None:
        found["Free_1GiB"] = int(os.pread(_gigantic, 32, 0))
    return found


def _open_gigantic(folder: Path) -> int | None:
    """The free 1 GiB pages' file where the machine set some aside."""
    try:
        if int((folder / "nr_hugepages").read_text()):
            return os.open(folder / "free_hugepages", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        pass
    return None
