# SPDX-License-Identifier: GPL-2.0-or-later
"""What a cell's child does: open, make, pin, look, release, look again.

The condition's moments are in between.  It runs in a child process and says in which stage.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable
from errno import EDEADLK, EOPNOTSUPP, errorcode
from typing import TYPE_CHECKING, Any, NamedTuple

from hil.conditions.base import GRACE, LOST, Scene
from hil.errors import NotApplicableError
from hil.evidence import counters, data, frames
from hil.evidence.counters import Pins
from hil.runs import child
from hil.uapi import mm

if TYPE_CHECKING:
    from hil.cells import Cell
    from hil.conditions.base import Condition
    from hil.evidence.answers import Answers
    from hil.evidence.pincalls import PinCalls
    from hil.memory.base import Buffer, MemoryClass
    from hil.memory.bench import Bench
    from hil.pinners.base import Pinner, Session, Transfer

Evidence = dict[str, Any]

STAGES = ("open", "make", "before", "pin", "during", "hold", "release", "after", "done")
OPEN, MAKE, BEFORE, PIN, DURING, HOLD, RELEASE, AFTER, DONE = range(len(STAGES))


_NARROW: dict[str, object] = {"narrow": True} if mm.WORD_BITS == 32 else {}


class Act(NamedTuple):
    """One cell, to be run in a child that may have run others before."""

    cell: Cell
    pinner: Pinner
    memory_class: MemoryClass
    condition: Condition
    bench: Bench
    calls: PinCalls | None = None
    answers: Answers | None = None
    refuses: Callable[[Evidence], bool] | None = None
    """Whether a call that accepted should have refused, by the evidence so far."""

    def run(self, board: child.Board) -> Evidence:
        """All stages; what is known before the pin goes out early, the rest is returned."""
        condition = self.condition
        session: Session | None = None
        late: Evidence = {}
        self.bench.busy_node = self.pinner.node
        try:
            if reason := condition.applies():
                raise NotApplicableError(reason)
            board.stage = OPEN
            session = self.pinner.open(self.cell.direction)
            scene = Scene(self.cell, self.pinner.driver, session, self.bench)
            board.stage = MAKE
            condition.enter(scene)
            buffer = self.memory_class.make(self.bench, session.length, self.cell.direction)
            scene.buffer = buffer
            board.stage = BEFORE
            condition.before(scene)
            before = scene.base = counters.pins()
            early = _before(self.pinner, session, buffer, before)
            board.write(early, early=True)
            board.stage = PIN
            accepted = self.pin(board, scene, early, late)
            board.stage = RELEASE
            if accepted:
                condition.end(scene)
            else:
                session.release()
            board.stage = AFTER
            late["pins"]["after"] = settled(before).as_dict()
            if accepted:
                condition.after(scene)
            late["frames"]["after"] = frames.describe(buffer.view, buffer.length)
            late["hugepages"]["after"] = counters.hugepages()
            buffer.close()
            late["condition"] = scene.evidence()
            board.stage = DONE
        except BaseException as error:
            late["setup"] = (
                {"not_applicable": error.reason}
                if isinstance(error, NotApplicableError)
                else {"error": child.told(error)}
            )
            if session is not None:
                try:
                    session.release()  # a format that was changed is put back
                except OSError as second:
                    late["setup"]["release"] = child.told(second)
        return late

    def pin(self, board: child.Board, scene: Scene, early: Evidence, late: Evidence) -> bool:
        """The call under test, a look while it holds, the condition, a second pin if need be.

        The device is not set on memory that should have been refused: it may be anybody's.
        """
        before: Pins = early["base"]
        buffer, session, condition = scene.buffer, scene.session, self.condition
        began = time.perf_counter()
        result = condition.pin(scene)
        late["seconds"] = {"pin": round(time.perf_counter() - began, 6)}
        board.stage = DURING
        late["call"] = result.call
        late["errno"] = name(result.errno)
        late["companion_pages"] = result.companion_pages
        during = counters.pins()
        pinned = scene.theirs or frames.entries(buffer.address, buffer.length)
        late["pins"] = {"during": during.since(before).as_dict()}
        late["frames"] = {"during": frames.describe(buffer.address, buffer.length, pinned)}
        late["hugepages"] = {"during": counters.hugepages()}
        if self.calls is not None:
            late["pin_calls"] = [call.as_dict() for call in self.calls.seen(os.getpid())]
        if self.answers is not None:
            late["answered"] = self.answers.seen(os.getpid())
        if result.errno:
            return False
        buffer.pinned = pinned
        scene.pinned_pages = buffer.pages
        scene.held_first = during.since(before).live
        scene.extra_first = session.extra_pages
        late["unsuitable_pages"] = frames.unsuitable(pinned)
        board.stage = HOLD
        so_far = {**early, **late, "condition": scene.evidence()}
        if self.refuses is not None and self.refuses(so_far):
            late["data"] = {"unproven": "it should have been refused: no data was sent through it"}
            return True
        old = _seen(scene) if condition.may_lose else b""
        condition.during(scene)
        late["data"] = _through_the_device(scene, old)
        condition.verify(scene)
        if buffer.settle is not None:
            session.stop()
            buffer.settle()
            base = counters.pins()
            second = session.pin(buffer)
            present = frames.entries(buffer.address, buffer.length)
            late["second_pin"] = {
                "errno": name(second.errno),
                "acquired": counters.pins().since(base).acquired,
                "changed_frames": moved_pages(pinned, present),
            }
            pinned = present
        late["moved_pages"] = moved_pages(pinned, frames.entries(buffer.view, buffer.length))
        return True


def _through_the_device(scene: Scene, old: bytes) -> Evidence | None:
    """Whether the bytes arrive; None where this driver cannot prove it.

    ``old`` is what was in the buffer before a condition that gives the process other pages.
    """
    session, buffer = scene.session, scene.buffer
    around = data.Surroundings(buffer) if scene.data != LOST else None
    try:
        moved = session.transfer(buffer)
    except OSError as error:
        return {"failed": f"{name(error.errno or 0)}: {error.strerror}"}
    except NotApplicableError as error:
        return {"unproven": error.reason}
    if moved is None:
        return None
    if scene.data == LOST:
        return {"how": moved.how, "kept_old_pages": _kept_old(scene, moved, old)}
    if not moved.known and not moved.sent:
        return {"unproven": "the process can't look at what the device has read"}
    found = {"how": moved.how, **data.through(moved)}
    if around is not None and (changed := around.changed()):
        found["guard_bytes"] = changed
    if scene.cell.direction == "capture":
        scene.arrived = moved.arrived
    return found


def _kept_old(scene: Scene, moved: Transfer, old: bytes) -> bool:
    """Whether the device went on with the pages that the process has no longer."""
    if scene.cell.direction == "capture":
        # Nothing of the frame is to be seen: the process has what it wrote itself.
        return moved.arrived[: len(moved.before)] == moved.before != b""
    return moved.arrived[: len(old)] == old[: len(moved.arrived)] != b""


def _seen(scene: Scene) -> bytes:
    try:
        return scene.buffer.read(min(scene.buffer.length, scene.session.length))
    except OSError:
        return b""


def _before(pinner: Pinner, session: Session, buffer: Buffer, before: Pins) -> Evidence:
    """What is known when the pin is about to be made."""
    return {
        "base": before,
        "call": session.call,
        "buffer": {
            "address": hex(buffer.address),
            "length": buffer.length,
            "pages": buffer.pages,
            "companion_pages": 0,
            "proof": buffer.proof,
            "facts": {**_NARROW, **buffer.facts, **pinner.facts(buffer)},
        },
        "pins": {"before": Pins(0, 0).as_dict()},
        "frames": {"before": frames.describe(buffer.address, buffer.length)},
        "hugepages": {"before": counters.hugepages()},
    }


def moved_pages(one: array[int], other: array[int]) -> int:
    """Pages that are present in both pagemap readings, but at different frames."""
    if one.tobytes() == other.tobytes():
        return 0
    both, mask = frames.PRESENT, frames.FRAME_MASK
    return sum(1 for a, b in zip(one, other, strict=False) if a & b & both and (a ^ b) & mask)


def settled(before: Pins) -> Pins:
    """The pins since ``before`` once none is live, or after a grace time."""
    until = time.monotonic() + GRACE
    while (found := counters.pins().since(before)).live and time.monotonic() < until:
        time.sleep(0.01)
    return found


# Two names for one number: the ones that the kernel's sources use.
_NAMES = {**errorcode, EOPNOTSUPP: "EOPNOTSUPP", EDEADLK: "EDEADLK"}


def name(errno: int) -> str | None:
    return _NAMES.get(errno, str(errno)) if errno else None
