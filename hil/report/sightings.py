# SPDX-License-Identifier: GPL-2.0-or-later
"""One cell in all runs of a folder: on which kernels it was bad, and where that began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hil.errors import HilError
from hil.report.show import find_id
from hil.runs.folder import RunFolder
from hil.runs.history import History
from hil.runs.index import Say
from hil.runs.outcome import Outcome, outcome_of
from hil.runs.stream import Cells
from hil.system import release as releases
from hil.system.release import Release

Record = Mapping[str, Any]

GOOD, BAD, BOTH, UNTOLD = "good", "bad", "good and bad", "not told"


class Sighting(NamedTuple):
    """The cell in one run."""

    folder: RunFolder
    meta: Mapping[str, Any]
    record: Record

    @property
    def kernel(self) -> str:
        return str(self.record.get("kernel") or self.meta.get("kernel") or "?")

    @property
    def release(self) -> Release | None:
        try:
            return releases.parse(self.kernel)
        except ValueError:
            return None

    @property
    def state(self) -> str:
        """Good, bad, or untold: what was not applicable or not ready says nothing."""
        outcome = outcome_of(self.record)
        if outcome in (Outcome.PASS, Outcome.UNEXPECTED_PASS):
            return GOOD
        untold = outcome in (Outcome.SKIP, Outcome.ERROR) or self.record.get("verdict") == "no-rule"
        return UNTOLD if untold else BAD

    @property
    def stock(self) -> bool:
        """Whether the kernel's own modules ran."""
        return not self.meta.get("own_modules")


def sightings(
    root: Path, text: str, only: RunFolder | None = None, say: Say = lambda text: None
) -> list[Sighting]:
    """The cell that ``text`` means (its id, or a part that one id alone has) in each run of
    ``root``, by kernel and time.

    ``only`` is the run whose cells decide what ``text`` means.  ``say`` hears of long work.
    HilError when no cell or several fit, or when there is no run.
    """
    with History(root, say) as history:
        ids = history.cells() if only is None else list(Cells(only.journal).ids)
        cell = find_id(ids, text, f"the runs in {root}/" if only is None else only.name)
        folders = [RunFolder(seen.run.path) for seen in history.of(cell)]
    if only is not None and all(f.path.resolve() != only.path.resolve() for f in folders):
        folders.append(only)
    return [
        Sighting(folder, folder.read_meta(), next(Cells(folder.journal).records([cell])))
        for folder in folders
    ]


def chosen(found: Sequence[Sighting], run: RunFolder | None, kernel: str) -> Sighting:
    """The sighting to report: of ``run``, of a ``kernel`` (a release or the start of one), else the
    newest that is bad, else the newest.  HilError when there is none such."""
    fitting = list(found)
    if run is not None:
        fitting = [s for s in fitting if s.folder.path.resolve() == run.path.resolve()]
    if kernel:
        fitting = [s for s in fitting if f"{s.kernel}.".startswith(f"{kernel}.")]
    if not fitting:
        kernels = ", ".join(dict.fromkeys(s.kernel for s in found))
        raise HilError(
            f"no run of this cell on kernel {kernel}" if kernel else "the cell is not in that run",
            f"It was seen on: {kernels}.",
        )
    fitting.sort(key=lambda s: str(s.meta.get("started") or s.folder.name))
    bad = [s for s in fitting if outcome_of(s.record) is Outcome.FAIL and s.state == BAD]
    known = [s for s in fitting if s.state == BAD]
    return (bad or known or fitting)[-1]


class Kernel(NamedTuple):
    """All that was seen on one kernel."""

    release: Release
    seen: list[Sighting]

    @property
    def state(self) -> str:
        states = {sighting.state for sighting in self.seen} - {UNTOLD}
        if len(states) > 1:
            return BOTH
        return states.pop() if states else UNTOLD


class Story(NamedTuple):
    """The cell over the kernels of one board, in the order of releases."""

    kernels: list[Kernel]
    last_good: Kernel | None
    """The kernel before the first bad one, where that was good each time."""
    first_bad: Kernel | None
    """Where the bad kernels that the reported one is among begin."""
    fixed: Kernel | None
    """The first good kernel after them."""

    @property
    def regression(self) -> bool:
        """Whether the same was expected and seen on the one kernel, and not on the next."""
        if self.last_good is None or self.first_bad is None or self.first_bad.state != BAD:
            return False
        wanted = [
            s.record.get("expected") for k in (self.last_good, self.first_bad) for s in k.seen
        ]
        return all(expected == wanted[0] for expected in wanted)


def story(found: Sequence[Sighting], focus: Sighting) -> Story:
    """What the sightings on the board of ``focus`` tell; those with modules of one's own do not."""
    board = focus.meta.get("board")
    kernels: dict[Release, Kernel] = {}
    for sighting in found:
        release = sighting.release
        if release is None or sighting.meta.get("board") != board or not sighting.stock:
            continue
        kernels.setdefault(release, Kernel(release, [])).seen.append(sighting)
    order = [kernels[release] for release in sorted(kernels)]
    place = next((n for n, k in enumerate(order) if k.release == focus.release), None)
    if place is None or focus.state != BAD or not focus.stock:
        return Story(order, None, None, None)
    told = [n for n, k in enumerate(order) if k.state != UNTOLD]
    at = told.index(place)
    first = at
    while first and order[told[first - 1]].state in (BAD, BOTH):
        first -= 1
    last = at
    while last + 1 < len(told) and order[told[last + 1]].state in (BAD, BOTH):
        last += 1
    return Story(
        order,
        order[told[first - 1]] if first else None,
        order[told[first]],
        order[told[last + 1]] if last + 1 < len(told) else None,
    )
