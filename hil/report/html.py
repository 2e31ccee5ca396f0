# SPDX-License-Identifier: GPL-2.0-or-later
"""report.html: one file with the matrix and the evidence behind each square; works from disk.

The matrix and the lists are plain HTML, so that the page reads and prints without its script.  The
evidence is packed in script elements (hil/report/pack.py); the script shows it and filters.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from hil.report.across import write_across
from hil.report.assets import asset, environment
from hil.report.grid import Grid, merged
from hil.report.marks import ACCEPTED, Mark, legend, mark_of
from hil.report.output import write_whole
from hil.report.pack import Table, script_json, sheets
from hil.report.text import command_line
from hil.report.throughput import bars
from hil.runs.brief import briefs
from hil.runs.folder import RunFolder
from hil.runs.outcome import Outcome, last_of_each, outcome_of, totals
from hil.runs.stream import Cells

_LISTED = 200
_MANY = 20_000
"""Squares that a browser still lays out at once."""
_CUT = "<!-- sheets -->"


class _Square(NamedTuple):
    record: int
    mark: Mark
    label: str


class _Row(NamedTuple):
    memory: str
    family: str
    squares: list[_Square | None]


class _Listed(NamedTuple):
    mark: Mark
    verdict: str
    reason: str
    cells: list[tuple[int, str]]
    more: int


class _Known(NamedTuple):
    id: str
    because: str
    reference: str
    verdicts: str
    cells: list[tuple[int, str]]
    more: int


def write(folder: RunFolder) -> None:
    """Write the run's report.html.  HilError when it cannot be written.

    A run of very many cells gets the page whose rows are drawn as they scroll by.
    """
    cells = Cells(folder.journal)
    if len(cells) > _MANY:
        write_across([folder], folder.html)
        return
    lines = (line for _, line in cells.lines(cells.ids))
    write_whole(folder.html, _page(briefs(cells), lines, folder.read_meta()))


def write_html(
    path: Path, records: Iterable[Mapping[str, Any]], meta: Mapping[str, Any] | None = None
) -> None:
    """Write the report of some records in one step.  HilError when it cannot be written."""
    write_whole(path, [render(records, meta)])


def render(records: Iterable[Mapping[str, Any]], meta: Mapping[str, Any] | None = None) -> str:
    """The page as text; `meta` is run.json."""
    whole = last_of_each(records)
    return "".join(_page(whole, (json.dumps(record).encode() for record in whole), meta or {}))


def _page(
    records: Iterable[Mapping[str, Any]], lines: Iterable[bytes], meta: Mapping[str, Any]
) -> Iterator[str]:
    """The page in parts; ``lines`` has the same records as the journal has them, in full."""
    grid = Grid(records)
    marks = [mark_of(record) for record in grid.records]
    text = (
        environment()
        .from_string(asset("report.html"))
        .render(
            css=Markup(asset("report.css")),
            script=Markup(asset("evidence.js") + asset("report.js")),
            data=Markup(_data(grid, marks)),
            meta=meta,
            facts=_facts(meta),
            count=totals(grid.records, meta),
            taken=sum(mark is ACCEPTED for mark in marks),
            heads=[
                merged(grid.columns, level)
                for level in range(4)
                if any(column.heads[level] for column in grid.columns)
            ],
            columns=grid.columns,
            rows=_rows(grid, marks),
            legend=legend(marks),
            verdicts=_choices(record.get("verdict") for record in grid.records),
            drivers=_choices(record.get("driver") for record in grid.records),
            families=[group.family for group in grid.groups],
            pinners=[entry for entry in meta.get("pinners") or [] if isinstance(entry, dict)],
            config=meta.get("config") or {},
            bad=_bad(grid, marks),
            known=_known(grid),
            skipped=_skipped(grid),
            throughput=bars(grid.records),
            cut=Markup(_CUT),
        )
    )
    before, _, after = text.rpartition(_CUT)
    yield before
    yield from sheets(lines, len(grid.records))
    yield after


def _rows(grid: Grid, marks: Sequence[Mark]) -> list[_Row]:
    rows = []
    for group in grid.groups:
        for memory in group.memories:
            squares: list[_Square | None] = []
            for column in grid.columns:
                index = grid.index(memory, column)
                if index is None:
                    squares.append(None)
                    continue
                record = grid.records[index]
                label = f"{record['cell']}: {record.get('verdict')}"
                squares.append(_Square(index, marks[index], label))
            rows.append(_Row(memory, group.family, squares))
    return rows


def _choices(values: Iterable[object]) -> list[tuple[str, int]]:
    return Counter(str(value) for value in values).most_common()


def _facts(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = ("kernel", "kernel_spec", "uname", "board", "command", "started", "finished", "status")
    facts = [(name.replace("_", " "), command_line(meta[name])) for name in names if meta.get(name)]
    versions = meta.get("versions") or {}
    if versions:
        text = ", ".join(f"{name} {version}" for name, version in versions.items())
        facts.append(("versions", text))
    return facts


def _bad(grid: Grid, marks: Sequence[Mark]) -> list[_Listed]:
    kinds: dict[tuple[str, str], list[int]] = {}
    for index, record in enumerate(grid.records):
        if outcome_of(record).bad:
            reason = str(record.get("reason") or "no reason was given")
            kinds.setdefault((marks[index].sign, reason), []).append(index)
    return [
        _Listed(
            marks[found[0]],
            str(grid.records[found[0]].get("verdict")),
            reason,
            [(index, grid.records[index]["cell"]) for index in found[:_LISTED]],
            max(0, len(found) - _LISTED),
        )
        for (_, reason), found in kinds.items()
    ]


def _known(grid: Grid) -> list[_Known]:
    kinds: dict[str, list[int]] = {}
    for index, record in enumerate(grid.records):
        if outcome_of(record) is Outcome.KNOWN:
            kinds.setdefault(str((record.get("known") or {}).get("id", "?")), []).append(index)
    listed = []
    for name, found in kinds.items():
        row = grid.records[found[0]].get("known") or {}
        listed.append(
            _Known(
                name,
                str(row.get("because") or ""),
                str(row.get("reference") or ""),
                ", ".join(sorted({str(grid.records[index]["verdict"]) for index in found})),
                [(index, grid.records[index]["cell"]) for index in found[:_LISTED]],
                max(0, len(found) - _LISTED),
            )
        )
    return listed


def _skipped(grid: Grid) -> list[tuple[str, int]]:
    return Counter(
        str(record.get("reason") or "no reason was given")
        for record in grid.records
        if outcome_of(record) is Outcome.SKIP
    ).most_common()


def _data(grid: Grid, marks: Sequence[Mark]) -> str:
    """What the script filters by; the names are in report.js."""
    table = Table()
    for record, mark in zip(grid.records, marks, strict=True):
        known = record.get("known") or {}
        words = (record["cell"], record.get("verdict"), outcome_of(record), mark.key,
                 record.get("driver"), known.get("id"), record.get("reason"))  # fmt: skip
        table.add([None if word is None else str(word) for word in words])
    return script_json(table.as_dict())
