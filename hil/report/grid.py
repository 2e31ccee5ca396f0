# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix as data: rows are memory classes by family, columns are pinner and direction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from hil.runs.outcome import last_of_each

Record = Mapping[str, Any]
_SHORT = {"capture": "cap", "output": "out"}


class Column(NamedTuple):
    """One column, and its head from the outside in: node, direction, call, condition."""

    pinner: str
    direction: str
    condition: str
    heads: tuple[str, ...]


class Group(NamedTuple):
    """The memory classes of one family, in the order of the suite."""

    family: str
    memories: tuple[str, ...]


class Grid:
    """Rows, columns and the record behind each square."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records: list[dict[str, Any]] = [whole(record) for record in last_of_each(records)]
        self.columns = _columns(self.records)
        self.groups = _groups(self.records)
        self._squares = {
            (r["memory"], r["pinner"], r["direction"], r["condition"]): index
            for index, r in enumerate(self.records)
        }

    def index(self, memory: str, column: Column) -> int | None:
        """Which of `records` is behind a square; None where there is none."""
        return self._squares.get((memory, column.pinner, column.direction, column.condition))

    def record(self, memory: str, column: Column) -> dict[str, Any] | None:
        """The record behind a square."""
        index = self.index(memory, column)
        return None if index is None else self.records[index]


def whole(record: Record) -> dict[str, Any]:
    """The record with pinner, memory, direction and condition, from its cell's id if need be.

    Whoever writes the record of a dead machine may know the cell's id only.
    """
    names = ("pinner", "memory", "direction", "condition")
    parts = dict(zip(names, [*str(record["cell"]).split("/"), "", "", ""], strict=False))
    return {**parts, **record}


def merged(columns: Sequence[Column], level: int) -> list[tuple[str, int]]:
    """One level's heads, neighbours of the same parent joined: (head, columns that it spans)."""
    spans: list[tuple[str, int]] = []
    before: tuple[str, ...] = ()
    for column in columns:
        path = column.heads[: level + 1]
        if spans and path == before:
            spans[-1] = (path[-1], spans[-1][1] + 1)
        else:
            spans.append((path[-1], 1))
        before = path
    return spans


def _columns(records: Sequence[Record]) -> list[Column]:
    calls: dict[tuple[str, str, str], str] = {}
    for record in records:
        key = (record["pinner"], record["direction"], record["condition"])
        if not calls.get(key):
            calls[key] = str((record.get("evidence") or {}).get("call") or "")
    pinners = {pinner for pinner, _, _ in calls}
    bases = {pinner: _base(pinner, pinners) for pinner in pinners}
    variants = {base for pinner, base in bases.items() if pinner != base}
    dropped = _common_tokens(list(bases.values()))
    conditions = {condition for _, _, condition in calls}
    columns = []
    for (pinner, direction, condition), call in calls.items():
        base = bases[pinner]
        variant = ""
        if base in variants:
            variant = pinner[len(base) + 1 :] or _short_call(call)
        heads = (
            "-".join(base.split("-")[dropped:]),
            _SHORT.get(direction, direction),
            variant[:4],
            condition if len(conditions) > 1 else "",
        )
        columns.append(Column(pinner, direction, condition, heads))
    # Columns of a node stand together, in the order in which the nodes came.
    order = {base: place for place, base in reversed(list(enumerate(map(_head, columns))))}
    columns.sort(key=lambda column: order[_head(column)])
    return columns


def _head(column: Column) -> tuple[str, ...]:
    return column.heads[:2]


def _base(pinner: str, pinners: set[str]) -> str:
    """The pinner that this one is a variant of: its name without the last word, if that is one."""
    base = pinner.rpartition("-")[0]
    return base if base in pinners else pinner


def _common_tokens(names: Sequence[str]) -> int:
    """How many first words all names share; each keeps at least its last."""
    split = [name.split("-") for name in names]
    shared = 0
    for words in zip(*split, strict=False):
        if len(set(words)) > 1:
            break
        shared += 1
    return min([shared, *(len(words) - 1 for words in split)])


def _short_call(call: str) -> str:
    return call.removeprefix("VIDIOC_").removesuffix("_BUF").lower()


def _groups(records: Sequence[Record]) -> list[Group]:
    families: dict[str, str] = {}
    for record in records:
        if record["memory"] not in families:
            families[record["memory"]] = str(record.get("memory_family") or "")
    known = memory_families()
    # Guests side by side finish their cells in no order of ours: the suite's own is restored.
    places = {memory: place for place, memory in enumerate(known)}
    groups: dict[str, list[str]] = {}
    for memory in sorted(families, key=lambda memory: places.get(memory, len(places))):
        family = families[memory] or known.get(memory) or memory.partition("-")[0]
        groups.setdefault(family, []).append(memory)
    return [Group(family, tuple(memories)) for family, memories in groups.items()]


def memory_families() -> dict[str, str]:
    """The memory classes that this version of the suite has, in its order, with their families."""
    try:
        from hil.memory.base import all_classes
    except ImportError:  # a machine that reads reports need not be able to make memory
        return {}
    return {name: memory.family for name, memory in all_classes().items()}
