# SPDX-License-Identifier: GPL-2.0-or-later
"""What came of the faults, as a table: on the terminal, and in docs/bug-finding.md."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hil.errors import HilError
from hil.faults.catalogue import UNCHANGED, Fault
from hil.faults.hunt import GOOD, Came, Result
from hil.lab.board import ROOT
from hil.report.text import fit

PAGE = ROOT / "docs" / "bug-finding.md"
_BEGIN = "<!-- measured: hil faults --write writes from here -->"
_END = "<!-- measured: to here -->"
_SHOWN = 2


def line(result: Result) -> str:
    """One result, as it comes."""
    return f"{result.fault}: {result.came}{_by(result)} ({result.seconds:.1f} s)"


def _by(result: Result) -> str:
    if result.came is Came.NOT_RUN:
        return f": {result.reason.partition(chr(10))[0]}"
    if not result.verdicts:
        return f", {result.tried} cells"
    return f", {verdicts(result)}; {result.reason}" if result.reason else f", {verdicts(result)}"


def verdicts(result: Result) -> str:
    """The bad verdicts of a run, the most frequent first: ``3 leak, 1 hang``."""
    counts = sorted(result.verdicts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {verdict}" for verdict, count in counts)


def by_cells(result: Result, shown: int = _SHOWN, quote: str = "") -> str:
    """Which cells told, the first few of them, each in quotes."""
    more = len(result.cells) - shown
    first = ", ".join(f"{quote}{cell}{quote}" for cell in result.cells[:shown])
    return first + (f" and {more} more" if more > 0 else "")


def show(console: Console, results: Sequence[Result]) -> None:
    """The whole table, and what to look at next."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("fault", "came to", "verdicts", "cells that named it", "time"):
        table.add_column(name, justify="right" if name == "time" else "left", overflow="fold")
    for one in results:
        style = "" if one.came in GOOD else "bold"
        told = by_cells(one) or one.reason.partition("\n")[0]
        table.add_row(
            one.fault, f"[{style}]{one.came}[/]" if style else str(one.came), verdicts(one),
            fit(console, told), f"{one.seconds:.1f} s",
        )  # fmt: skip
    console.print(table)
    console.print(summary(results), highlight=False)
    for one in results:
        if one.came not in GOOD and one.run:
            console.print(f"{one.fault}: hil show {one.run}", highlight=False, soft_wrap=True)


def summary(results: Sequence[Result]) -> str:
    """One line with the counts."""
    faults = [one for one in results if one.fault != UNCHANGED]
    caught = sum(one.came is Came.CAUGHT for one in faults)
    controls = [one for one in results if one.fault == UNCHANGED]
    clean = sum(one.came is Came.CLEAN for one in controls)
    seconds = sum(one.seconds for one in results)
    return (
        f"{caught} of {len(faults)} faults caught by their name, {clean} of {len(controls)} "
        f"unchanged builds clean, {seconds:.0f} s"
    )


def write(
    results: Sequence[Result], faults: Iterable[Fault], kernel: str, page: Path = PAGE
) -> None:
    """Put the table into the page, between its two marks; HilError where they are not there."""
    text = page.read_text()
    head, begin, rest = text.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not begin or not end:
        raise HilError(f"{page} lacks the marks between which the table goes", f"{_BEGIN} {_END}")
    page.write_text(f"{head}{begin}\n\n{markdown(results, faults, kernel)}\n{end}{tail}")


def markdown(results: Sequence[Result], faults: Iterable[Fault], kernel: str) -> str:
    """The table for documentation."""
    summaries: Mapping[str, str] = {fault.name: fault.summary for fault in faults}
    rows = [
        f"Linux {kernel}, {time.strftime('%F', time.gmtime())}: {summary(results)}.",
        "",
        "| fault | what was changed | board | came to | verdicts | cells that named it | time |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results:
        what = summaries.get(one.fault, "the same modules, nothing edited")
        cells = by_cells(one, shown=1, quote="`")
        rows.append(
            f"| {one.fault} | {what} | {one.board} | {one.came} | {verdicts(one)} | {cells} | "
            f"{one.seconds:.1f} s |"
        )
    return "\n".join([*rows, ""])
