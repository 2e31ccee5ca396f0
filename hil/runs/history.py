# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs of the past tell: of one cell, of a kernel, and which run is meant by a kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hil.errors import HilError
from hil.runs.folder import RunFolder
from hil.runs.index import Index, Say
from hil.system import release

_COLUMNS = "name, board, kernel, spec, started, status, selection, modules, cells"


class Run(NamedTuple):
    """A run as the index has it."""

    path: Path
    name: str
    board: str
    kernel: str
    spec: str
    """What was given to --kernel, with the whole release."""
    started: str
    """UTC, ISO 8601; empty where run.json does not say."""
    status: str
    selection: str
    """-k and -m."""
    modules: str
    """--module files, a line each: such a run says nothing of the kernel's own drivers."""
    cells: int

    @property
    def machine(self) -> tuple[str, str, str]:
        """What was tested: runs that share it must come to the same."""
        return (self.board, self.kernel, self.modules)

    @property
    def order(self) -> tuple[release.Release, str, str]:
        """Kernels as released, then by time."""
        return (release_of(self.kernel), self.started, self.name)


class Seen(NamedTuple):
    """One cell in one run."""

    run: Run
    verdict: str
    outcome: str
    known: str
    """Id of the known defect, or empty."""
    answer: str
    """errno, "accepted", or empty where the call was not made."""


class Flaky(NamedTuple):
    """A cell whose verdict differs between runs of one kernel on one board."""

    cell: str
    board: str
    kernel: str
    modules: str
    verdicts: Counter[str]
    runs: dict[str, str]
    """Verdict -> the newest run that came to it."""

    @property
    def total(self) -> int:
        return self.verdicts.total()


class History:
    """The runs in one folder.  Use as a context manager; HilError when there are none."""

    def __init__(self, root: Path, say: Say = lambda text: None) -> None:
        self.root = root
        self.index = Index(root, say)

    def __enter__(self) -> History:
        return self

    def __exit__(self, *exc: object) -> None:
        self.index.__exit__()

    def runs(self) -> list[Run]:
        """Every run, by kernel and time."""
        rows = self.index.ask(f"SELECT {_COLUMNS} FROM runs")
        return sorted((self._run(row) for row in rows), key=lambda run: run.order)

    def _run(self, row: Sequence[Any]) -> Run:
        return Run(self.root / row[0], *row)

    def cells(self) -> list[str]:
        """The ids of all cells that were ever judged."""
        return [row[0] for row in self.index.ask("SELECT cell FROM cells ORDER BY id")]

    def of(self, cell: str) -> list[Seen]:
        """What a cell came to, by kernel and time."""
        rows = self.index.ask(
            f"SELECT {_COLUMNS}, verdict, outcome, known, answer FROM results"
            " JOIN runs ON runs.id = results.run JOIN cells ON cells.id = results.cell"
            " WHERE cells.cell = ?",
            (cell,),
        )
        found = [Seen(self._run(row[:-4]), *row[-4:]) for row in rows]
        return sorted(found, key=lambda seen: seen.run.order)

    def verdicts(self, run: Run, without: Iterable[str] = ()) -> dict[str, Counter[str]]:
        """Cell -> how often which verdict, over all runs of what ``run`` tested.

        ``without`` names runs that are left out.
        """
        left_out = tuple(without)
        rows = self.index.ask(
            "SELECT cells.cell, verdict, count(*) FROM results"
            " JOIN runs ON runs.id = results.run JOIN cells ON cells.id = results.cell"
            f" WHERE board = ? AND kernel = ? AND modules = ? {_but(left_out)}"
            " GROUP BY results.cell, verdict",
            (*run.machine, *left_out),
        )
        found: dict[str, Counter[str]] = {}
        for cell, verdict, count in rows:
            found.setdefault(cell, Counter())[verdict] = count
        return found

    def flaky(self) -> list[Flaky]:
        """Cells whose verdict differs between runs of one kernel and board, by kernel."""
        rows = self.index.ask(
            "WITH told AS (SELECT results.cell, board, kernel, modules, verdict,"
            " count(*) AS times, max(started || ' ' || name) AS last FROM results"
            " JOIN runs ON runs.id = results.run GROUP BY 1, 2, 3, 4, 5)"
            " SELECT cells.cell, board, kernel, modules, verdict, times, last FROM told"
            " JOIN cells ON cells.id = told.cell WHERE (told.cell, board, kernel, modules) IN"
            " (SELECT cell, board, kernel, modules FROM told GROUP BY 1, 2, 3, 4"
            " HAVING count(*) > 1) ORDER BY cells.id, times DESC, verdict"
        )
        found: dict[tuple[str, ...], Flaky] = {}
        for cell, board, kernel, modules, verdict, times, last in rows:
            key = (cell, board, kernel, modules)
            flaky = found.setdefault(key, Flaky(*key, Counter(), {}))
            flaky.verdicts[verdict] = times
            flaky.runs[verdict] = last.rpartition(" ")[2]
        return sorted(found.values(), key=lambda f: (f.board, release_of(f.kernel), f.cell))

    def newest(self) -> list[Run]:
        """Complete runs of stock drivers, the newest first."""
        whole = [run for run in self.runs() if run.status == "complete" and not run.modules]
        return sorted(whole, key=lambda run: (run.started, run.name), reverse=True)

    def find(self, text: str, board: str = "") -> Run:
        """The run that ``text`` means, a name or a kernel; ``board`` is where it must have run.

        A kernel is a series (6.12, debian:6.12), a release (6.12.107, also Debian's whole name), or
        what was given to --kernel.  HilError when there is none.
        """
        found, _ = self._meant(text)
        return self._only(text, [run for run in found if board in ("", run.board)], board)

    def find_two(self, one: str, other: str) -> tuple[Run, Run]:
        """Two runs to compare: of a kernel the newest complete one, both on the same board.

        Runs that are named need not share a board.  HilError when there is no such pair.
        """
        (first, named), (second, named_too) = self._meant(one), self._meant(other)
        for run in first:
            for beside in second:
                alike = beside.board == run.board or (named and named_too)
                if alike and beside.path != run.path:
                    return run, beside
        self._only(one, first)
        self._only(other, second)
        if first == second and len(first) == 1:
            raise HilError(f"{one!r} and {other!r} both mean {first[0].name}", "Name two runs.")
        boards = ", ".join(sorted({run.board for run in first}))
        raise HilError(
            f"no run of {other} on a board of {one} ({boards})",
            f"{other} ran on {', '.join(sorted({run.board for run in second}))}. "
            "Run both on one board, or name the two runs.",
        )

    def _meant(self, text: str) -> tuple[list[Run], bool]:
        """What a kernel or a run's name may mean, the best first, and whether it is a name.

        HilError when it is neither a kernel nor a run.
        """
        by_name = {run.name: run for run in self.runs()}
        if text in by_name:
            return [by_name[text]], True
        kind, _, rest = text.rpartition(":")
        if kind in ("", "debian"):
            try:
                wanted = release.parse(rest)
            except ValueError:
                pass
            else:
                # 6.12 is a series, 6.12.107 and 6.12-rc3 are releases.
                series = rest.count(".") == 1 and wanted.rc == release.FINAL
                found = [
                    run
                    for run in self.newest()
                    if (its := release_of(run.kernel)) == wanted
                    or (series and its[:2] == wanted[:2])
                    or run.spec == f"debian:{rest}"
                ]
                return found, False
        elif kind in ("dir", "deb"):
            spec = f"{kind}:{','.join(str(Path(part).absolute()) for part in rest.split(','))}"
            return [run for run in self.newest() if run.spec == spec], False
        folder = RunFolder.find(text, self.root)
        if folder.path.resolve().parent == self.root.resolve():
            return [by_name[folder.name]], True
        with History(folder.path.resolve().parent) as other:
            return [run for run in other.runs() if run.name == folder.name], True

    def series(self, board: str = "") -> list[Run]:
        """Of each board and kernel series the newest complete run with the newest one's cells.

        A run of a few cells (-k) in between does not take the place of one of all.
        """
        runs = [run for run in self.newest() if board in ("", run.board)]
        found: dict[tuple[str, release.Release], Run] = {}
        chosen: dict[str, str] = {}
        for run in runs:
            selection = chosen.setdefault(run.board, run.selection)
            if run.selection == selection:
                major, minor, *_ = release_of(run.kernel)
                found.setdefault((run.board, release.Release(major, minor)), run)
        return sorted(found.values(), key=lambda run: (run.board, run.order))

    def _only(self, text: str, found: Sequence[Run], board: str = "") -> Run:
        if found:
            return found[0]
        kernels = dict.fromkeys(run.kernel for run in self.runs() if run.status == "complete")
        where = f" on {board}" if board else ""
        raise HilError(
            f"no complete run of {text}{where} in {self.root}/",
            f"There are runs of {', '.join(kernels) or 'no kernel'}. "
            f"Make one: hil run --kernel {text if ':' in text else f'debian:{text}'}",
        )


def release_of(kernel: str) -> release.Release:
    """A kernel's release for ordering; what is none comes last."""
    try:
        return release.parse(kernel)
    except ValueError:
        return release.Release(10_000, 0)


def _but(names: Sequence[str]) -> str:
    return f"AND name NOT IN ({', '.join('?' * len(names))})" if names else ""
