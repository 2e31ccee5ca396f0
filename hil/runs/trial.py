# SPDX-License-Identifier: GPL-2.0-or-later
"""One cell: what comes out is evidence, never an opinion.

The cell's child (hil/runs/act.py) notes which stage it is in, so that a hang or a death tells how
far it came.  What might block the parent (reading the stack
of a stuck process, counting pins on a machine whose CPU spins in the kernel) is done in helper
processes that are given up after a while.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hil.evidence import counters, frames, log, stuck
from hil.evidence.counters import Pins
from hil.runs import child
from hil.runs.act import STAGES, Act, settled

if TYPE_CHECKING:
    from hil.cells import Cell
    from hil.conditions.base import Condition
    from hil.evidence.answers import Answers
    from hil.evidence.pincalls import PinCalls
    from hil.memory.base import MemoryClass
    from hil.memory.bench import Bench
    from hil.pinners.base import Pinner

Evidence = dict[str, Any]

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
    calls: PinCalls | None = None,
    answers: Answers | None = None,
    refuses: Callable[[Evidence], bool] | None = None,
) -> Evidence:
    """Run one cell and return its evidence, after ``deadline`` and some ten seconds at the latest.

    The dictionary can be written as JSON.  ``errno`` null means accepted once ``stage`` is past
    ``pin``.  ``setup`` has an error when the cell could not be put up or the suite itself failed:
    nothing that the kernel does raises.  ``refuses`` says of a call that accepted whether it should
    not have.  When ``child.killed`` is false, the child is still there
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

    act = Act(board, cell, pinner, memory_class, condition, bench, calls, answers, refuses)
    if calls is not None:
        calls.skip()
    if answers is not None:
        answers.skip()
    end = child.run(board, act.run, deadline, on_hang)
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
        "pin_calls": None,
        "answered": None,
        "frames": {},
        "moved_pages": 0,
        "unsuitable_pages": 0,
        "second_pin": None,
        "hugepages": {},
        "data": None,
        "note": None,
        "condition": None,
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
        after = child.aside(lambda: settled(Pins(*base)).as_dict(), ASIDE_WAIT)
        if after:
            evidence["pins"]["after"] = after
    if end.exit is not None:
        evidence["setup"] = {
            "error": f"the cell's process ended with status {end.exit} and said nothing"
        }


def _post_mortem(pid: int) -> Evidence:
    pids = stuck.family(pid)
    return {"stack": stuck.stacks(pids), "tasks": stuck.task_dump(pids)}
