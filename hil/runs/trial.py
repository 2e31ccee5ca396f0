# SPDX-License-Identifier: GPL-2.0-or-later
"""One cell: what comes out is evidence, never an opinion.

The cell's child (hil/runs/act.py) notes which stage it is in, so that a hang or a death tells how
far it came.  What might block the parent (reading the stack
of a stuck process, counting pins on a machine whose CPU spins in the kernel) is done in helper
processes that are given up after a while.
"""

from __future__ import annotations

import gc
import json
import time
from typing import TYPE_CHECKING, Any

from hil.evidence import counters, frames, log, stuck
from hil.evidence.counters import Pins
from hil.runs import child
from hil.runs.act import PIN, STAGES, Act, settled

if TYPE_CHECKING:
    from hil.runs.worker import Worker

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


def run(act: Act, *, deadline: float, worker: Worker | None = None) -> Evidence:
    """Run one cell and return its evidence, after ``deadline`` and some ten seconds at the latest.

    The dictionary can be written as JSON.  ``errno`` null means accepted once ``stage`` is past
    ``pin``.  ``setup`` has an error when the cell could not be put up or the suite itself failed:
    nothing that the kernel does raises.  When ``child.killed`` is false, the child is still there
    with what it holds, and this machine is no place for another cell.

    A ``worker`` knows the suite, and may have run cells before: one that fails before the call
    under test, as a process may that is not new, gets a process of its own.
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

    for probe in (act.calls, act.answers):
        if probe is not None:
            probe.skip()
    used = 0
    if worker is not None:
        shared, used = worker.board, worker.used
        shared.clear()
        end = worker.run(order(act), deadline, on_hang)
        if used and _came_to_nothing(shared):
            worker, used = None, 0
        else:
            board = shared
    if worker is None:
        end = child.run(board, lambda: act.run(board), deadline, on_hang)
    early, late = board.read()
    evidence = _merge(STAGES[board.stage], early, late)
    if not late:
        _without_child(evidence, early, end)
    if end.killed is False and worker is None:
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
        "cells_before": used,
    }
    return evidence


def last_words(worker: Worker) -> list[str]:
    """End a worker's process; the kernel's lines if it warns of what it finds as the process goes.

    kernel/fork.c check_mm: counters of pages and page tables that are wrong tell of themselves
    only then.
    """
    _, kernel_log = ready()
    kernel_log.skip()
    worker.dismiss()
    lines = kernel_log.lines()
    return lines if log.warnings(lines) else []


def order(act: Act) -> str:
    """What a worker is told: the cell, and what its random numbers begin with."""
    return json.dumps([act.cell.id, act.bench.seed])


def _came_to_nothing(board: child.Board) -> bool:
    """Whether something failed before the call under test was made."""
    setup = board.read()[1].get("setup") or {}
    return board.stage < PIN and "not_applicable" not in setup


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
        "settled": False,
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
