# SPDX-License-Identifier: GPL-2.0-or-later
"""All faults that were asked for, one after the other, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console

from hil.errors import HilError
from hil.faults.catalogue import Fault
from hil.faults.hunt import GOOD, Came, Hunt, Result
from hil.lab import board as boards
from hil.lab.fleet import Fleet, side_by_side
from hil.lab.kernel_run import Options
from hil.report.progress import Progress


class Wish(NamedTuple):
    """What `hil faults` was asked for."""

    kernel: str
    out: str
    everything: bool = False
    """Run all of the board's cells that ``marks`` choose, not only those where it may show."""
    control: bool = True
    """Also build the modules as they are, and see that nothing is bad."""
    cell_timeout: float = 10.0
    jobs: int = 0


def run(
    faults: Sequence[Fault],
    wish: Wish,
    command: Sequence[str],
    console: Console,
    tell: Callable[[Result], None],
) -> list[Result]:
    """Build and run each fault, the controls of each board first; a result each, as they end.

    ``tell`` is called for each as it ends.  An error of one is its result; Ctrl-C ends all.
    """
    results: dict[int, Result] = {}
    groups: dict[str, list[Fault]] = {}
    for fault in faults:
        groups.setdefault(fault.board, []).append(fault)
    machines = [boards.load(name).machine for name in groups]
    beside = wish.jobs or side_by_side([m for m in machines if m is not None])
    plan: list[tuple[list[Fault], bool]] = []
    for group in groups.values():
        plan += [(group, False)] if wish.control else []
        plan += [([fault], True) for fault in group]
    with Progress(console, 0, kernels=len(plan), called="builds", terse=True) as progress:
        hunts = [
            Hunt(group, _options(group, wish, changed), command, progress,
                 places=beside, changed=changed)
            for group, changed in plan
        ]  # fmt: skip

        def over(hunt: Hunt, error: BaseException | None) -> None:
            hunt.ended()
            if error is not None and not isinstance(error, HilError):
                raise error
            if hunt.begun:
                hunt.reports()
            found = results[hunts.index(hunt)] = hunt.result(error)
            tell(found)

        Fleet(hunts, beside).run(over)
    return [results[number] for number in range(len(hunts))]


def _options(group: Sequence[Fault], wish: Wish, changed: bool) -> Options:
    """Of one run: the cells in which the fault may show, or all faults' for the control."""
    choices = dict.fromkeys(f"({fault.cells})" for fault in group)
    marks = dict.fromkeys(f"({fault.marks})" for fault in group)
    return Options(
        board=group[0].board, kernel=wish.kernel, out=wish.out, cell_timeout=wish.cell_timeout,
        keywords="" if wish.everything else " or ".join(choices), marks=" or ".join(marks),
        jobs=wish.jobs,
    )  # fmt: skip


def exit_code(results: Sequence[Result]) -> int:
    """0 all caught and the controls clean; 1 not so; 3 some could not be run."""
    if any(result.came is Came.NOT_RUN for result in results):
        return 3
    return 0 if all(result.came in GOOD for result in results) else 1
