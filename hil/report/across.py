# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of several kernels on one page, or in one table: what changed, where, and the evidence.

The page is one file and works from disk.  Its totals, changes and lists are plain HTML; the rows of
the matrix are drawn as they scroll by, and a square's evidence is unpacked when it is asked for, so
that 100,000 cells are no burden.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from hil.report.across_text import print_across
from hil.report.assets import asset, environment
from hil.report.beside import Beside, Column, Record, Row
from hil.report.marks import Mark, legend, mark_of
from hil.report.output import write_whole
from hil.report.pack import Table, script_json, sheets
from hil.report.text import gist
from hil.runs.diff import MEANING, Kind, answer
from hil.runs.folder import RunFolder
from hil.runs.outcome import Outcome, outcome_of

__all__ = ["print_across", "write_across"]

_LISTED = 100
_CUT = "<!-- sheets -->"


class _Bar(NamedTuple):
    """Part of a kernel's bar."""

    key: str
    sign: str
    cells: int
    percent: float
    told: str


class _Kernel(NamedTuple):
    column: Column
    bars: list[_Bar]
    steps: list[tuple[Kind, int]]
    verdicts: str


class _Group(NamedTuple):
    """Cells that share what befell them."""

    kind: Kind
    old: Mark | None
    new: Mark | None
    told: str
    cells: list[tuple[int, str]]
    more: int


class _Change(NamedTuple):
    old: Column
    new: Column
    number: int
    """Which column is the new one."""
    total: int
    groups: list[_Group]


class _Known(NamedTuple):
    id: str
    because: str
    reference: str
    counts: list[int]


def write_across(folders: Sequence[RunFolder], file: Path) -> None:
    """Write one page with every run a column, ordered by board and kernel.

    Of a cell that ran twice in a run the last record counts.  HilError when a journal cannot be
    read or the page not be written.
    """
    write_whole(file, page(Beside(folders)))


def page(beside: Beside) -> Iterator[str]:
    """The page in parts, so that it is never in memory as a whole."""
    marks = [
        {cell: mark_of(record) for cell, record in column.records.items()}
        for column in beside.columns
    ]
    every = [mark for column in marks for mark in column.values()]
    places = {row.cell: place for place, row in enumerate(beside.rows)}
    text = (
        environment()
        .from_string(asset("across.html"))
        .render(
            css=Markup(asset("report.css") + asset("across.css")),
            script=Markup(asset("evidence.js") + asset("across.js")),
            data=Markup(_data(beside, marks)),
            beside=beside,
            kernels=_kernels(beside, marks),
            legend=legend(every),
            changes=_changes(beside, places),
            known=_known(beside),
            bad=_bad(beside, places),
            meaning=MEANING,
            verdicts=_choices(r.get("verdict") for c in beside.columns for r in c.records.values()),
            drivers=_choices(row.driver for row in beside.rows),
            conditions=_choices(row.condition for row in beside.rows),
            families=_families(beside.rows),
            cut=Markup(_CUT),
        )
    )
    before, _, after = text.rpartition(_CUT)
    yield before
    yield from sheets(_lines(beside), sum(len(column.records) for column in beside.columns))
    yield after


def _lines(beside: Beside) -> Iterator[bytes]:
    """Every record, row by row: what is alike stands together, and packs small."""
    with ExitStack() as stack:
        readers = [
            (column, stack.enter_context(column.cells.reader()))
            for column in beside.columns
            if column.records
        ]
        for row in beside.rows:
            for column, line_of in readers:
                if row.cell in column.records:
                    yield line_of(row.cell)


def _data(beside: Beside, marks: Sequence[dict[str, Mark]]) -> str:
    """Rows, the states that squares are in, and each square's state; -1 where there is no cell."""
    rows, states = Table(), Table()
    numbers: dict[tuple[str | None, ...], int] = {}
    squares: list[int] = []
    for row in beside.rows:
        rows.add((row.pinner, row.memory, row.direction, row.condition, row.driver, row.family))
        for column, column_marks in zip(beside.columns, marks, strict=True):
            record = column.records.get(row.cell)
            if record is None:
                squares.append(-1)
                continue
            state = _state(record, column_marks[row.cell])
            if state not in numbers:
                numbers[state] = len(numbers)
                states.add(state)
            squares.append(numbers[state])
    columns = [
        {"kernel": c.kernel, "run": c.name, "board": c.board, "started": c.started}
        for c in beside.columns
    ]
    return script_json(
        {
            "columns": columns,
            "rows": rows.as_dict(),
            "states": states.as_dict(),
            "squares": squares,
        }
    )


def _state(record: Record, mark: Mark) -> tuple[str | None, ...]:
    """What a square shows, and what it is filtered by."""
    return (
        mark.key, mark.sign, str(record.get("verdict")), str(outcome_of(record)), answer(record),
        str((record.get("known") or {}).get("id") or ""), str(record.get("reason") or ""),
    )  # fmt: skip


def _kernels(beside: Beside, marks: Sequence[dict[str, Mark]]) -> list[_Kernel]:
    found = []
    widest = max((column.totals.planned for column in beside.columns), default=0) or 1
    for column, own, step in zip(beside.columns, marks, beside.steps, strict=True):
        counts = Counter(own.values())
        bars = [
            _Bar(mark.key, mark.sign, counts[mark], 100 * counts[mark] / widest, mark.text)
            for mark, _ in legend(own.values())
        ]
        if missing := column.totals.missing:
            bars.append(_Bar("missing", "", missing, 100 * missing / widest, "not judged"))
        kinds = step.kinds if step else {}
        bad = {name: n for name, n in column.totals.verdicts.items() if name != "ok"}
        found.append(
            _Kernel(
                column,
                bars,
                [(kind, len(rows)) for kind, rows in kinds.items()],
                ", ".join(f"{n} {name}" for name, n in sorted(bad.items(), key=lambda i: -i[1])),
            )
        )
    return found


def _changes(beside: Beside, places: dict[str, int]) -> list[_Change]:
    found = []
    for number, step in enumerate(beside.steps):
        if step is None:
            continue
        groups: list[_Group] = []
        for kind, rows in step.kinds.items():
            fates = (
                (row, step.old.records.get(row.cell), step.new.records.get(row.cell))
                for row in rows
            )
            groups += _groups(
                kind,
                ((row, _mark(old), _mark(new), _told(old, new)) for row, old, new in fates),
                places,
            )
        total = sum(map(len, step.kinds.values()))
        found.append(_Change(step.old, step.new, number, total, groups))
    return found


def _mark(record: Record | None) -> Mark | None:
    return None if record is None else mark_of(record)


def _told(old: Record | None, new: Record | None) -> str:
    """What came of a cell, in the words of the run that tells more."""
    if old is None or new is None:
        return ""
    one, other = str(old.get("reason") or ""), str(new.get("reason") or "")
    if outcome_of(new) is Outcome.PASS and outcome_of(old) is not Outcome.PASS:
        return f"was: {one}"
    return other


def _groups(
    kind: Kind, fates: Iterable[tuple[Row, Mark | None, Mark | None, str]], places: dict[str, int]
) -> list[_Group]:
    """Rows that went from the same mark to the same, for reasons of the same gist."""
    alike: dict[tuple[Mark | None, Mark | None, str], tuple[str, list[Row]]] = {}
    for row, old, new, told in fates:
        alike.setdefault((old, new, gist(told)), (told, []))[1].append(row)
    return [
        _Group(kind, old, new, told, _listing(rows, places), len(rows) - _LISTED)
        for (old, new, _), (told, rows) in sorted(alike.items(), key=lambda item: -len(item[1][1]))
    ]


def _listing(rows: Sequence[Row], places: dict[str, int]) -> list[tuple[int, str]]:
    return [(places[row.cell], row.cell) for row in rows[:_LISTED]]


def _known(beside: Beside) -> list[_Known]:
    """Known defects, and in how many cells of each run they show."""
    rows: dict[str, Record] = {}
    counts: Counter[tuple[str, int]] = Counter()
    for number, column in enumerate(beside.columns):
        for record in column.records.values():
            if outcome_of(record) is Outcome.KNOWN:
                row = record.get("known") or {}
                rows.setdefault(str(row.get("id", "?")), row)
                counts[str(row.get("id", "?")), number] += 1
    return [
        _Known(
            name,
            str(row.get("because") or ""),
            str(row.get("reference") or ""),
            [counts[name, number] for number in range(len(beside.columns))],
        )
        for name, row in rows.items()
    ]


def _bad(beside: Beside, places: dict[str, int]) -> list[tuple[Column, int, list[_Group]]]:
    """What makes a run exit with 1, run by run."""
    found = []
    for number, column in enumerate(beside.columns):
        fates = (
            (row, None, mark_of(record), str(record.get("reason") or ""))
            for row in beside.rows
            if (record := column.records.get(row.cell)) is not None and outcome_of(record).bad
        )
        if groups := _groups(Kind.STILL, fates, places):
            found.append((column, number, groups))
    return found


def _choices(values: Iterable[object]) -> list[tuple[str, int]]:
    return Counter(str(value) for value in values).most_common()


def _families(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Memory classes by family, in the rows' order."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        found.setdefault(row.family, {})[row.memory] = None
    return {family: list(memories) for family, memories in found.items()}
