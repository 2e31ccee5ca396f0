# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs beside one another as data: rows are cells, columns are runs, by board and kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from hil.report.grid import memory_families, whole
from hil.runs.brief import briefs
from hil.runs.diff import Kind, verdict_kind
from hil.runs.folder import RunFolder
from hil.runs.history import release_of
from hil.runs.outcome import Totals, totals
from hil.runs.stream import Cells
from hil.system import release

Record = dict[str, Any]


class Row(NamedTuple):
    """One cell, whatever the kernel."""

    cell: str
    pinner: str
    memory: str
    direction: str
    condition: str
    driver: str
    family: str


class Column:
    """One run: what it is, and its records in brief."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.name, self.meta = folder, folder.name, folder.read_meta()
        self.cells = Cells(folder.journal)
        self.records: dict[str, Record] = {r["cell"]: r for r in briefs(self.cells)}
        first = next(iter(self.records.values()), {})
        self.kernel = str(self.meta.get("kernel") or first.get("kernel") or "?")
        self.board = str(self.meta.get("board") or "?")
        self.started = str(self.meta.get("started") or "")
        self.totals: Totals = totals(self.records.values(), self.meta)

    @property
    def order(self) -> tuple[str, release.Release, str, str]:
        """Boards by name, kernels as released, runs of one kernel by time."""
        return (self.board, release_of(self.kernel), self.started, self.name)


class Step(NamedTuple):
    """What changed between a column and the one before it on the same board."""

    old: Column
    new: Column
    kinds: dict[Kind, list[Row]]
    """Rows by kind, without SAME and EVIDENCE."""


class Beside:
    """Columns, rows in the suite's order, and the record at each crossing."""

    def __init__(self, folders: Sequence[RunFolder]) -> None:
        unique = {folder.path.resolve(): folder for folder in folders}
        self.columns = sorted(map(Column, unique.values()), key=lambda column: column.order)
        self.rows = _rows(self.columns)

    @property
    def boards(self) -> list[str]:
        """The boards, each once."""
        return list(dict.fromkeys(column.board for column in self.columns))

    def records(self, row: Row) -> list[Record | None]:
        """The row's record in each column."""
        return [column.records.get(row.cell) for column in self.columns]

    @cached_property
    def steps(self) -> list[Step | None]:
        """For each column what changed since the one before; None where there is none."""
        found: list[Step | None] = [None]
        for old, new in zip(self.columns, self.columns[1:], strict=False):
            found.append(self._step(old, new) if old.board == new.board else None)
        return found[: len(self.columns)]

    def _step(self, old: Column, new: Column) -> Step:
        kinds: dict[Kind, list[Row]] = {}
        for row in self.rows:
            kind = kind_between(old.records.get(row.cell), new.records.get(row.cell))
            if kind is not Kind.SAME:
                kinds.setdefault(kind, []).append(row)
        return Step(old, new, {kind: kinds[kind] for kind in Kind if kind in kinds})

    def changing(self) -> Iterator[tuple[Row, list[Record | None]]]:
        """Rows that differ between neighbours of one board, and not only by being there."""
        pairs = [
            (place - 1, place)
            for place in range(1, len(self.columns))
            if self.columns[place - 1].board == self.columns[place].board
        ]
        for row in self.rows:
            records = self.records(row)
            for one, other in pairs:
                old, new = records[one], records[other]
                if old and new and verdict_kind(old, new) not in (Kind.SAME, Kind.STILL):
                    yield row, records
                    break


def kind_between(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Kind:
    """`verdict_kind`, also where a run does not have the cell."""
    if old is None or new is None:
        return Kind.SAME if old is new else Kind.ONLY_NEW if old is None else Kind.ONLY_OLD
    return verdict_kind(old, new)


def _rows(columns: Sequence[Column]) -> list[Row]:
    families = memory_families()
    places = {memory: place for place, memory in enumerate(families)}
    found: dict[str, Row] = {}
    pinners: dict[str, int] = {}
    for column in columns:
        for cell, record in column.records.items():
            if cell in found:
                continue
            parts = whole(record)
            memory = str(parts["memory"])
            family = record.get("memory_family") or families.get(memory)
            pinners.setdefault(parts["pinner"], len(pinners))
            found[cell] = Row(
                cell, parts["pinner"], memory, str(parts["direction"]), parts["condition"],
                str(record.get("driver") or ""), family or memory.partition("-")[0],
            )  # fmt: skip
    order: dict[str, int] = {}
    for row in found.values():
        order.setdefault(row.family, places.get(row.memory, len(places)))
    return sorted(
        found.values(),
        key=lambda row: (
            order[row.family], row.family, places.get(row.memory, len(places)), row.memory,
            row.condition != "steady", row.condition, row.direction, pinners[row.pinner],
        ),
    )  # fmt: skip
