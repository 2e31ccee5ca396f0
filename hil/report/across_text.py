# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of several kernels as a table on the terminal: totals, and only what differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hil.report.beside import Beside, Record, Row
from hil.report.marks import MISSING, legend, mark_of
from hil.report.text import fit, signs_fit
from hil.runs.diff import answer
from hil.runs.folder import RunFolder
from hil.runs.outcome import Outcome, outcome_of

_SHOWN = 60


def print_across(console: Console, folders: Sequence[RunFolder]) -> None:
    """Print totals by kernel, then the cells that differ between neighbours, alike ones as one row.

    Ordered by board and kernel.  HilError when a journal cannot be read.
    """
    beside = Beside(folders)
    signs = signs_fit(console)
    _print_totals(console, beside)
    changing = list(beside.changing())
    if len(beside.columns) > 1:
        _print_changes(console, beside, changing, signs)
    shown = [r for _, records in changing for r in records if r is not None]
    for mark, _ in legend(map(mark_of, shown)):
        sign = Text("  ").append(mark.sign if signs else mark.plain, mark.style)
        sign.pad_right(max(0, 9 - len(sign)))
        console.print(sign.append(fit(console, mark.text)), highlight=False)
    known = {r["known"]["id"]: r["known"] for r in shown if outcome_of(r) is Outcome.KNOWN}
    for name, row in known.items():
        line = Text("  known: ").append(fit(console, name), "bold")
        line.append(fit(console, f": {row.get('reference')}"))
        console.print(line, highlight=False, soft_wrap=True)  # it is there to be copied


def _print_totals(console: Console, beside: Beside) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("kernel", no_wrap=True)
    if len(beside.boards) > 1:
        table.add_column("board", no_wrap=True)
    for name in ("judged", "ok", "known", "n/a", "bad"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("since the run before", overflow="fold")
    for column, step in zip(beside.columns, beside.steps(), strict=True):
        count = column.totals
        judged = str(count.judged) + (f"/{count.planned}" if count.missing else "")
        told = ", ".join(f"{len(rows)} {kind}" for kind, rows in step.kinds.items()) if step else ""
        board = [fit(console, column.board)] if len(beside.boards) > 1 else []
        table.add_row(
            Text(fit(console, column.kernel), style="bold"), *board, judged, str(count.passed),
            str(count.known), str(count.skipped),
            Text(str(count.bad), style="bold" if count.bad else ""),
            told or ("nothing" if step else ""),
        )  # fmt: skip
    console.print(table, highlight=False)
    console.print()


def _print_changes(
    console: Console,
    beside: Beside,
    changing: Sequence[tuple[Row, list[Record | None]]],
    signs: bool,
) -> None:
    """Cells with the same memory class, condition and fate make one row."""
    alike: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[Row]] = {}
    for row, records in changing:
        squares = tuple(_squares(records, signs))
        alike.setdefault((row.memory, row.condition, squares), []).append(row)
    same = len(beside.rows) - len(changing)
    console.print(Text(f"{len(changing)} cells differ, {same} do not", style="bold"))
    if not alike:
        console.print()
        return
    steady = {condition for _, condition, _ in alike} == {"steady"}
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("memory class", overflow="fold", min_width=12)
    table.add_column("direction", no_wrap=True)
    if not steady:
        table.add_column("condition", overflow="fold", min_width=8)
    for head in _heads(beside):
        table.add_column(fit(console, head), no_wrap=True, justify="center")
    table.add_column("cells", justify="right", no_wrap=True)
    for (memory, condition, found), rows in list(alike.items())[:_SHOWN]:
        ways = {row.direction for row in rows}
        names = [fit(console, memory), "both" if len(ways) > 1 else fit(console, *ways)]
        names += [] if steady else [fit(console, condition)]
        texts = [Text(fit(console, sign), style=style) for sign, style in found]
        table.add_row(*names, *texts, str(len(rows)))
    console.print(Padding(table, (0, 0, 0, 2), expand=False), highlight=False)
    if (more := len(alike) - _SHOWN) > 0:
        console.print(Text(f"  and {more} more rows: the HTML has all", style="dim"))
    console.print()


def _squares(records: Sequence[Record | None], signs: bool) -> Iterator[tuple[str, str]]:
    """Sign and style of each; the errno in place of the sign where only that differs."""
    marks = [MISSING if record is None else mark_of(record) for record in records]
    alike = len({mark.sign for mark in marks if mark is not MISSING}) < 2
    for mark, record in zip(marks, records, strict=True):
        sign = mark.sign if signs else mark.plain
        yield ((record and alike and answer(record)) or sign, mark.style)


def _heads(beside: Beside) -> list[str]:
    """Kernels by series, as long as that tells them apart."""
    series = [".".join(column.kernel.split(".")[:2]) for column in beside.columns]
    if len(set(series)) == len(series):
        return series
    return [column.kernel for column in beside.columns]
