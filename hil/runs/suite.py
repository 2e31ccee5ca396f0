# SPDX-License-Identifier: GPL-2.0-or-later
"""The suite on one machine: which cells there are, and running one of them to its record."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil import attribution, judge
from hil.cells import Cell, Direction
from hil.conditions import Condition, all_conditions
from hil.errors import HilError
from hil.evidence import log
from hil.memory.base import MemoryClass, all_classes
from hil.memory.bench import Bench
from hil.pinners import Pinner, Survey, io_uring, survey
from hil.rules import table
from hil.rules.known import all_known
from hil.runs import child, trial
from hil.runs.act import Act
from hil.runs.footprint import Process
from hil.runs.journal import Record
from hil.runs.worker import Worker
from hil.system import release
from hil.system.guard import Guard
from hil.verdicts import Verdict

if TYPE_CHECKING:
    from hil.evidence.answers import Answers
    from hil.evidence.pincalls import PinCalls

DEADLINE = 10.0
"""Seconds that a cell may take when nothing else is said."""
LEARN_WAIT = 10.0
"""Seconds that a device may take to show what it does without user memory."""


class Suite:
    """Pinners, memory classes and conditions of this machine, and the cells that they span."""

    def __init__(
        self,
        *,
        devices: Sequence[str] = (),
        scratch: Mapping[str, Path] | None = None,
        conditions: Sequence[str] = (),
        guard: Guard | None = None,
        control_cells: bool = False,
        seed: int = 1,
    ) -> None:
        """``seed`` is what the races' random numbers begin with."""
        self.release = release.running()
        self.survey: Survey = survey(devices)
        if control_cells:
            self.survey = self.survey.joined(io_uring.survey((io_uring.NAME,)))
        self.pinners: dict[str, Pinner] = {p.name: p for p in self.survey.pinners}
        self.classes: dict[str, MemoryClass] = all_classes()
        self.conditions = _chosen_conditions(conditions)
        self.seed = seed
        self.control = io_uring.control()
        """Whom bad cells are compared with; None where this kernel has none."""
        self._scratch, self._guard = scratch or {}, guard
        self._bench: Bench | None = None
        self._learnt: set[str] = set()
        self._calls: dict[tuple[str, ...], PinCalls | None] = {}
        self._answers: dict[str, Answers | None] = {}
        self._worker: Worker | None = None
        self._last: Record | None = None
        """The last record of a cell that ran in the worker."""
        self._unsaid: list[str] = []
        """What the kernel warned of when a worker's process ended."""

    @property
    def bench(self) -> Bench:
        """What this machine offers to memory classes; looked at when it is first asked for.

        ValueError for a kind of scratch directory that does not exist.
        """
        if self._bench is None:
            self._bench = Bench.find(self._scratch, self._guard)
            self._bench.seed = self.seed
        return self._bench

    def warm_up(self) -> None:
        """Do once what the first cell would have to do for all: read tables, open counters."""
        for family in {pinner.family for pinner in self.pinners.values()}:
            for memory in self.classes:
                table.rule_for(family, memory, Direction.CAPTURE, self.release)
        all_known()
        trial.ready()

    def learn(self) -> None:
        """Do once what each pinner's first cell would have to do: see what its data must be."""
        for pinner in self.pinners.values():
            if not pinner.slow:
                self._learn(pinner)

    def forget(self) -> None:
        """Drivers were loaded anew: what was learnt of them, and set in them, is gone."""
        self._learnt.clear()
        self._dismiss()

    def _learn(self, pinner: Pinner) -> None:
        """Before a pinner's first cell: what its data is compared with, and what is put back."""
        if pinner.name in self._learnt:
            return
        self._learnt.add(pinner.name)
        self._keep_settings(pinner)
        found = child.aside(pinner.learn, LEARN_WAIT)
        pinner.recall(found or {})
        self._dismiss()
        self._keep_settings(pinner)  # it may know of more now; what was told first is what counts

    def _keep_settings(self, pinner: Pinner) -> None:
        if self._guard is not None:
            for setting in pinner.settings():
                self._guard.will_ioctl(*setting)

    def cells(self) -> list[Cell]:
        """Every cell, in the order that they run: stable over kernels and runs.

        A slow memory class meets only the pinners that are not slow themselves, a condition those
        that it concerns.  Destructive cells come late, and after them those that leave a machine
        that is no place to go on.
        """
        met = {
            name: [condition for condition, it in self.conditions.items() if it.meets(name)]
            for name in self.classes
        }
        found: list[Cell] = []
        for pinner in self.pinners.values():
            concerned = {
                condition
                for condition, it in self.conditions.items()
                if it.concerns(pinner)
                and condition in (pinner.conditions or (condition,))
                and condition not in pinner.without
            }
            found += [
                Cell(pinner.name, name, direction, condition)
                for name, memory in self.classes.items()
                if not (pinner.slow and memory.slow) and name in (pinner.memory or (name,))
                for direction in pinner.directions
                for condition in met[name]
                if condition in concerned
            ]
        return sorted(found, key=lambda c: (self.pinners[c.pinner].last, self.destructive(c)))

    def destructive(self, cell: Cell) -> bool:
        """Whether a driver that fails takes the machine with it."""
        return self.conditions[cell.condition].destructive

    def slow(self, cell: Cell) -> bool:
        """Whether the cell takes more than its share of a short run.

        The conditions of a short run are those of each driver's first queue in each direction.
        """
        pinner, condition = self.pinners[cell.pinner], self.conditions[cell.condition]
        if pinner.slow or self.classes[cell.memory].slow or condition.slow:
            return True
        first = self._first.get((pinner.driver, cell.direction))
        return not condition.everywhere and (first is not pinner or pinner.slow_conditions)

    @cached_property
    def _first(self) -> dict[tuple[str, Direction], Pinner]:
        found: dict[tuple[str, Direction], Pinner] = {}
        for pinner in self.pinners.values():
            if pinner.meets_conditions:
                for direction in pinner.directions:
                    found.setdefault((pinner.driver, direction), pinner)
        return found

    def run(self, cell: Cell, deadline: float = DEADLINE) -> Record:
        """Run one cell in a child and judge it; the journal record."""
        began = time.monotonic()
        pinner = self.pinners[cell.pinner]
        self._learn(pinner)
        record = self._judged(cell, pinner, deadline)
        control = self.control if self.conditions[cell.condition].has_control else None
        if control is not None and attribution.asked(record, control.name):
            beside = cell._replace(pinner=control.name, direction=Direction.CAPTURE)
            there = self._judged(beside, control, deadline)
            record["attribution"] = attribution.attribute(record, there)
            record["seconds"] = round(time.monotonic() - began, 4)
        return record

    def _judged(self, cell: Cell, pinner: Pinner, deadline: float) -> Record:
        began = time.monotonic()
        act = self._act(cell, pinner)
        alone = act.condition.alone or act.memory_class.alone
        evidence = trial.run(
            act, deadline=deadline * pinner.patience, worker=None if alone else self._hand()
        )
        evidence["note"] = pinner.note or None
        seconds = time.monotonic() - began
        made = make_record(
            cell, pinner.driver, pinner.family, self.release, evidence, seconds=seconds
        )
        if made["known"] is not None and made["known"]["rearm"]:
            made["known"]["rearm"] = log.rearm()
        if not alone:
            self._last = made
        return made

    def _act(self, cell: Cell, pinner: Pinner) -> Act:
        return Act(
            cell,
            pinner,
            self.classes[cell.memory],
            self.conditions[cell.condition],
            self.bench,
            self._traced(pinner),
            self._answering(pinner),
            lambda so_far: judge.must_refuse(cell, pinner.family, self.release, so_far),
        )

    def _hand(self) -> Worker:
        """Who runs cells that leave their process as it was; it knows what is known by now."""
        if self._worker is None:
            self._worker = Worker(self._ordered, lambda: Process().as_it_was)
        return self._worker

    def _ordered(self, board: child.Board, order: str) -> dict[str, Any]:
        """In the worker: run one cell."""
        name, self.bench.seed = json.loads(order)
        cell = Cell.parse(name)
        pinner = self.pinners.get(cell.pinner) or self.control
        assert pinner is not None
        return self._act(cell, pinner).run(board)

    def _dismiss(self) -> None:
        """What a worker was forked with is out of date."""
        if self._worker is not None and self._worker.used:
            self._unsaid += trial.last_words(self._worker)

    def settle(self) -> Record | None:
        """End the process that cells share; when the kernel warns of it, the last one's new record.

        It is the last that ran there that is blamed: the process ended well after it, or would
        have.  Evidence has ``settled`` then.
        """
        self._dismiss()
        lines, self._unsaid = self._unsaid, []
        last, self._last = self._last, None
        if last is None or not lines:
            return None
        cell = Cell.parse(last["cell"])
        pinner = self.pinners.get(cell.pinner) or self.control
        assert pinner is not None
        evidence = {**last["evidence"], "log": [*last["evidence"]["log"], *lines], "settled": True}
        return make_record(
            cell, pinner.driver, pinner.family, self.release, evidence, seconds=last["seconds"]
        )

    def _traced(self, pinner: Pinner) -> PinCalls | None:
        """The probes on what a pinner's driver pins with, armed when its first cell runs."""
        if pinner.traced and pinner.traced not in self._calls:
            from hil.evidence.pincalls import PinCalls

            self._calls[pinner.traced] = PinCalls.arm(pinner.traced, self.release, self._guard)
            self._dismiss()
        return self._calls.get(pinner.traced)

    def _answering(self, pinner: Pinner) -> Answers | None:
        """The probe on what a pinner's driver is told, armed when its first cell runs."""
        if pinner.answered and pinner.answered not in self._answers:
            from hil.evidence.answers import Answers

            self._answers[pinner.answered] = Answers.arm(pinner.answered, self._guard)
            self._dismiss()
        return self._answers.get(pinner.answered)

    def describe(self) -> dict[str, Any]:
        """The machine and its pinners, for the header and run.json."""
        return {
            "kernel": str(self.release),
            "uname": " ".join(os.uname()),
            "machine": os.uname().machine,
            "config": _config_facts(),
            "pinners": [
                {
                    "name": p.name,
                    "driver": p.driver,
                    "family": p.family,
                    "node": str(p.node),
                    "bus": p.bus,
                    "allocator": p.allocator,
                    "directions": [str(d) for d in p.directions],
                }
                for p in self.pinners.values()
            ],
            "seed": self.seed,
            "nodes": [node._asdict() for node in self.survey.nodes],
        }


def make_record(
    cell: Cell,
    driver: str,
    family: str,
    running: release.Release,
    evidence: Mapping[str, Any],
    *,
    seconds: float,
) -> Record:
    """Judge the evidence of a cell and make its line in the journal."""
    found = judge.judge(cell, family, driver, running, evidence)
    rule, known = found.rule, found.known
    return {
        "cell": cell.id,
        "pinner": cell.pinner,
        "driver": driver,
        "memory": cell.memory,
        "direction": str(cell.direction),
        "condition": cell.condition,
        "kernel": str(running),
        "expected": rule and {"accept": rule.accept, "errnos": list(rule.errnos)},
        "rule": rule and rule.id,
        "source": rule and {"because": rule.because, "source": rule.source, "commit": rule.commit},
        "verdict": str(found.verdict),
        "reason": found.reason,
        "known": known
        and {
            "id": known.id,
            "reference": known.reference,
            "because": known.because,
            "once": known.once,
            "rearm": known.rearm,
        },
        "attribution": None,
        "evidence": evidence,
        "seconds": round(seconds, 4),
    }


_UNFIT = frozenset({Verdict.HANG, Verdict.KERNEL_WARNING, Verdict.CRASH, Verdict.LEAK})


def unfit(record: Record) -> bool:
    """Whether the machine may not be what it was: locks or memory held, a WARN_ONCE spent.

    A known warning that comes once a boot does no harm by being spent, or when it was armed again.
    """
    known = record.get("known") or {}
    return record["verdict"] in _UNFIT and not (known.get("once") or known.get("rearm"))


def _chosen_conditions(names: Sequence[str]) -> dict[str, Condition]:
    there = all_conditions()
    if not names:
        return {name: c for name, c in there.items() if not c.only_on_demand}
    missing = [name for name in names if name not in there]
    if missing:
        raise HilError(
            f"no condition {missing[0]!r}", f"Conditions: {', '.join(there)}. See hil/conditions/."
        )
    return {name: there[name] for name in names}


# What decides whether a memory class can be made, or what a fault looks like.
_CONFIG = (
    "CMA", "FS_DAX", "HUGETLBFS", "INIT_ON_ALLOC_DEFAULT_ON", "KSM", "MEMORY_HOTREMOVE", "NUMA",
    "SECRETMEM", "SWAP", "TRANSPARENT_HUGEPAGE", "UDMABUF", "USERFAULTFD", "DEBUG_VM", "KASAN",
    "DEBUG_INFO_BTF", "PREEMPT", "PREEMPT_DYNAMIC",
)  # fmt: skip


def _config_facts() -> dict[str, str]:
    """The kernel's configuration where this machine shows it: option -> y, m or n."""
    for path in (Path("/hil/config"), Path(f"/boot/config-{os.uname().release}")):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        found = dict(line.split("=", 1) for line in lines if line.startswith("CONFIG_"))
        return {name: found.get(f"CONFIG_{name}", "n") for name in _CONFIG}
    return {}
