# SPDX-License-Identifier: GPL-2.0-or-later
"""Memory runs short, inside a control group that holds the cell's process and nothing else.

Each has a canary: a process outside the group, which must be alive afterwards, and the kernel's
count of processes killed for memory, which must be the group's own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hil.conditions.base import Condition
from hil.memory.base import PAGE, place
from hil.system.cgroup import Group
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.conditions.base import Scene

_WHY = (
    "mm/vmscan.c shrink_folio_list: folio_maybe_dma_pinned, keep; "
    "Documentation/admin-guide/cgroup-v2.rst"
)
_HOLDS = "as steady; and outside of the group nobody is killed"
_SLACK = 4 * mm.MIB


class _Pressure(Condition):
    holds, why = _HOLDS, _WHY
    since = "5.10"

    def enter(self, scene: Scene) -> None:
        self.canary = os.fork()
        if self.canary == 0:
            scene.session.abandon()
            signal.pause()
            os._exit(0)
        self.killed = _killed()
        self.group = Group(scene.bench.guard, f"hil-{os.getppid()}")
        for name in ("memory.high", "memory.max", "memory.swap.max"):
            self.group.limit(name, "max")
        self.events = self.group.events()
        self.group.enter()

    def press(self, scene: Scene) -> None:
        raise NotImplementedError

    def during(self, scene: Scene) -> None:
        try:
            self.press(scene)
        finally:
            for name in ("memory.high", "memory.max", "memory.swap.max"):
                self.group.limit(name, "max")
        events = self.group.events()
        own = events["oom_kill"] - self.events["oom_kill"]
        scene.facts["events"] = {k: v - self.events.get(k, 0) for k, v in events.items() if v}
        scene.check("processes killed outside of the group", _killed() - self.killed - own, 0,
                    verdict="harness-error")  # fmt: skip
        alive = os.waitpid(self.canary, os.WNOHANG)[0] == 0
        scene.check("the canary is alive", alive, True, verdict="harness-error")
        os.kill(self.canary, signal.SIGKILL)
        os.waitpid(self.canary, 0)


class Reclaim(_Pressure):
    name = "cgroup-reclaim"
    summary = "all that can be had is reclaimed from the cell's control group (memory.reclaim)"
    since = "5.19"

    def press(self, scene: Scene) -> None:
        try:
            self.group.limit("memory.reclaim", self.group.current())
        except OSError as error:  # EAGAIN: not all of it could be had
            scene.facts["memory.reclaim"] = error.strerror


class High(_Pressure):
    name = "cgroup-high"
    slow = True
    summary = "memory.high below what the control group uses, and a process in it that takes more"

    def press(self, scene: Scene) -> None:
        hog = Hog(scene, 4 * mm.MIB, 0.1)
        self.group.limit("memory.high", max(self.group.current() - mm.MIB, mm.MIB))
        scene.facts["hog"] = hog.run()


class SwapStorm(_Pressure):
    name = "swap-storm"
    summary = "a process in the control group goes round through more memory than memory.high"
    slow = True

    def press(self, scene: Scene) -> None:
        hog = Hog(scene, 12 * mm.MIB, 0.4)
        self.group.limit("memory.swap.max", 32 * mm.MIB)
        self.group.limit("memory.high", self.group.current() + _SLACK)
        scene.facts["hog"] = hog.run()


class OutOfMemory(_Pressure):
    name = "cgroup-oom"
    summary = "a process in the control group takes more than memory.max and is killed for it"
    holds = f"the one that took the memory is killed, the pinning process lives; {_HOLDS}"
    why = f"mm/oom_kill.c oom_badness, mem_cgroup_out_of_memory; {_WHY}"

    def press(self, scene: Scene) -> None:
        Path("/proc/self/oom_score_adj").write_text("-900")
        hog = Hog(scene, 64 * mm.MIB, 5.0)
        self.group.limit("memory.swap.max", 0)
        self.group.limit("memory.max", self.group.current() + _SLACK)
        ended = hog.run()
        scene.check("the process that took the memory", ended, "signal 9", verdict="harness-error")
        Path("/proc/self/oom_score_adj").write_text("0")


class Hog:
    """A child that touches ``size`` bytes, round and round for some seconds, once it is told to.

    It is there, and the first to be killed for memory, before the limits are.
    """

    def __init__(self, scene: Scene, size: int, seconds: float) -> None:
        self._seconds = seconds
        go, self._go = os.pipe2(os.O_CLOEXEC)
        ready, told = os.pipe2(os.O_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                scene.session.abandon()
                Path("/proc/self/oom_score_adj").write_text("1000")
                os.write(told, b".")
                os.read(go, 1)
                _touch(size, seconds)
            finally:
                os._exit(0)
        os.close(go)
        os.close(told)
        os.read(ready, 1)
        os.close(ready)

    def run(self) -> str:
        """Have it begin, and wait for its end: how it came to it."""
        os.write(self._go, b".")
        limit = time.monotonic() + self._seconds + 3.0
        while time.monotonic() < limit:
            gone, status = os.waitpid(self._pid, os.WNOHANG)
            if gone:
                break
            time.sleep(0.01)
        else:  # throttled: it sleeps in the kernel, killably
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            return "killed when its time was over"
        return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "its time was over"


def _touch(size: int, seconds: float) -> None:
    address = place(size)
    mm.madvise(address, size, mm.MADV_NOHUGEPAGE)
    until = time.monotonic() + seconds
    while time.monotonic() < until:  # one round at the least
        for page in range(address, address + size, PAGE):
            ctypes.memset(page, 1, 1)


def _killed() -> int:
    """Processes that the kernel has killed for want of memory, on the whole machine."""
    for line in Path("/proc/vmstat").read_text().splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


PRESSURE: tuple[type[Condition], ...] = (Reclaim, High, SwapStorm, OutOfMemory)
