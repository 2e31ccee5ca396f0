# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel has allocated: reading it, and what counts as lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.errors import NotApplicableError
from hil.evidence import kernel_memory
from hil.evidence.kernel_memory import Cache, Reading, grown

SLABINFO = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables ...
kmalloc-96          1200   1260     96   42    1 : tunables    0    0    0 : slabdata     30     30
ext4_inode_cache      10     27   1184   27    8 : tunables    0    0    0 : slabdata      1      1
"""
VMALLOCINFO = """\
0x00000000a1a2a3a4-0x00000000b1b2b3b4    8192 hpet_enable+0x36/0x310 phys=0xfed00000 ioremap
0x00000000c1c2c3c4-0x00000000d1d2d3d4 4194304 vm_map_ram
0x00000000e1e2e3e4-0x00000000f1f2f3f4 4194304 unpurged vm_area
"""
TURNS = 512


def test_the_files_are_read() -> None:
    found = kernel_memory.parse(SLABINFO)
    assert found == {"kmalloc-96": Cache(1200, 42), "ext4_inode_cache": Cache(10, 27)}
    assert kernel_memory.addresses(VMALLOCINFO) == 8192 + 4194304


def test_who_may_not_read_them_is_told_what_would_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_memory, "SLABINFO", tmp_path / "none")
    with pytest.raises(NotApplicableError, match="none: No such file or directory: run as root"):
        kernel_memory.reading()


def reading(objects: int, per_slab: int = 42, addresses: int = 0) -> Reading:
    return Reading({"kmalloc-96": Cache(objects, per_slab)}, addresses)


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (reading(100), reading(612), {"kmalloc-96": 512}),
        (reading(100), reading(100 + 504), {"kmalloc-96": 504}),  # whole slabs of 42
        (reading(100), reading(400), {}),  # not each turn
        (reading(700), reading(100), {}),
        (reading(0, 256), reading(512, 256), {}),  # two slabs: it may be chance
        (Reading({}, 0), reading(512), {"kmalloc-96": 512}),  # a cache that was not there
        (reading(0), reading(0, addresses=TURNS * 4096), {"addresses": TURNS * 4096}),
        (reading(0), reading(0, addresses=TURNS * 2048), {}),
    ],
)
def test_what_counts_as_lost(before: Reading, after: Reading, found: dict[str, int]) -> None:
    assert grown(before, after, TURNS, 4096) == found


def test_a_buffer_of_no_length_has_no_addresses_to_lose() -> None:
    assert grown(reading(0), reading(0, addresses=1 << 30), TURNS, 0) == {}
