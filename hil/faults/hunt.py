# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the suite on a faulty driver, and says whether it was caught by the right name."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hil.errors import HilError
from hil.faults.build import build
from hil.faults.catalogue import UNCHANGED, Fault
from hil.lab import exchange, modules
from hil.lab.board import Board
from hil.lab.kernel_run import KernelRun, Options, collected
from hil.lab.kernels import Kernel
from hil.lab.virtual import VirtualBoard
from hil.report.progress import Progress
from hil.runs.outcome import Outcome, last_of_each, outcome_of
from hil.verdicts import Verdict


class Came(enum.StrEnum):
    """What came of one fault."""

    CAUGHT = "caught"
    MISNAMED = "misnamed"
    """Cells went bad, but none with a verdict that names the mistake."""
    MISSED = "missed"
    CLEAN = "clean"
    """The unchanged build, as it must be."""
    NOT_CLEAN = "not clean"
    """The unchanged build has bad cells: nothing that the faults show can be relied on."""
    NOT_RUN = "not run"


GOOD = (Came.CAUGHT, Came.CLEAN)


class Result(NamedTuple):
    """One row of the table."""

    fault: str
    board: str
    came: Came
    cells: tuple[str, ...] = ()
    """Those with a verdict that names the mistake; for a build that is not clean, the bad ones."""
    verdicts: Mapping[str, int] = {}
    """All bad verdicts that came, and how often."""
    tried: int = 0
    """Cells that ran."""
    seconds: float = 0.0
    reason: str = ""
    """The first such cell's, or why it was not run."""
    run: str = ""
    """The run folder, for `hil show`."""

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return {**self._asdict(), "came": str(self.came), "verdicts": dict(self.verdicts)}


class Hunt(KernelRun):
    """A run of the suite with one module in place of the stock one.

    ``faults`` are one, or for the control (``changed`` false) all whose modules are built as they
    are.  Where the board allows it, the modules are put into guests of the stock snapshot.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        options: Options,
        command: Sequence[str],
        progress: Progress,
        *,
        places: int,
        changed: bool = True,
    ) -> None:
        title = faults[0].name if changed else f"{UNCHANGED} ({faults[0].board})"
        super().__init__(options, command, progress, places=places, title=title)
        self.faults, self.changed = faults, changed

    def _board(self, board: Board, kernel: Kernel) -> VirtualBoard:
        files: dict[str, Path] = {}
        for fault in self.faults:
            if self.changed or fault.module not in files:
                files[fault.module] = build(fault, kernel, self.say, changed=self.changed)
        own = modules.check_all(list(files.values()), kernel)
        warm = exchange.possible(board, own)
        self.options = self.options._replace(modules=tuple(map(str, files.values())))
        virtual = VirtualBoard(
            board, kernel, [] if warm else list(files.values()), cold=not warm,
            marks=collected(self.options.marks), say=self.say,
        )  # fmt: skip
        if warm:
            virtual.exchanged = own
        return virtual

    def result(self, error: BaseException | None) -> Result:
        """What came of it, when it has ended."""
        first = self.faults[0]
        name, seconds = (first.name if self.changed else UNCHANGED), max(self.seconds, 0.0)
        if error is not None or self.folder is None or not self.begun:
            reason = error.message if isinstance(error, HilError) else str(error or self.note)
            return Result(name, first.board, Came.NOT_RUN, seconds=seconds, reason=reason)
        records = last_of_each(self.folder.scan().records)
        verdicts = first.verdicts if self.changed else ()
        found = weigh(records, verdicts, changed=self.changed)
        if self.status != "complete" and found.came not in (Came.CAUGHT, Came.NOT_CLEAN):
            found = found._replace(came=Came.NOT_RUN, reason=self.note or self.status)
        run = str(self.folder.path)
        return found._replace(fault=name, board=first.board, seconds=seconds, run=run)


def weigh(
    records: Iterable[Mapping[str, Any]], verdicts: Sequence[str], *, changed: bool = True
) -> Result:
    """Whether any of these cells names the mistake by one of ``verdicts``.

    What is known of stock kernels does not count.  A cell that the suite itself failed to judge
    (harness-error) catches nothing, and makes the control unclean.
    """
    records = list(records)
    bad = [one for one in records if outcome_of(one).bad]
    counts = Counter(
        str(one["verdict"]) if outcome_of(one) != Outcome.UNEXPECTED_PASS else "unexpected-pass"
        for one in bad
    )
    if not changed:
        telling = bad
        came = Came.NOT_CLEAN if bad else Came.CLEAN
    else:
        telling = [one for one in bad if one["verdict"] in verdicts]
        others = any(verdict != Verdict.HARNESS_ERROR for verdict in counts)
        came = Came.CAUGHT if telling else Came.MISNAMED if others else Came.MISSED
    reason = str((telling or bad or [{}])[0].get("reason") or "")
    cells = tuple(str(one["cell"]) for one in telling)
    return Result("", "", came, cells, dict(counts), len(records), reason=reason)
