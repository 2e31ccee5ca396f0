# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a run is: a live line on a terminal, a plain line now and then in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hil.report.marks import BLUE, GREEN, VERMILION, mark_of
from hil.report.text import fit
from hil.runs.outcome import Outcome, outcome_of

# In a pipe: a line each tenth of the cells, and after so many seconds without one.
_QUIET_SECONDS = 15.0
_REFRESH = 4


class Progress:
    """Shows cells done of `total`, bad and known so far, time left, and the cell in flight.

    Bad cells are printed as they come and stay on the screen.  `add` says how many more cells a
    further part of the run brings.
    """

    def __init__(
        self, console: Console, total: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console
        self._total = total
        self._clock = clock
        self._done = 0
        self._counts = dict.fromkeys(Outcome, 0)
        self._cell = ""
        self._started = self._said = clock()
        self._first: float | None = None
        self._tenth = self._said_done = 0
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(
                console=console,
                get_renderable=self._render,
                refresh_per_second=_REFRESH,
                transient=True,
            )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()
        self._say()

    def begin(self, cell: str) -> None:
        """The cell in flight."""
        self._cell = cell
        if self._first is None:
            # Time left is reckoned from the first cell on: booting says nothing of the cells.
            self._first = self._clock()

    def done(self, record: Mapping[str, Any]) -> None:
        """A cell was judged: its journal record."""
        outcome = outcome_of(record)
        if self._first is None:
            self._first = self._clock() - float(record.get("seconds") or 0.0)
        self._done += 1
        self._total = max(self._total, self._done)
        self._counts[outcome] += 1
        self._cell = ""
        if outcome.bad:
            mark = mark_of(record)
            line = Text().append(f" {mark.plain} ", mark.style)
            line.append(f" {record['cell']}: ").append(str(record.get("reason") or ""))
            self._print(line)
        if not self._live:
            tenth = self._done * 10 // max(self._total, 1)
            quiet = self._clock() - self._said
            if tenth > self._tenth or quiet >= _QUIET_SECONDS:
                self._tenth = max(tenth, self._tenth)
                self._say()

    def note(self, text: str) -> None:
        """A line that stays: "booting", "the guest is gone, booting again"."""
        self._print(Text(text))

    def add(self, cells: int) -> None:
        """So many more cells are to come."""
        self._total += cells

    @property
    def bad(self) -> int:
        """Cells so far that make the run exit with 1."""
        return sum(count for outcome, count in self._counts.items() if outcome.bad)

    def seconds_left(self) -> float | None:
        """Estimate from the cells judged so far; None before the first."""
        if self._first is None or not self._done:
            return None
        return (self._clock() - self._first) / self._done * (self._total - self._done)

    def _summary(self) -> str:
        parts = [f"{self._done}/{self._total} cells", f"{self.bad} bad"]
        parts.append(f"{self._counts[Outcome.KNOWN]} known")
        parts.append(f"{self._counts[Outcome.SKIP]} not applicable")
        left = self.seconds_left()
        if self._done >= self._total:
            parts.append(f"took {_clock(self._clock() - self._started)}")
        elif left is not None:
            parts.append(f"{_clock(left)} left")
        return ", ".join(parts)

    def _say(self) -> None:
        """One line of plain text, for a pipe or for the end."""
        self._said = self._clock()
        if self._done and self._done != self._said_done:
            self._said_done = self._done
            self._print(Text(self._summary()))

    def _print(self, line: Text) -> None:
        line.plain = fit(self._console, line.plain)
        self._console.print(line, highlight=False, soft_wrap=True)

    def _render(self) -> Table:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=max(10, self._console.width // 5))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
        bar = ProgressBar(
            total=max(self._total, 1),
            completed=self._done,
            complete_style=VERMILION if self.bad else BLUE,
            finished_style=VERMILION if self.bad else GREEN,
        )
        style = "bold" if self.bad else ""
        cell = Text(fit(self._console, self._cell), style="dim")
        table.add_row(bar, Text(self._summary(), style=style), cell)
        return table


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
