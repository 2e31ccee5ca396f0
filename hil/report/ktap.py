# SPDX-License-Identifier: GPL-2.0-or-later
"""KTAP version 1 (Documentation/dev-tools/ktap.rst): pinner, in it memory class, in it the cells.

It reads as tools/testing/kunit/kunit_parser.py wants it: each nested test has its version line, its
"# Subtest" line and its plan, indented by two spaces, and then a result of the same name.

A known defect is "ok ... # XFAIL", as kselftest.h prints one: who does not know the directive takes
the "ok", and a known defect does not fail a run.  A hang is "not ok ... # TIMEOUT", what the suite
or the machine was not ready for "not ok ... # ERROR".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from hil.report.essence import essentials, kernel_said
from hil.report.text import clean, command_line
from hil.runs.outcome import Outcome, outcome_of
from hil.runs.stream import Cells
from hil.verdicts import Verdict

Record = Mapping[str, Any]
_LOG_LINES = 60
_HEADER = ("run", "board", "kernel", "kernel_spec", "uname", "command", "started", "finished")
# What ends a log for kunit_parser.py (KTAP_END), wherever in a line it stands.
_ENDS = ("List of all partitions:", "Kernel panic - not syncing: VFS:", "reboot: System halted")


def lines(cells: Cells, meta: Mapping[str, Any]) -> Iterator[str]:
    """The document's lines, each with its newline; ``meta`` is run.json."""
    tree: dict[str, dict[str, list[str]]] = {}
    for cell in cells.ids:
        pinner, memory, _ = _parts(cell)
        tree.setdefault(pinner, {}).setdefault(memory, []).append(cell)
    lack = _lack(cells, meta)
    yield "KTAP version 1\n"
    for name in _HEADER:
        if meta.get(name):
            yield f"# {name}: {_plain(command_line(meta[name]))}\n"
    yield f"1..{len(tree) + bool(lack)}\n"
    order = (cell for memories in tree.values() for ids in memories.values() for cell in ids)
    records = cells.records(order)
    for number, (pinner, memories) in enumerate(tree.items(), 1):
        yield from _pinner(records, number, pinner, memories)
    if lack:
        yield f"not ok {len(tree) + 1} all-cells-judged # ERROR {lack}\n"


def _lack(cells: Cells, meta: Mapping[str, Any]) -> str:
    planned = meta.get("cells")
    missing = planned - len(cells) if isinstance(planned, int) else 0
    if missing > 0:
        return f"{missing} of {planned} cells were not judged"
    status = meta.get("status", "complete")
    if status != "complete":
        return f"the run is {_plain(status)}"
    return "" if len(cells) else "no cell was judged"


def _pinner(
    records: Iterator[Record], number: int, pinner: str, memories: Mapping[str, list[str]]
) -> Iterator[str]:
    """A pinner's tests; takes as many ``records`` as it has cells."""
    name = _name(pinner)
    yield f"  KTAP version 1\n  # Subtest: {name}\n  1..{len(memories)}\n"
    results = []
    for place, (memory, ids) in enumerate(memories.items(), 1):
        inner = _name(memory)
        yield f"    KTAP version 1\n    # Subtest: {inner}\n    1..{len(ids)}\n"
        outcomes = []
        for count, record in enumerate(islice(records, len(ids)), 1):
            outcome = outcome_of(record)
            outcomes.append(outcome)
            yield _cell(record, outcome, count)
        results.append(_sum(outcomes))
        yield f"  {_result(results[-1])} {place} {inner}{_aside(results[-1])}\n"
    whole = _sum(results)
    yield f"{_result(whole)} {number} {name}{_aside(whole)}\n"


def _cell(record: Record, outcome: Outcome, number: int) -> str:
    """A result line at the innermost level, and what is to be said of it before."""
    name = _name(_parts(record["cell"])[2])
    text = _plain(record.get("reason") or record.get("verdict"))
    verdict = _plain(record.get("verdict"))
    result = f"    {_result(outcome)} {number} {name}"
    if outcome is Outcome.PASS:
        return f"{result}\n"
    if outcome is Outcome.SKIP:
        return f"{result} # SKIP {text}\n"
    told = "".join(f"    # {_plain(line)}\n" for line in essentials(record))
    said = [_plain(line) for line in kernel_said(record)]
    if len(said) > _LOG_LINES:
        left = f"... {len(said) - _LOG_LINES} lines are left out ..."
        said[_LOG_LINES // 2 : -(_LOG_LINES // 2)] = [left]
    told += "".join(f"    # kernel: {line}\n" for line in said)
    if outcome is Outcome.KNOWN:
        known = record.get("known") or {}
        return f"{told}{result} # XFAIL {verdict}: {text} [{_plain(known.get('reference'))}]\n"
    if outcome is Outcome.UNEXPECTED_PASS:
        known = record.get("known") or {}
        return f"{told}{result} # known as {_plain(known.get('id'))}, but it was right: {text}\n"
    if outcome is Outcome.ERROR:
        return f"{told}{result} # ERROR {text}\n"
    if record.get("verdict") == Verdict.HANG:
        return f"{told}{result} # TIMEOUT {text}\n"
    return f"{told}{result} # {verdict}: {text}\n"


def _sum(outcomes: list[Outcome]) -> Outcome:
    """Bad when one is; skipped only when all are (ktap.rst, "bubbling up")."""
    if any(outcome.bad for outcome in outcomes):
        return Outcome.FAIL
    return Outcome.SKIP if all(o is Outcome.SKIP for o in outcomes) else Outcome.PASS


def _result(outcome: Outcome) -> str:
    return "not ok" if outcome.bad else "ok"


def _aside(outcome: Outcome) -> str:
    return " # SKIP not applicable here" if outcome is Outcome.SKIP else ""


def _parts(cell: str) -> tuple[str, str, str]:
    """Pinner, memory class, and the rest."""
    pinner, _, rest = str(cell).partition("/")
    memory, _, rest = rest.partition("/")
    return pinner, memory or "-", rest or "-"


def _name(text: str) -> str:
    """A test's description: it can't hold '#', and must not begin as another kind of line does."""
    return _plain(text).replace("#", "_").strip() or "-"


def _plain(text: object) -> str:
    """One line in which no directive and no end of the log can be seen."""
    line = " ".join(clean(text).split()).replace(" # ", " - ")
    for end in _ENDS:
        if end in line:
            line = line.replace(end, end.replace(" ", "  ", 1))
    return line
