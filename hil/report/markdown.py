# SPDX-License-Identifier: GPL-2.0-or-later
"""A run's summary for an issue or a wiki: totals, the matrix by family, bad and known cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hil.report.essence import citation, expected
from hil.report.grid import memory_families, whole
from hil.report.text import clean, command_line
from hil.runs.outcome import Outcome, outcome_of

Record = Mapping[str, Any]
_CELLS = 8
_KINDS = 60
_WIDEST = 12
_FACTS = ("kernel", "kernel_spec", "board", "command", "started", "status")


class _Kind:
    """Cells that came to the same for the same reason; of them only some are kept."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.cells: list[str] = []
        self.count = 0

    def add(self, cell: str) -> None:
        self.count += 1
        if self.count <= _CELLS:
            self.cells.append(cell)


class _Sums:
    """What is kept of the records while they go by."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.squares: dict[tuple[str, str], Counter[Outcome]] = {}
        self.bad: dict[tuple[str, ...], _Kind] = {}
        self.known: dict[tuple[str, ...], _Kind] = {}
        self.skipped: Counter[str] = Counter()
        families = memory_families()
        for given in records:
            record = whole(given)
            outcome = outcome_of(record)
            self.outcomes[outcome] += 1
            memory = str(record["memory"])
            family = record.get("memory_family") or families.get(memory) or memory.partition("-")[0]
            square = (str(family), f"{record['pinner']} {record['direction']}")
            self.squares.setdefault(square, Counter())[outcome] += 1
            verdict, reason = str(record.get("verdict")), str(record.get("reason") or "")
            if outcome is Outcome.SKIP:
                self.skipped[reason] += 1
            elif outcome is Outcome.KNOWN:
                name = str((record.get("known") or {}).get("id"))
                self._keep(self.known, (name, verdict), record)
            elif outcome.bad:
                self._keep(self.bad, (verdict, reason), record)

    @staticmethod
    def _keep(kinds: dict[tuple[str, ...], _Kind], key: tuple[str, ...], record: Record) -> None:
        kinds.setdefault(key, _Kind(record)).add(str(record["cell"]))

    @property
    def count(self) -> int:
        return sum(self.outcomes.values())


def lines(records: Iterable[Record], meta: Mapping[str, Any]) -> Iterator[str]:
    """The page; ``records`` has one a cell, ``meta`` is run.json."""
    sums = _Sums(records)
    yield f"## {_text(meta.get('run') or 'hil run')}\n\n"
    for name in _FACTS:
        if meta.get(name):
            yield f"- {name.replace('_', ' ')}: {_code(command_line(meta[name]))}\n"
    yield f"\n**{sums.count} cells: {_told(sums.outcomes, long=True)}**\n"
    planned = meta.get("cells")
    if isinstance(planned, int) and planned > sums.count:
        yield f"\n{planned - sums.count} of {planned} cells were not judged.\n"
    if sums.squares:
        yield "\n### Matrix\n\n"
        yield from _matrix(sums)
    if sums.bad:
        yield "\n### Bad\n\n"
        yield from _row("verdict", "cells", "what was found", "expected", "rule", "at fault")
        yield from _row(*["---"] * 6)
        for kind in list(sums.bad.values())[:_KINDS]:
            yield from _bad(kind)
        yield from _more(len(sums.bad) - _KINDS, "kinds of bad cells")
    if sums.known:
        yield "\n### Known\n\n"
        yield from _row("known as", "verdict", "cells", "because", "reference")
        yield from _row(*["---"] * 5)
        for (name, verdict), kind in list(sums.known.items())[:_KINDS]:
            known = kind.record.get("known") or {}
            because, reference = known.get("because") or "", known.get("reference") or ""
            yield from _row(_code(name), verdict, _cells(kind), _text(because), _text(reference))
        yield from _more(len(sums.known) - _KINDS, "kinds of known cells")
    if sums.skipped:
        yield "\n### Not applicable\n\n"
        for reason, count in sums.skipped.most_common(_KINDS):
            yield f"- {count}: {_text(reason)}\n"
        yield from _more(len(sums.skipped) - _KINDS, "reasons")


def _matrix(sums: _Sums) -> Iterator[str]:
    """Families by pinners; with many pinners, pinners by what became of their cells."""
    families = list(dict.fromkeys(family for family, _ in sums.squares))
    order = list(dict.fromkeys(memory_families().values()))
    families.sort(key=lambda family: order.index(family) if family in order else len(order))
    pinners = list(dict.fromkeys(pinner for _, pinner in sums.squares))
    if len(pinners) <= _WIDEST:
        yield from _row("", *map(_text, pinners))
        yield from _row("---", *["---"] * len(pinners))
        for family in families:
            squares = (sums.squares.get((family, pinner)) for pinner in pinners)
            yield from _row(_text(family), *(_told(s) if s else "" for s in squares))
        return
    yield from _row("", "ok", "known", "not applicable", "bad")
    yield from _row("---", "---:", "---:", "---:", "---:")
    for pinner in pinners:
        total: Counter[Outcome] = Counter()
        for family in families:
            total.update(sums.squares.get((family, pinner), {}))
        bad = sum(count for outcome, count in total.items() if outcome.bad)
        counts = (total[o] or "" for o in (Outcome.PASS, Outcome.KNOWN, Outcome.SKIP))
        yield from _row(_text(pinner), *map(str, counts), f"**{bad}**" if bad else "")


def _told(outcomes: Mapping[Outcome, int], *, long: bool = False) -> str:
    bad = sum(count for outcome, count in outcomes.items() if outcome.bad)
    parts = [
        (outcomes.get(Outcome.PASS, 0), "ok"),
        (outcomes.get(Outcome.KNOWN, 0), "known"),
        (outcomes.get(Outcome.SKIP, 0), "not applicable" if long else "n/a"),
    ]
    told = [f"{count} {word}" for count, word in parts if count or long]
    if bad or long:
        told.append(f"{bad} bad" if long else f"**{bad} bad**")
    return ", ".join(told)


def _bad(kind: _Kind) -> Iterator[str]:
    record = kind.record
    verdict = str(record.get("verdict"))
    if outcome_of(record) is Outcome.UNEXPECTED_PASS:
        known = record.get("known") or {}
        verdict = f"ok, but known as {known.get('id')}"
    fault = record.get("attribution") or {}
    told = (verdict, record.get("reason") or "", expected(record) or "no rule", citation(record))
    one, reason, wanted, rule = map(_text, told)
    yield from _row(f"**{one}**", _cells(kind), reason, wanted, rule, _text(fault.get("to") or ""))


def _cells(kind: _Kind) -> str:
    told = "<br>".join(_code(cell) for cell in kind.cells)
    more = kind.count - len(kind.cells)
    return f"{told}<br>and {more} more" if more else told


def _more(count: int, what: str) -> Iterator[str]:
    if count > 0:
        yield f"\nand {count} more {what}\n"


def _row(*columns: str) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |\n"


_MARKUP = str.maketrans({letter: f"\\{letter}" for letter in "\\`*_[]|~#"} | {"<": "&lt;"})


def _text(value: object) -> str:
    """Text in which nothing is markup; "@name" would call a person where issues are kept."""
    line = " ".join(clean(value).split()).replace("&", "&amp;").translate(_MARKUP)
    return line.replace("@", "@&#8203;")


def _code(value: object) -> str:
    line = " ".join(clean(value).split()).replace("|", "\\|").replace("`", "'")
    return f"`{line}`"
