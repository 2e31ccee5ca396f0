# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel log and the taint word.

/dev/kmsg as Documentation/ABI/testing/dev-kmsg has it: one record a read, written by the kernel the
moment it prints, so that a slice needs no waiting.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_BAD = (
    "WARNING:",
    "BUG:",
    "kernel BUG at",
    "Oops",
    "general protection fault",
    "Unable to handle kernel",
    "Internal error:",
    "refcount_t:",
    "Bad page",
    "Bad rss-counter",
    "blocked for more than",
    "possible circular locking",
    "possible recursive locking",
    "possible irq lock inversion",
    "possible deadlock",
    "inconsistent lock state",
    "suspicious RCU usage",
    "bad unlock balance",
    "self-detected stall",
    "detected stalls on CPU",
    "soft lockup",
    "hard LOCKUP",
    "Kernel panic",
    "UBSAN:",
    "DMA-API:",
    "new suspected memory leaks",
    "list_add corruption",
    "list_del corruption",
    "nobody cared",
    "scheduling while atomic",
)
"""What a kernel with a fault prints: lib/, mm/, kernel/locking and kernel/rcu."""

TAINTS: tuple[tuple[str, str], ...] = (
    ("P", "proprietary module"),
    ("F", "module loaded by force"),
    ("S", "out of the kernel's specification"),
    ("R", "module unloaded by force"),
    ("M", "machine check"),
    ("B", "bad page"),
    ("U", "user space asked for it"),
    ("D", "died: oops or BUG"),
    ("A", "ACPI table overridden"),
    ("W", "warning"),
    ("C", "staging driver"),
    ("I", "firmware workaround"),
    ("O", "out-of-tree module"),
    ("E", "unsigned module"),
    ("L", "soft lockup"),
    ("K", "live patch"),
    ("X", "distribution's own"),
    ("T", "randomised structures"),
    ("N", "in-kernel test"),
    ("J", "fwctl"),
)
"""Letter and meaning of each taint bit (Documentation/admin-guide/tainted-kernels.rst)."""

_tainted = -1


def taint() -> int:
    """The taint word of this moment."""
    global _tainted  # noqa: PLW0603
    if _tainted < 0:
        _tainted = os.open("/proc/sys/kernel/tainted", os.O_RDONLY | os.O_CLOEXEC)
    return int(os.pread(_tainted, 32, 0))


def taint_names(word: int) -> list[str]:
    """The set bits in words: ["W: warning"]."""
    names = [f"{letter}: {what}" for bit, (letter, what) in enumerate(TAINTS) if word >> bit & 1]
    rest = word >> len(TAINTS) << len(TAINTS)
    return [*names, f"unknown bits {rest:#x}"] if rest else names


def parse_record(record: bytes) -> str | None:
    """A /dev/kmsg record as dmesg prints it; None for what user space wrote there."""
    head, _, text = record.partition(b";")
    fields = head.split(b",")
    if int(fields[0]) >> 3:  # the facility: 0 is the kernel
        return None
    stamp = int(fields[2])
    line = text.split(b"\n", 1)[0].decode("utf-8", "replace")
    return f"[{stamp // 1000000:5d}.{stamp % 1000000:06d}] {line}"


class KernelLog:
    """A reading position in the kernel log.

    ``available`` is False where /dev/kmsg can't be read; then every slice is empty.
    """

    def __init__(self, path: str = "/dev/kmsg") -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._fd = -1
        self.available = self._fd >= 0

    def skip(self) -> None:
        """Go to the end: what is there now is not part of the next slice."""
        if self._fd >= 0:
            os.lseek(self._fd, 0, os.SEEK_END)

    def lines(self, limit: int = 2000) -> list[str]:
        """The kernel's lines since the last call or ``skip``, at most ``limit``; never waits."""
        found: list[str] = []
        if self._fd < 0:
            return found
        while len(found) < limit:
            try:
                record = os.read(self._fd, 8192)
            except BlockingIOError:
                break
            except BrokenPipeError:
                found.append("(lines lost: the log buffer was overwritten)")
                continue
            except OSError:
                break
            if not record:
                break
            line = parse_record(record)
            if line is not None:
                found.append(line)
        return found

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def warnings(lines: Iterable[str]) -> list[str]:
    """The lines that tell of a fault in the kernel: WARNING, BUG, oops, stall, lockdep, ..."""
    return [line for line in lines if any(mark in line for mark in _BAD)]


REARM = Path("/sys/kernel/debug/clear_warn_once")


def rearm() -> bool:
    """Have the kernel warn again of what it warns of once a boot; False where it can't be told to.

    kernel/panic.c clear_warn_once_set: all of WARN_ONCE, since 4.16.
    """
    try:
        REARM.write_text("1")
    except OSError:
        return False
    return True
