# SPDX-License-Identifier: GPL-2.0-or-later
"""Something happens to the memory at the same time as the pin, again and again.

A thread does it while the call under test is in the kernel.  Every turn pins, lets go and counts.
How long each side waits comes from a random number generator whose seed is in the evidence;
``--seed`` makes a run with another one.  The last turn has nobody in its way: it is the cell's pin.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from errno import errorcode
from typing import TYPE_CHECKING

from hil.conditions.base import Condition, tried
from hil.conditions.mapping import whole
from hil.conditions.migrate import addresses, other_node
from hil.memory.base import fill
from hil.uapi import access, mm

if TYPE_CHECKING:
    from hil.conditions.base import Scene
    from hil.pinners.base import PinResult

_TURNS = 6
_SECONDS = 0.3
_WAIT = 0.001
_WHY = "mm/gup.c: pages are taken one by one under the mmap lock or with interrupts off (fast)"


class _Race(Condition):
    holds = "the call takes the memory or gives an errno; no turn leaves a pin behind"
    why = _WHY
    allowed: tuple[str, ...] = ()
    """Errnos that the call may give besides success."""

    def meddle(self, scene: Scene) -> None:
        """What the thread does."""
        raise NotImplementedError

    def mend(self, scene: Scene) -> None:
        """Have the memory as it was, for the next turn."""

    def pin(self, scene: Scene) -> PinResult:
        session, answers = scene.session, Counter[int]()
        session.free()  # a driver that can't is no matter for turns, whatever the thread does
        session.renew()
        until = time.monotonic() + _SECONDS
        left = 0
        for _turn in range(_TURNS):
            if time.monotonic() > until:
                break
            first, second = scene.random.uniform(0, _WAIT), scene.random.uniform(0, _WAIT)
            thread = threading.Thread(target=self._after, args=(scene, second))
            thread.start()
            time.sleep(first)
            result = session.pin(scene.buffer)
            thread.join()
            answers[result.errno] += 1
            session.stop()
            session.free()
            left += abs(scene.held())
            session.renew()
            self.mend(scene)
        told = {errorcode.get(errno, "accepted"): count for errno, count in answers.items()}
        scene.facts |= {"seed": scene.bench.seed, "answers": told}
        seed = f"--seed {scene.bench.seed}"
        scene.check(f"pins that a turn left behind ({seed})", left, 0, verdict="leak")
        for errno in answers:
            scene.check_raced(f"the call ({seed})", errno, *self.allowed)
        return session.pin(scene.buffer)

    def _after(self, scene: Scene, seconds: float) -> None:
        time.sleep(seconds)
        self.meddle(scene)


class RaceUnmap(_Race):
    name = "race-munmap"
    summary = "munmap of the whole buffer while it is pinned; then anonymous memory is mapped there"
    allowed = ("EFAULT",)

    def meddle(self, scene: Scene) -> None:
        mm.munmap(*whole(scene))

    def mend(self, scene: Scene) -> None:
        address, length = whole(scene)
        flags = mm.MAP_PRIVATE | mm.MAP_ANONYMOUS | mm.MAP_FIXED
        mm.mmap(length, flags=flags, address=address)
        fill(address, length)


class RaceProtect(_Race):
    name = "race-mprotect"
    slow = True
    summary = "mprotect to nothing and back while it is pinned"
    allowed = ("EFAULT",)

    def meddle(self, scene: Scene) -> None:
        mm.mprotect(*whole(scene), mm.PROT_NONE)

    def mend(self, scene: Scene) -> None:
        mm.mprotect(*whole(scene), mm.PROT_RW)


class RaceFork(_Race):
    name = "race-fork"
    summary = "fork while it is pinned; the child exits at once"
    why = f"57efa1fe5957 (5.11, 5.10.4): fork against GUP-fast; {_WHY}"

    def meddle(self, scene: Scene) -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)


class RaceDontNeed(_Race):
    name = "race-dontneed"
    summary = "MADV_DONTNEED while it is pinned"

    def meddle(self, scene: Scene) -> None:
        tried(mm.madvise, *whole(scene), mm.MADV_DONTNEED)


class RaceMigrate(_Race):
    name = "race-migrate"
    slow = True
    summary = "move_pages to another node, and back, while it is pinned"
    why = f"mm/gup.c gup_fast_pte_range: the entry is checked again after the pin; {_WHY}"

    def before(self, scene: Scene) -> None:
        self.nodes = [other_node(scene)]

    def meddle(self, scene: Scene) -> None:
        mm.move_pages(addresses(scene), self.nodes[-1])

    def mend(self, scene: Scene) -> None:
        self.nodes.append(other_node(scene))


class RaceSecondPinner(_Race):
    name = "race-second-pinner"
    slow = True
    summary = "process_vm_readv, which pins what it reads, of the same pages while they are pinned"
    why = f"mm/process_vm_access.c pin_user_pages_remote; {_WHY}"

    def meddle(self, scene: Scene) -> None:
        address, length = whole(scene)
        access.pin_shortly(address, min(length, scene.session.length))


RACES: tuple[type[Condition], ...] = (
    RaceUnmap, RaceProtect, RaceFork, RaceDontNeed, RaceMigrate, RaceSecondPinner,
)  # fmt: skip
