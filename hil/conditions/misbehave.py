# SPDX-License-Identifier: GPL-2.0-or-later
"""Cells that go wrong on purpose: what the lab itself is tested with.

A board names them (``[suite] conditions``); nothing else runs them.  They take the machine down or
leave it unusable, so they belong on a virtual board.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hil.conditions.base import Condition
from hil.errors import NotApplicableError

if TYPE_CHECKING:
    from hil.conditions.base import Scene

_FIFREEZE = 0xC0045877  # _IOWR('X', 119, int), include/uapi/linux/fs.h
_FREEZABLE = ("ext4", "xfs")


class _OnDemand(Condition):
    only_on_demand = True
    classes = ("*",)
    everywhere = True


class Spin(_OnDemand):
    """SIGKILL ends it."""

    name = "spin"
    summary = "the process spins in user space and never comes back"

    def during(self, scene: Scene) -> None:
        while True:
            pass


class Stuck(_OnDemand):
    """Writing to a frozen file system waits uninterruptibly (fs/super.c: sb_wait_write)."""

    name = "stuck"
    summary = "the process sleeps uninterruptibly: no signal ends it"

    def before(self, scene: Scene) -> None:
        _scratch_mount()

    def during(self, scene: Scene) -> None:
        import fcntl

        mount = _scratch_mount()
        file = os.open(mount / "stuck", os.O_CREAT | os.O_WRONLY)
        folder = os.open(mount, os.O_RDONLY)
        fcntl.ioctl(folder, _FIFREEZE, 0)
        os.write(file, b"x")


class Panic(_OnDemand):
    """Documentation/admin-guide/sysrq.rst, key c."""

    name = "panic"
    summary = "the kernel panics"

    def during(self, scene: Scene) -> None:
        _sysrq("c")


class Vanish(_OnDemand):
    """Documentation/admin-guide/sysrq.rst, key b."""

    name = "vanish"
    summary = "the machine resets without a word"

    def during(self, scene: Scene) -> None:
        _sysrq("b")


class Freeze(_OnDemand):
    """A real-time process on every CPU, and nothing that keeps a share for the others.

    Documentation/scheduler/sched-rt-group.rst; since 6.12 the fair server gives ordinary processes
    a share (557a6bfc662c sched/fair: Add trivial fair server).
    """

    name = "freeze"
    summary = "no other process gets a CPU any more: the machine answers nobody"

    def during(self, scene: Scene) -> None:
        first, *others = sorted(os.sched_getaffinity(0))
        for cpu in (first, *others):  # a CPU that is offline gives EBUSY
            file = Path(f"/sys/kernel/debug/sched/fair_server/cpu{cpu}/runtime")
            if file.exists():
                file.write_text("0")
        Path("/proc/sys/kernel/sched_rt_runtime_us").write_text("-1")
        for cpu in others:
            if os.fork() == 0:
                _spin_real_time(cpu)
        _spin_real_time(first)


class Exit(_OnDemand):
    """As a bug of the suite would be."""

    name = "exit"
    summary = "the cell's process ends without a word"

    def during(self, scene: Scene) -> None:
        os._exit(3)


class Segfault(_OnDemand):
    """As a bug in a library would be."""

    name = "segfault"
    summary = "the cell's process dies of a signal"

    def during(self, scene: Scene) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class SuiteDies(_OnDemand):
    """As the kernel does it when memory runs out."""

    name = "suite-dies"
    summary = "the suite itself is killed, the machine lives"

    def during(self, scene: Scene) -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)


MISBEHAVING: tuple[type[Condition], ...] = (
    Spin, Stuck, Panic, Vanish, Freeze, Exit, Segfault, SuiteDies,
)  # fmt: skip


def _sysrq(key: str) -> None:
    Path("/proc/sysrq-trigger").write_text(key)
    time.sleep(60)  # a reset may take a moment


def _spin_real_time(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
    while True:
        pass


def _scratch_mount() -> Path:
    """A file system below /mnt: one that the system itself needs must not be frozen."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind in _FREEZABLE and place.startswith("/mnt/"):
            return Path(place)
    raise NotApplicableError(f"no file system of {', '.join(_FREEZABLE)} is mounted below /mnt")
