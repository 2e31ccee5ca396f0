# SPDX-License-Identifier: GPL-2.0-or-later
"""Records without the bulk of their evidence: what a matrix, an index or a count looks at.

Of a line only the members named here are decoded, the rest is skipped over: some ten times as quick
as parsing all of it, and a fraction of the room.  For the machine that makes reports; a guest has
no use for it, nor msgspec.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Required, TypedDict

import msgspec

from hil.runs import journal
from hil.runs.stream import Cells


class _Facts(TypedDict, total=False):
    throughput: dict[str, Any] | None


class _Condition(TypedDict, total=False):
    facts: _Facts | None


class _Evidence(TypedDict, total=False):
    call: str | None
    errno: str | None
    condition: _Condition | None


class _Expected(TypedDict, total=False):
    accept: bool


class _Brief(TypedDict, total=False):
    cell: Required[str]
    pinner: str
    driver: str | None
    memory: str
    memory_family: str | None
    direction: str
    condition: str
    kernel: str | None
    expected: _Expected | None
    verdict: str
    outcome: str | None
    reason: str | None
    known: dict[str, Any] | None
    attribution: dict[str, Any] | None
    evidence: _Evidence | None


_DECODER = msgspec.json.Decoder(_Brief)
_REPEATED = ("pinner", "memory", "condition", "reason")


def briefs(cells: Cells) -> Iterator[dict[str, Any]]:
    """The records of a journal, one a cell, with the members of `_Brief` at most."""
    known: dict[str, dict[str, Any]] = {}
    for cell, line in cells.lines(cells.ids):
        record = brief(line) or {"cell": cell, "verdict": "unreadable"}
        for name in _REPEATED:
            if isinstance(value := record.get(name), str):
                record[name] = sys.intern(value)
        if row := record.get("known"):  # one of a few, the same for thousands of cells
            record["known"] = known.setdefault(str(row), row)
        yield record


def brief(line: bytes) -> dict[str, Any] | None:
    """One line of a journal; None when it is no record.

    A record of other types than this version writes comes back whole, whatever it holds.
    """
    try:
        return dict(_DECODER.decode(line))
    except msgspec.MsgspecError:
        entry = journal.decode(line)
        return entry if entry and "cell" in entry else None
