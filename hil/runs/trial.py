# SPDX-License-Identifier: GPL-2.0-or-later
"""One cell: what comes out is evidence, never an opinion.

The cell's child opens, makes, pins, looks, releases and looks again, and notes which stage it is
in, so that a hang or a death tells how far it came.  What might block the parent (reading the stack
of a stuck process, counting pins on a machine whose CPU spins in the kernel) is done in helper
processes that are given up after a while.
"""

from __future__ import annotations

import gc
import time
from array import array
from errno import EDEADLK, EOPNOTSUPP, errorcode
from typing import TYPE_CHECKING, Any, NamedTuple

from hil.errors import NotApplicableError
from hil.evidence import counters, data, frames, log, stuck
from hil.evidence.counters import Pins
from hil.runs import child

if TYPE_CHECKING:
    from hil.cells import Cell
    from hil.conditions.base import Condition
    from hil.memory.base import Buffer, MemoryClass
    from hil.memory.bench import Bench
    from hil.pinners.base import Pinner, Session

Evidence = dict[str, Any]

STAGES = ("open", "make", "before", "pin", "during", "hold", "release", "after", "done")
OPEN, MAKE, BEFORE, PIN, DURING, HOLD, RELEASE, AFTER, DONE = range(len(STAGES))

GRACE = 0.2
"""Seconds that pins may take to go after the end of life."""
ASIDE_WAIT = 3.0
"""Seconds that a helper process may take."""

_board: child.Board | None = None
_log: log.KernelLog | None = None


def ready() -> tuple[child.Board, log.KernelLog]:
    """What is opened once for all cells."""
    global _board, _log  # noqa: PLW0603
    if _log is None:
        _log = log.KernelLog()
        _rehearse()
        # What the collector never looks at again stays shared with every child.
        gc.collect()
        gc.freeze()
    if _board is None:
        _board = child.Board()
    _board.clear()
    return _board, _log


def _rehearse() -> None:
    """Look once at nothing, so that no child has to open and import for itself.

    It saves a child a hundred page faults, a quarter of its time.
    """
    board = child.Board()
    here = frames.PAGE * (id(board) // frames.PAGE)
    pins = counters.pins()
    frames.unsuitable(frames.entries(here, frames.PAGE))
    look = frames.describe(here, frames.PAGE)
    board.write({"pins": pins.since(pins).as_dict(), "frames": look}, early=True)
    board.write({"hugepages": counters.hugepages()})
    board.read()
    board.close()


def run(
    cell: Cell,
    pinner: Pinner,
    memory_class: MemoryClass,
    condition: Condition,
    bench: Bench,
    *,
    deadline: float,
) -> Evidence:
    """Run one cell and return its evidence, after ``deadline`` and some ten seconds at the latest.

    The dictionary can be written as JSON.  ``errno`` null means accepted once ``stage`` is past
    ``pin``.  ``setup`` has an error when the cell could not be put up or the suite itself failed:
    nothing that the kernel does raises.  When ``child.killed`` is false, the child is still there
    with what it holds, and this machine is no place for another cell.
    """
    global _board  # noqa: PLW0603
    board, kernel_log = ready()
    kernel_log.skip()
    taint = log.taint()
    began = time.monotonic()
    lines: list[str] = []
    stack: str | None = None
    tasks: str | None = None

    def on_hang(pid: int) -> None:
        nonlocal stack, tasks
        lines.extend(kernel_log.lines())
        found = child.aside(lambda: _post_mortem(pid), ASIDE_WAIT) or {}
        stack, tasks = found.get("stack"), found.get("tasks")
        kernel_log.skip()  # the task dump is no part of the log slice

    trial = _Trial(board, cell, pinner, memory_class, condition, bench)
    end = child.run(board, trial.run, deadline, on_hang)
    early, late = board.read()
    evidence = _merge(STAGES[board.stage], early, late)
    if not late:
        _without_child(evidence, early, end)
    if end.killed is False:
        # It may still write when its call comes back.
        board.close()
        _board = None
    lines += kernel_log.lines()
    evidence["log"] = lines
    evidence["taint"] = {"before": taint, "after": log.taint()}
    evidence["seconds"]["wall"] = round(time.monotonic() - began, 6)
    evidence["seconds"]["system"] = end.system
    evidence["child"] = {
        "hung": end.hung,
        "signal": end.signal,
        "exit": end.exit,
        "stack": stack,
        "tasks": tasks,
        "killed": end.killed,
    }
    return evidence


def _merge(stage: str, early: Evidence, late: Evidence) -> Evidence:
    """The evidence of one cell with every key that it must have."""
    evidence: Evidence = {
        "stage": stage,
        "setup": None,
        "call": None,
        "errno": None,
        "buffer": None,
        "pins": {},
        "frames": {},
        "moved_pages": 0,
        "unsuitable_pages": 0,
        "second_pin": None,
        "hugepages": {},
        "data": None,
        "note": None,
        "seconds": {},
    }
    for part in (early, late):
        for key, value in part.items():
            if key in ("pins", "frames", "hugepages", "seconds"):
                evidence[key].update(value)
            elif key == "companion_pages":
                evidence["buffer"][key] = value
            elif key != "base":
                evidence[key] = value
    return evidence


def _without_child(evidence: Evidence, early: Evidence, end: child.End) -> None:
    """The child told nothing at its end: see what it left pinned, and blame the suite if it was."""
    if base := early.get("base"):
        after = child.aside(lambda: _settled(Pins(*base)).as_dict(), ASIDE_WAIT)
        if after:
            evidence["pins"]["after"] = after
    if end.exit is not None:
        evidence["setup"] = {
            "error": f"the cell's process ended with status {end.exit} and said nothing"
        }


def _post_mortem(pid: int) -> Evidence:
    pids = stuck.family(pid)
    return {"stack": stuck.stacks(pids), "tasks": stuck.task_dump(pids)}


class _Trial(NamedTuple):
    """What runs in the child."""

    board: child.Board
    cell: Cell
    pinner: Pinner
    memory_class: MemoryClass
    condition: Condition
    bench: Bench

    def run(self) -> Evidence:
        """All stages; what is known before the pin goes out early, the rest is returned."""
        board = self.board
        session: Session | None = None
        late: Evidence = {}
        self.bench.busy_node = self.pinner.node
        try:
            board.stage = OPEN
            session = self.pinner.open(self.cell.direction)
            board.stage = MAKE
            buffer = self.memory_class.make(self.bench, session.length, self.cell.direction)
            board.stage = BEFORE
            self.condition.before(buffer, session)
            before = counters.pins()
            board.write(_before(self.pinner, session, buffer, before), early=True)
            board.stage = PIN
            self.pin(session, buffer, before, late)
            board.stage = RELEASE
            session.release()
            board.stage = AFTER
            late["pins"]["after"] = _settled(before).as_dict()
            late["frames"]["after"] = frames.describe(buffer.address, buffer.length)
            late["hugepages"]["after"] = counters.hugepages()
            buffer.close()
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

    def pin(self, session: Session, buffer: Buffer, before: Pins, late: Evidence) -> None:
        """The call under test, a look while it holds, the condition, a second pin if need be."""
        began = time.perf_counter()
        result = session.pin(buffer)
        late["seconds"] = {"pin": round(time.perf_counter() - began, 6)}
        self.board.stage = DURING
        late["call"] = result.call
        late["errno"] = _name(result.errno)
        late["companion_pages"] = result.companion_pages
        during = counters.pins()
        pinned = frames.entries(buffer.address, buffer.length)
        late["pins"] = {"during": during.since(before).as_dict()}
        late["frames"] = {"during": frames.describe(buffer.address, buffer.length, pinned)}
        late["hugepages"] = {"during": counters.hugepages()}
        if result.errno:
            return
        late["unsuitable_pages"] = frames.unsuitable(pinned)
        self.board.stage = HOLD
        self.condition.during(buffer, session)
        late["data"] = _through_the_device(session, buffer)
        if buffer.settle is not None:
            session.stop()
            buffer.settle()
            base = counters.pins()
            second = session.pin(buffer)
            present = frames.entries(buffer.address, buffer.length)
            late["second_pin"] = {
                "errno": _name(second.errno),
                "acquired": counters.pins().since(base).acquired,
                "changed_frames": moved_pages(pinned, present),
            }
            pinned = present
        late["moved_pages"] = moved_pages(pinned, frames.entries(buffer.address, buffer.length))


def _through_the_device(session: Session, buffer: Buffer) -> Evidence | None:
    """Whether the bytes arrive; None where this driver cannot prove it."""
    around = data.Surroundings(buffer)
    try:
        moved = session.transfer(buffer)
    except OSError as error:
        return {"failed": f"{_name(error.errno or 0)}: {error.strerror}"}
    except NotApplicableError as error:
        return {"unproven": error.reason}
    if moved is None:
        return None
    if not moved.known and not moved.sent:
        return {"unproven": "the process can't look at what the device has read"}
    found = {"how": moved.how, **data.compare(moved.sent, moved.arrived, moved.before)}
    if not moved.known:
        found |= data.unchanged(moved.before, moved.arrived)
    if changed := around.changed():
        found["guard_bytes"] = changed
    return found


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
            "facts": {**buffer.facts, **pinner.facts(buffer)},
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


def _settled(before: Pins) -> Pins:
    """The pins since ``before`` once none is live, or after a grace time."""
    until = time.monotonic() + GRACE
    while (found := counters.pins().since(before)).live and time.monotonic() < until:
        time.sleep(0.01)
    return found


# Two names for one number: the ones that the kernel's sources use.
_NAMES = {**errorcode, EOPNOTSUPP: "EOPNOTSUPP", EDEADLK: "EDEADLK"}


def _name(errno: int) -> str | None:
    return _NAMES.get(errno, str(errno)) if errno else None
