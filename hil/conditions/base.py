# SPDX-License-Identifier: GPL-2.0-or-later
"""What a condition is: what happens to the memory, its process or its machine around a pin.

A condition is one class in the file of its family.  It says what it does, what must hold and on
whose word, and overrides the moments that it needs.  All moments run in the cell's own process, in
this order: ``enter`` (before the memory is made), ``before`` the call under test, the call itself
(``pin``), ``during`` the pin, ``verify`` when data has gone through the device, ``end`` of life,
``after`` it.  NotApplicableError where this machine can't do it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from errno import errorcode
from typing import TYPE_CHECKING, Any

from hil.evidence import counters, frames
from hil.memory import proof
from hil.memory.base import PAGE
from hil.system import release

if TYPE_CHECKING:
    from array import array

    from hil.cells import Cell
    from hil.evidence.counters import Pins
    from hil.memory.base import Buffer
    from hil.memory.bench import Bench
    from hil.pinners.base import Pinner, PinResult, Session

MAIN = ("anonymous", "thp", "hugetlb-2m-private", "memfd", "ext4-private-untouched")
"""The memory classes that every condition meets, where nothing else is said."""

GRACE = 0.2
"""Seconds that pins may take to go after the end of life."""

SAME, LOST = "same", "lost"
"""What becomes of the data: device and process see the same bytes, or the device keeps the old
pages and the process has others."""


class Scene:
    """One cell, as its condition sees it, and what the condition has to say of it."""

    def __init__(self, cell: Cell, driver: str, session: Session, bench: Bench) -> None:
        self.cell, self.driver, self.session, self.bench = cell, driver, session, bench
        self.buffer: Buffer
        self.base: Pins | None = None
        """The pin counters right before the call under test."""
        self.held_first = 0
        """Pins that were held right after the call, with those of the session's other memory."""
        self.extra_first = 0
        """How many pages that other memory had then."""
        self.theirs: array[int] | None = None
        """The pagemap words of what was pinned, where that is another process's mapping."""
        self.pinned_pages = 0
        """How many pins there must be while the driver has the buffer."""
        self.arrived = b""
        """What the process saw in the buffer when the device had filled it."""
        self.data = SAME
        self.frames_stay = True
        self.answer: dict[str, Any] | None = None
        self.facts: dict[str, object] = {}
        self.checks: list[dict[str, Any]] = []
        self.random = random.Random(f"{bench.seed}/{cell.id}")
        self._shared: bool | None = None

    @property
    def shared(self) -> bool:
        """Whether the buffer's mapping is MAP_SHARED; asked first while it is still there."""
        if self._shared is None:
            self._shared = str(proof.smaps(self.buffer.address).get("Perms", ""))[3:] == "s"
        return self._shared

    def lost(self) -> None:
        """The process has other pages now, or none: what the device does it does to the old."""
        self.data, self.frames_stay = LOST, False

    def like(self, memory: str) -> None:
        """The call must answer as the rules say of another memory class."""
        self.answer = {"like": memory}

    def refuse(self, *errnos: str, because: str, or_accept: bool = False) -> None:
        """The call must be refused with one of ``errnos``, or may be."""
        self.answer = {"errnos": list(errnos), "accept": or_accept, "because": because}

    def check(self, what: str, gave: object, *expected: object, verdict: str = "not-held") -> None:
        """Something that must be so; ``verdict`` is what the cell comes to where it is not."""
        self.checks.append(
            {"what": what, "gave": gave, "expected": list(expected), "verdict": verdict}
        )

    def check_call(self, what: str, errno: int, buffer: Buffer) -> None:
        """A further call, with ordinary memory of its own, must answer as the rules say of that."""
        words = frames.entries(buffer.address, buffer.length)
        number = words[0] & frames.FRAME_MASK if words else 0
        self._check_ruled(
            what, errno, "anonymous", [], "wrongly-refused",
            scattered=not frames.neighbours(words), above_4g=number >= frames.FOUR_GIB,
            unaligned=bool(buffer.address % PAGE), movable=False, pfnmap=False,
        )  # fmt: skip

    def check_raced(self, what: str, errno: int, *allowed: str) -> None:
        """A call may take the memory, or give ``allowed``, or what it gives of scattered pages."""
        words = ["accepted", *allowed]
        self._check_ruled(what, errno, self.cell.memory, words, "wrong-errno", scattered=True)

    def _check_ruled(
        self, what: str, errno: int, memory: str, words: list[str], verdict: str, **facts: object
    ) -> None:
        gave = errorcode.get(errno, str(errno)) if errno else "accepted"
        rule = {"memory": memory, "facts": facts}
        self.checks.append(
            {"what": what, "gave": gave, "expected": words, "verdict": verdict, "rule": rule}
        )

    def held(self) -> int:
        """Pins that are held now, of those that came since right before the call."""
        assert self.base is not None
        return counters.pins().since(self.base).live

    def check_held(self, when: str, expected: int) -> None:
        """So many pins must be held: more are a leak, fewer have gone too early."""
        held = self.held()
        verdict = "leak" if held > expected else "miscounted"
        self.check(f"pins held {when}", held, expected, verdict=verdict)

    def evidence(self) -> dict[str, Any]:
        """For the journal."""
        return {
            "data": self.data,
            "frames_stay": self.frames_stay,
            "answer": self.answer,
            "facts": self.facts,
            "checks": self.checks,
        }


class Condition:
    """One thing that may happen; a subclass overrides the moments that it needs."""

    name: str
    """The last part of a cell's id."""
    summary: str
    """What it does to the machine, the process or the memory."""
    holds = "as steady: pinned once a page, no page moves, device and process see the same bytes"
    """What must hold."""
    why = ""
    """On whose word: file and function of the kernel, commits."""
    since = "5.10"
    """The first kernel that has it."""
    classes: tuple[str, ...] = MAIN
    """Patterns of the memory classes that it meets."""
    alone = True
    """Its cells have a process each, which ends with them: forks, signals and limits need it."""
    may_lose = False
    """Whether the process may come to other pages by it."""
    everywhere = False
    """Whether it meets every pinner, and all of them in a short run too."""
    slow = False
    destructive = False
    """It may harm the machine: runs last, on virtual boards, elsewhere with --destructive."""
    has_control = True
    """Whether the control can go through the same: it has neither a node nor a queue."""
    only_on_demand = False
    """True for those that run only where a board names them."""

    def meets(self, memory: str) -> bool:
        """Whether it is tried with this memory class."""
        if memory in self.classes or "*" in self.classes:
            return True
        from fnmatch import fnmatchcase

        return any("*" in pattern and fnmatchcase(memory, pattern) for pattern in self.classes)

    def concerns(self, pinner: Pinner) -> bool:
        """Whether it is tried with this pinner."""
        return self.everywhere or pinner.meets_conditions

    def applies(self) -> str:
        """Why this kernel can't have it; empty when it can."""
        point = release.parse(self.since)
        running = release.running()
        return "" if release.reached([point], running) else f"needs Linux {self.since}"

    def enter(self, scene: Scene) -> None:
        """Before the memory is made: for what the process must be in."""

    def before(self, scene: Scene) -> None:
        """Prepare, before the counters are read and the buffer is pinned."""

    def pin(self, scene: Scene) -> PinResult:
        """The call under test."""
        return scene.session.pin(scene.buffer)

    def during(self, scene: Scene) -> None:
        """Do it, when the driver has accepted the buffer."""

    def verify(self, scene: Scene) -> None:
        """When data has gone through the device."""

    def end(self, scene: Scene) -> None:
        """The end of life of an accepted buffer."""
        scene.session.release()

    def after(self, scene: Scene) -> None:
        """When the pins have gone, or should have."""


def write_all(fd: int, data: bytes) -> None:
    """Write to a pipe all that there is, however little it takes at a time."""
    while data:
        data = data[os.write(fd, data) :]


def tried(call: Callable[..., object], *arguments: object) -> str:
    """The errno's name that a call gave; "0" where it succeeded."""
    try:
        call(*arguments)
    except OSError as error:
        return errorcode.get(error.errno or 0, str(error.errno))
    return "0"
