# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of several kernels as a table on the terminal: totals, and only what differs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hil.report.beside import Beside, Record, Row
from hil.report.marks import MISSING, Mark, legend, mark_of
from hil.report.text import fit, signs_fit
from hil.runs.diff import answer
from hil.runs.folder import RunFolder
from hil.runs.outcome import Outcome, outcome_of

_SHOWN = 60
_SHORT = {"capture": "cap", "output": "out"}


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
    for column, step in zip(beside.columns, beside.steps, strict=True):
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
    """Cells with the same memory class, condition and fate make one line."""
    alike: dict[tuple[str, str, tuple[Mark, ...]], list[Row]] = {}
    errnos: dict[tuple[str, str, str], list[Row]] = {}
    heads = _heads(beside)
    for row, records in changing:
        marks = tuple(MISSING if record is None else mark_of(record) for record in records)
        if len(set(marks) - {MISSING}) > 1:
            alike.setdefault((row.memory, row.condition, marks), []).append(row)
        else:
            errnos.setdefault((row.memory, row.condition, _spans(heads, records)), []).append(row)
    same = len(beside.rows) - len(changing)
    console.print(Text(f"{len(changing)} cells differ, {same} do not", style="bold"))
    labels = [[memory, _way(rows)] for (memory, _, _), rows in alike.items()]
    if any(condition != "steady" for _, condition, _ in alike):
        for label, (_, condition, _) in zip(labels, alike, strict=True):
            label.append(condition)
    lines = [
        ([Text(mark.sign if signs else mark.plain, style=mark.style) for mark in marks], len(rows))
        for (_, _, marks), rows in alike.items()
    ]
    _print_lines(console, heads, labels[:_SHOWN], lines[:_SHOWN])
    if (more := len(alike) - _SHOWN) > 0:
        console.print(Text(f"  and {more} more lines: the HTML has all", style="dim"))
    if errnos:
        console.print(Text("Only the errno differs", style="bold"))
    for (memory, condition, told), rows in list(errnos.items())[:_SHOWN]:
        during = "" if condition == "steady" else f", {condition}"
        text = f"  {memory}, {_way(rows)}{during}: {told}  ({len(rows)})"
        console.print(Text(fit(console, text)), highlight=False, soft_wrap=True)
    console.print()


def _print_lines(
    console: Console,
    heads: Sequence[str],
    labels: Sequence[Sequence[str]],
    lines: Sequence[tuple[Sequence[Text], int]],
) -> None:
    """Labels as wide as there is room for, then a square a kernel, never broken or left out."""
    if not labels:
        return
    widths = [
        max(len(head), *(len(squares[place]) for squares, _ in lines)) + 1
        for place, head in enumerate(heads)
    ]
    names = ["memory class", "way", "condition"][: len(labels[0])]
    label_widths = [max(map(len, column)) + 1 for column in zip(names, *labels, strict=True)]
    room = console.width - 8 - sum(widths)
    for place in (0, 2):  # what is longest is cut first, but stays legible
        if (over := sum(label_widths) - room) > 0 and place < len(label_widths):
            label_widths[place] = max(16, label_widths[place] - over)
    head = [Text(head, style="dim") for head in heads]
    for label, squares, count in [
        (names, head, "cells"),
        *((label, squares, str(n)) for label, (squares, n) in zip(labels, lines, strict=True)),
    ]:
        line = Text("  ")
        for word, width in zip(label, label_widths, strict=True):
            cut = word if len(word) < width else word[: width - 2] + "~"
            line.append(fit(console, cut).ljust(width), "dim" if label is names else "")
        for square, width in zip(squares, widths, strict=True):
            line.append_text(square).append(" " * (width - len(square)))
        line.append(count.rjust(5), "dim")
        console.print(line, highlight=False, soft_wrap=True)


def _way(rows: Sequence[Row]) -> str:
    ways = {row.direction for row in rows}
    return "both" if len(ways) > 1 else _SHORT.get(*ways, *ways)


def _spans(heads: Sequence[str], records: Sequence[Record | None]) -> str:
    """Which errno from which kernel on: "5.10 EFAULT, 6.12 EOVERFLOW"."""
    told: list[str] = []
    last: str | None = None
    for head, record in zip(heads, records, strict=True):
        if record is not None and (errno := answer(record) or "not made") != last:
            told.append(f"{errno} from {head} on" if told else errno)
            last = errno
    return ", ".join(told)


def _heads(beside: Beside) -> list[str]:
    """Kernels by series, as long as that tells them apart."""
    series = [".".join(column.kernel.split(".")[:2]) for column in beside.columns]
    if len(set(series)) == len(series):
        return series
    return [column.kernel for column in beside.columns]
