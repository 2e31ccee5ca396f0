# SPDX-License-Identifier: GPL-2.0-or-later
"""What is read from /proc: parsers on text of real kernels, readers on our own memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
from array import array
from pathlib import Path

import pytest

from hil.evidence import counters, frames, log, mappings, stuck
from hil.evidence.counters import Pins
from hil.evidence.frames import EXCLUSIVE, PAGE, PRESENT, SWAPPED, Zone

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="frame numbers need CAP_SYS_ADMIN: run as root")

ZONEINFO = """\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 140
  pages free     3840
        spanned  4095
        present  3998
        managed  3840
        cma      0
  start_pfn:           1
Node 0, zone    DMA32
        spanned  520160
        cma      16384
  start_pfn:           4096
Node 0, zone   Normal
  pages free     0
        spanned  0
        present  0
Node 1, zone  Movable
        spanned  458752
  start_pfn:           1114112
Node 1, zone   Device
        spanned  0
"""

IOMEM = """\
00001000-0009fbff : System RAM
00100000-7fffffff : System RAM
  01000000-01ffffff : Kernel code
100000000-10fffffff : Persistent Memory (legacy)
  100000000-10fffffff : namespace0.0
110000000-11fffffff : Persistent Memory
  110000000-11fffffff : dax0.0
    110000000-11fffffff : System RAM (kmem)
120000000-1bfffffff : System RAM
"""


class Memory:
    """Private anonymous memory with its address."""

    def __init__(self, pages: int, *, touch: bool = True) -> None:
        self.map = mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.map.madvise(mmap.MADV_NOHUGEPAGE)
        self.length = pages * PAGE
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        if touch:
            self.map[:] = b"x" * self.length


def test_zoneinfo_names_populated_zones_only() -> None:
    assert frames.parse_zoneinfo(ZONEINFO) == [
        Zone(0, "DMA", 1, 4096),
        Zone(0, "DMA32", 4096, 4096 + 520160),
        Zone(1, "Movable", 1114112, 1114112 + 458752),
    ]
    assert frames.parse_cma(ZONEINFO) == 16384


def test_iomem_tells_device_memory_but_not_what_kmem_gave_to_the_system() -> None:
    assert frames.parse_iomem(IOMEM) == [Zone(-1, "Device", 0x100000, 0x110000)]
    assert frames.parse_iomem("00000000-00000000 : Persistent Memory\n") == []


def test_cma_areas_of_old_and_new_debugfs(tmp_path: Path) -> None:
    old, new = tmp_path / "cma-reserved", tmp_path / "linux,cma"
    (new / "ranges" / "0").mkdir(parents=True)
    old.mkdir()
    (old / "base_pfn").write_text("1000\n")
    (old / "count").write_text("24\n")
    (new / "count").write_text("8\n")
    (new / "ranges" / "0" / "base_pfn").write_text("5000\n")
    assert sorted(frames._cma_areas(str(tmp_path))) == [(1000, 1024), (5000, 5008)]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> list[Zone]:
    zones = [
        Zone(-1, "Device", 500, 600),
        Zone(0, "Normal", 100, 1000),
        Zone(1, "Movable", 1000, 2000),
    ]
    monkeypatch.setattr(frames, "_zones", zones)
    monkeypatch.setattr(frames, "_cma", [(200, 210)])
    return zones


def test_histogram_counts_each_zone_once(table: list[Zone]) -> None:
    words = [PRESENT | n for n in (1500, 100, 999, 1000, 550, 99, 2000)] + [0, SWAPPED | 1500]
    assert frames.histogram(words) == {"-1/Device": 1, "0/Normal": 2, "1/Movable": 2, "none": 2}
    assert frames.histogram([0, SWAPPED]) == {}
    assert frames.zone_of(550) == table[0]
    assert frames.zone_of(99) is None


def test_unsuitable_pages_are_those_in_movable_zones_and_cma(table: list[Zone]) -> None:
    words = [PRESENT | n for n in (100, 199, 200, 209, 210, 1000, 1999)] + [SWAPPED | 1000]
    assert frames.unsuitable(words) == 4
    assert [zone.label for zone in table] == ["-1/Device", "0/Normal", "1/Movable"]


def test_a_pagemap_word_tells_frame_and_swap() -> None:
    assert frames.frame_of(PRESENT | EXCLUSIVE | 1 << 55 | 77) == 77
    assert frames.frame_of(77) is None
    assert frames.swapped(SWAPPED | 77)
    assert not frames.swapped(PRESENT | 77)


def test_flag_names_follow_the_kernels_bits() -> None:
    word = 1 << 12 | 1 << 15 | 1 << 17 | 1 << 21 | 1 << 22 | 1 << 24 | 1 << 33 | 1 << 60
    names = {"anon", "compound_head", "huge", "ksm", "thp", "zero_page", "mlocked", "bit60"}
    assert frames.flag_names(word) == names
    assert frames.flag_names(0) == frozenset()


def test_span_counts_the_pages_that_are_touched() -> None:
    assert frames.span(PAGE + 1, PAGE) == (1, 2)
    assert frames.span(PAGE, PAGE) == (1, 1)
    assert frames.span(PAGE * 3 + 5, 0) == (3, 0)


def test_describe_counts_absent_pages_and_reads_nothing_beyond_user_space() -> None:
    memory = Memory(8, touch=False)
    memory.map[0:1] = b"x"
    found = frames.describe(memory.address, memory.length)
    assert sum(found["zones"].values()) == 1
    assert (found["absent"], found["swapped"]) == (7, 0)
    assert found["last"] is None
    for address, length, pages in ((0xFFFF888000000000, 8192, 2), (2**64 - PAGE, 2 * PAGE, 2)):
        words = frames.entries(address, length)
        assert (len(words), any(words)) == (pages, False)
    assert frames.describe(memory.address, 0) == {
            "first": None, "last": None, "zones": {}, "contiguous": False,
        }  # fmt: skip


@ROOT
def test_frames_of_own_memory_are_real_and_differ() -> None:
    memory = Memory(16)
    found = frames.frames(memory.address, memory.length)
    assert len(set(found)) == 16
    assert None not in found
    described = frames.describe(memory.address + 1, memory.length - 1)
    assert described["first"]["frame"] == found[0]
    assert described["last"]["frame"] == found[-1]
    assert "anon" in described["first"]["flags"]
    assert sum(described["zones"].values()) == 16
    assert described["first"]["node"] is not None


@ROOT
def test_a_forked_child_reads_its_own_pages() -> None:
    memory = Memory(1)
    before = frames.frames(memory.address, PAGE)
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        memory.map[0:1] = b"y"  # copied on write: another frame, in the child alone
        os.write(writer, str(frames.frames(memory.address, PAGE)[0]).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert int(os.read(reader, 64)) != before[0]
    os.close(reader)
    os.close(writer)


VMSTAT = b"nr_free_pages 1\nnr_foll_pin_acquired 226\nnr_foll_pin_released 113\nnr_x 9\n"


def test_pins_are_what_is_acquired_and_not_released() -> None:
    found = counters.parse_vmstat(VMSTAT)
    assert found == Pins(226, 113)
    assert found.since(Pins(200, 100)).as_dict() == {"acquired": 26, "released": 13, "live": 13}
    with pytest.raises(KeyError, match="nr_foll_pin_acquired"):
        counters.parse_vmstat(b"nr_free_pages 1\n")


def test_this_kernels_pins_are_read() -> None:
    one, two = counters.pins(), counters.pins()
    assert two.acquired >= one.acquired
    text = Path("/proc/vmstat").read_text()
    assert f"nr_foll_pin_acquired {two.acquired}\n" in text


def test_hugepage_lines_are_taken_as_they_are() -> None:
    text = b"AnonHugePages: 0 kB\nHugePages_Total:       8\nHugePages_Free:    3\nHugetlb: 9 kB\n"
    assert counters.parse_hugepages(text) == {"HugePages_Total": 8, "HugePages_Free": 3}
    assert counters.parse_hugepages(b"HugePages_Total: 8") == {"HugePages_Total": 8}
    assert counters.parse_hugepages(b"MemTotal: 1 kB\n") == {}


def test_free_gigantic_pages_are_read_where_some_are_set_aside(tmp_path: Path) -> None:
    (tmp_path / "nr_hugepages").write_text("0\n")
    (tmp_path / "free_hugepages").write_text("0\n")
    assert counters._open_gigantic(tmp_path) is None
    (tmp_path / "nr_hugepages").write_text("2\n")
    fd = counters._open_gigantic(tmp_path)
    assert fd is not None
    os.close(fd)


def test_kmsg_records_of_the_kernel_become_dmesg_lines() -> None:
    record = b"4,1234,98765432,-;WARNING: CPU: 1 PID: 7 at mm/gup.c:1\n SUBSYSTEM=x\n"
    assert log.parse_record(record) == "[   98.765432] WARNING: CPU: 1 PID: 7 at mm/gup.c:1"
    assert log.parse_record(b"12,5,1,-;WARNING: a program wrote this\n") is None


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: CPU: 1 PID: 312 at mm/hugetlb.c:6627 follow_hugetlb_page+0x3e/0x6d0",
        "BUG: unable to handle page fault for address: ffffc90000e5d000",
        "general protection fault, probably for non-canonical address 0xdead000000000108",
        "Oops: 0002 [#1] PREEMPT SMP NOPTI",
        "refcount_t: underflow; use-after-free.",
        "BUG: Bad page state in process python3  pfn:11a2b",
        "INFO: task python3:312 blocked for more than 120 seconds.",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [python3:312]",
        "WARNING: possible circular locking dependency detected",
        "list_add corruption. next->prev should be prev (ffff), but was 0.",
    ],
)
def test_a_kernel_fault_is_found_in_the_log(line: str) -> None:
    assert log.warnings(["[    1.0] vivid: registered", f"[    1.1] {line}"]) == [
        f"[    1.1] {line}"
    ]


def test_ordinary_lines_are_no_faults() -> None:
    lines = [
        "[   10.1] use of bytesused == 0 is deprecated and will be removed in the future,",
        "[   10.2] GUP no longer grows the stack in python3 (12): 7f00-7f01 (7f02)",
        "[   10.3] vivid-000: V4L2 capture device registered as video0",
        "[   10.4] EXT4-fs (pmem0): mounted filesystem with ordered data mode",
    ]
    assert log.warnings(lines) == []


def test_taint_bits_have_their_letters() -> None:
    assert log.taint_names(1 << 9 | 1 << 12) == ["W: warning", "O: out-of-tree module"]
    assert log.taint_names(0) == []
    assert log.taint_names(1 << 40) == ["unknown bits 0x10000000000"]
    assert log.taint() == int(Path("/proc/sys/kernel/tainted").read_text())


def test_a_log_that_cannot_be_read_gives_empty_slices(tmp_path: Path) -> None:
    kernel_log = log.KernelLog(str(tmp_path / "none"))
    kernel_log.skip()
    assert not kernel_log.available
    assert kernel_log.lines() == []


def test_a_log_slice_starts_where_skip_left_it() -> None:
    kernel_log = log.KernelLog()
    if not kernel_log.available:
        pytest.skip("/dev/kmsg can't be read: run as root")
    everything = kernel_log.lines()
    assert everything
    assert all(line.startswith(("[", "(lines lost")) for line in everything)
    kernel_log.skip()
    assert len(kernel_log.lines()) < len(everything)
    kernel_log.close()


SMAPS = """\
7f0000000000-7f0000200000 rw-p 00000000 00:00 0
Size:               2048 kB
AnonHugePages:      2048 kB
THPeligible:           1
VmFlags: rd wr mr mw me ac hg
7f0000200000-7f0000201000 r--s 00001000 fd:01 1234                       /tmp/a file: it
Size:                  4 kB
FilePmdMapped:         0 kB
VmFlags: rd mr
7f0000300000-7f0000301000 rw-p 00000000 00:00 0                          [stack]
Size:                  4 kB
VmFlags: rd
"""


def test_smaps_of_a_range() -> None:
    found = mappings.parse_smaps(SMAPS, 0x7F00001FF000, 0x7F0000300000)
    assert [(m.start, m.path) for m in found] == [
        (0x7F0000000000, ""),
        (0x7F0000200000, "/tmp/a file: it"),
    ]
    assert found[0].sizes == {"Size": 2048, "AnonHugePages": 2048}
    assert "hg" in found[0].flags
    assert (found[1].permissions, found[1].offset, found[1].inode) == ("r--s", 0x1000, 1234)
    assert mappings.total(found, "Size") == 2052
    assert mappings.parse_smaps(SMAPS, 0x7F0000201000, 0x7F0000300000) == []


def test_smaps_of_own_memory() -> None:
    memory = Memory(4)
    found = mappings.mappings(memory.address, memory.length)
    assert found[0].start <= memory.address
    assert found[-1].end >= memory.address + memory.length
    assert mappings.total(found, "Rss") >= 4 * PAGE // 1024


def test_a_stuck_process_is_described_with_its_children() -> None:
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.setpgid(0, 0)
        grandchild = os.fork()
        if grandchild == 0:
            signal.pause()
        os.write(writer, str(grandchild).encode())
        signal.pause()
    grandchild = int(os.read(reader, 32))
    try:
        assert stuck.family(pid) == [pid, grandchild]
        text = stuck.stacks([pid, grandchild])
        assert f"process {pid} thread {pid}" in text
        assert f"process {grandchild} thread {grandchild}" in text
        assert "state S" in text
        assert not stuck.running([pid, grandchild])
        assert stuck.running([os.getpid()])
        assert stuck.task_dump([pid], trigger="/nonexistent") is None
    finally:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)
    assert stuck.stacks([pid]) == ""


def test_the_task_dump_asks_for_busy_cpus_only_when_the_process_runs(tmp_path: Path) -> None:
    trigger = tmp_path / "trigger"
    trigger.write_text("")
    assert stuck.task_dump([], trigger=str(trigger)) is not None
    assert trigger.read_text() == "w"
    assert stuck.task_dump([os.getpid()], trigger=str(trigger)) is not None
    assert trigger.read_text() == "l"


def test_entries_are_an_array_of_words() -> None:
    memory = Memory(3)
    words = frames.entries(memory.address, memory.length)
    assert isinstance(words, array)
    assert all(word & PRESENT for word in words)


def test_cma_areas_are_read_off_the_kernels_log() -> None:
    lines = [
        "[    0.000000] cma: Reserved 64 MiB at 0x0000000078000000 on node -1",
        "[    0.000000] cma: Reserved 64 MiB at 0x78000000",
        "[    0.1] cma: Failed to reserve 8 MiB",
    ]
    pages = 64 * 1024 * 1024 // frames.PAGE
    start = 0x78000000 // frames.PAGE
    assert frames.parse_reserved(lines) == [(start, start + pages)] * 2
