# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix of a run on the terminal, or in a pipe.

Rows are memory classes, columns are pinner and direction.  The lists beneath name what is bad, what
is known with its reference, and what this machine could not make.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hil.report.grid import Column, Grid, merged
from hil.report.marks import ACCEPTED, FIXED, MISSING, REFUSED, SKIPPED, Mark, mark_of
from hil.report.text import fit, signs_fit
from hil.runs.outcome import Outcome, Totals, outcome_of, totals

# Past so many rows the heads of a block have scrolled away: they stand beneath it again.
_ROWS_WITH_ONE_HEAD = 30
_REASONS_SHOWN = 40
_CELLS_SHOWN = 6
_KEYS = (ACCEPTED, REFUSED, SKIPPED)


def print_matrix(
    console: Console, records: Iterable[Mapping[str, Any]], meta: Mapping[str, Any] | None = None
) -> None:
    """Print matrix, legend, lists and totals of `records`; `meta` is run.json."""
    grid = Grid(records)
    count = totals(grid.records, meta or {})
    if grid.records:
        signs = signs_fit(console)
        _print_blocks(console, grid, signs)
        _print_legend(console, grid, signs)
        _print_skipped(console, grid)
        _print_known(console, grid)
        _print_bad(console, grid)
    _print_totals(console, grid, count)


class _Layout(NamedTuple):
    label: int
    widths: dict[Column, int]
    """Of each column, with the gap to the next."""


def _print_blocks(console: Console, grid: Grid, signs: bool) -> None:
    marks = {id(record): mark_of(record) for record in grid.records}
    layout = _layout(console.width, grid, marks, signs)
    blocks = _blocks(console.width - layout.label, grid.columns, layout.widths)
    # Air between the nodes is good, but not worth one more block.
    tight = _layout(console.width, grid, marks, signs, air=0)
    fewer = _blocks(console.width - tight.label, grid.columns, tight.widths)
    if len(fewer) < len(blocks):
        layout, blocks = tight, fewer
    for block in blocks:
        rows = _rows(grid, block)
        heads = _heads(block, layout)
        lines = list(heads)
        for family, memories in rows:
            lines.append(Text(fit(console, family), style="bold"))
            for memory in memories:
                line = Text("  " + _cut(fit(console, memory), layout.label - 3))
                line.pad_right(layout.label - len(line))
                for column in block:
                    record = grid.record(memory, column)
                    mark = MISSING if record is None else marks[id(record)]
                    sign = mark.sign if signs else mark.plain
                    line.append(sign, mark.style)
                    line.append(" " * (layout.widths[column] - len(sign)))
                lines.append(line)
        if len(lines) > _ROWS_WITH_ONE_HEAD:
            lines.extend(reversed(heads))
        for line in lines:
            line.rstrip()
        # One call for all: rich looks at the terminal anew for each.
        whole = Text("\n").join(lines)
        console.print(whole, no_wrap=True, overflow="crop", crop=True, highlight=False)
        console.print()


def _layout(
    width: int, grid: Grid, marks: Mapping[int, Mark], signs: bool, *, air: int = 1
) -> _Layout:
    longest = max(len(memory) for group in grid.groups for memory in group.memories)
    label = min(longest + 3 + air, max(width // 2, 16))
    widths = {}
    for column in grid.columns:
        words = [len(head) for head in column.heads[1:]]
        for group in grid.groups:
            for memory in group.memories:
                record = grid.record(memory, column)
                if record is not None:
                    mark = marks[id(record)]
                    words.append(len(mark.sign if signs else mark.plain))
        widths[column] = max(words) + 1
    # A node's name stands over all its columns; where it is longer, its last column is widened.
    start = 0
    for head, span in merged(grid.columns, 0):
        columns = grid.columns[start : start + span]
        lack = len(head) + 1 + air - sum(widths[column] for column in columns)
        widths[columns[-1]] += max(lack, air)
        start += span
    return _Layout(label, widths)


def _blocks(
    width: int, columns: Sequence[Column], widths: Mapping[Column, int]
) -> list[list[Column]]:
    """Share the columns out to as many blocks as it takes; a node's columns stay together."""
    blocks: list[list[Column]] = [[]]
    free = width
    start = 0
    for _, span in merged(columns, 0):
        node = columns[start : start + span]
        start += span
        if blocks[-1] and sum(widths[column] for column in node) > free:
            blocks.append([])
            free = width
        for column in node:
            if blocks[-1] and widths[column] > free:
                blocks.append([])
                free = width
            blocks[-1].append(column)
            free -= widths[column]
    return blocks


def _rows(grid: Grid, block: Sequence[Column]) -> list[tuple[str, list[str]]]:
    """Families and memory classes that have a square in the block."""
    rows = []
    for group in grid.groups:
        memories = [
            memory
            for memory in group.memories
            if any(grid.index(memory, column) is not None for column in block)
        ]
        if memories:
            rows.append((group.family, memories))
    return rows


def _heads(block: Sequence[Column], layout: _Layout) -> list[Text]:
    lines = []
    for level in range(len(block[0].heads)):
        if not any(column.heads[level] for column in block):
            continue
        line = Text(" " * layout.label, style="bold" if level == 0 else "dim")
        start = 0
        for head, span in merged(block, level):
            width = sum(layout.widths[column] for column in block[start : start + span])
            line.append(_cut(head, width - 1).ljust(width))
            start += span
        lines.append(line)
    return lines


def _print_legend(console: Console, grid: Grid, signs: bool) -> None:
    found: dict[str, Mark] = {}
    for record in grid.records:
        mark = mark_of(record)
        found.setdefault(mark.sign, mark)
    order = [mark for mark in _KEYS if mark.sign in found]
    order += sorted((mark for mark in found.values() if mark not in _KEYS), key=lambda m: m.sign)
    table = _hanging(5)
    for mark in order:
        sign = Text(mark.sign if signs else mark.plain, style=mark.style)
        table.add_row(sign, Text(fit(console, mark.text)))
    _print_table(console, table)
    console.print()


def _hanging(width: int) -> Table:
    """Two columns: a short one, and text that wraps beside it."""
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=width, no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _print_table(console: Console, table: Table) -> None:
    console.print(Padding(table, (0, 0, 0, 2), expand=False), markup=False, highlight=False)


def _print_skipped(console: Console, grid: Grid) -> None:
    reasons = Counter(_reason(r) for r in grid.records if outcome_of(r) is Outcome.SKIP)
    if not reasons:
        return
    console.print(Text(f"Not applicable: {_cells(reasons.total())}", style="bold"))
    table = _hanging(5)
    for reason, count in reasons.most_common(_REASONS_SHOWN):
        table.add_row(f"{count:5}", Text(_one_line(console, reason)))
    _print_table(console, table)
    _print_more(console, len(reasons) - _REASONS_SHOWN, "reasons")
    console.print()


def _print_known(console: Console, grid: Grid) -> None:
    known: dict[str, list[dict[str, Any]]] = {}
    for record in grid.records:
        if outcome_of(record) is Outcome.KNOWN:
            known.setdefault(str((record.get("known") or {}).get("id", "?")), []).append(record)
    if not known:
        return
    total = sum(map(len, known.values()))
    console.print(Text(f"Known: {_cells(total)}", style="bold"))
    for name, records in known.items():
        row = records[0].get("known") or {}
        verdicts = ", ".join(sorted({str(record["verdict"]) for record in records}))
        title = Text("  ").append(_one_line(console, name), "bold")
        console.print(title.append(f": {verdicts}, {_cells(len(records))}"), highlight=False)
        if row.get("because"):
            text = Text(_one_line(console, row["because"]))
            console.print(Padding(text, (0, 0, 0, 4), expand=False), highlight=False)
        if row.get("reference"):
            _print_whole(console, row["reference"])
        _print_cells(console, records)
    console.print()


def _print_bad(console: Console, grid: Grid) -> None:
    bad: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in grid.records:
        if outcome_of(record).bad:
            bad.setdefault((mark_of(record).sign, _reason(record)), []).append(record)
    if not bad:
        return
    console.print(Text(f"Bad: {_cells(sum(map(len, bad.values())))}", style="bold"))
    for (_, reason), records in list(bad.items())[:_REASONS_SHOWN]:
        mark = mark_of(records[0])
        verdict = "unexpected pass" if mark is FIXED else str(records[0].get("verdict"))
        table = _hanging(5)
        sign = Text(mark.plain, style=mark.style)
        table.add_row(sign, Text(_one_line(console, f"{verdict}: {reason}")))
        _print_table(console, table)
        if mark is FIXED:
            known = records[0].get("known") or {}
            _print_whole(console, f"known as {known.get('id')}: {known.get('reference')}")
        if found := records[0].get("attribution"):
            _print_whole(console, f"{found['to']}: {found['why']}")
        _print_cells(console, records)
    _print_more(console, len(bad) - _REASONS_SHOWN, "kinds of bad cells")
    console.print()


def _print_cells(console: Console, records: Sequence[Mapping[str, Any]]) -> None:
    for record in records[:_CELLS_SHOWN]:
        _print_whole(console, record["cell"])
    _print_more(console, len(records) - _CELLS_SHOWN, "cells")


def _print_whole(console: Console, text: object) -> None:
    """An id or an address on a line that is never broken: it is there to be copied."""
    line = Text("    " + _one_line(console, text), style="dim")
    console.print(line, soft_wrap=True, highlight=False)


def _one_line(console: Console, text: object) -> str:
    return fit(console, " ".join(str(text).split()))


def _print_more(console: Console, count: int, what: str) -> None:
    if count > 0:
        console.print(Text(f"    and {count} more {what}: see the HTML report", style="dim"))


def _print_totals(console: Console, grid: Grid, count: Totals) -> None:
    if not count.judged:
        text = "No cell was judged"
        console.print(f"{text}; {count.missing} were planned." if count.missing else f"{text}.")
        return
    taken = sum(mark_of(record) is ACCEPTED for record in grid.records)
    line = Text(f"{_cells(count.judged)}: ", style="bold")
    line.append(
        f"{count.passed} ok ({taken} accepted, {count.passed - taken} refused)", ACCEPTED.style
    )
    line.append(f", {count.known} known, {count.skipped} not applicable, ")
    line.append(f"{count.bad} bad", "bold" if count.bad else "")
    if count.missing:
        line.append(f"; {count.missing} of {count.planned} were not judged")
    console.print(line, highlight=False)


def _reason(record: Mapping[str, Any]) -> str:
    return str(record.get("reason") or "no reason was given")


def _cells(count: int) -> str:
    return f"{count} cell" if count == 1 else f"{count} cells"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "~"
