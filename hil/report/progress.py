# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a run is: a live line on a terminal, a plain line now and then in a pipe."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
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
    further part of the run brings.  A run over several `kernels` has a `part` for each; they may
    be `called` otherwise.  Safe between threads.

    A ``terse`` one says how far it is and nothing else: for runs whose cells are to go bad.
    """

    def __init__(
        self,
        console: Console,
        total: int,
        *,
        kernels: int = 1,
        called: str = "kernels",
        terse: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._total = total
        self._kernels, self._called = kernels, called
        self._terse = terse
        self._clock = clock
        self._done = self._begun = self._ended = 0
        self._counts = dict.fromkeys(Outcome, 0)
        self._cell = self._doing = ""
        self._parts: dict[str, Part] = {}
        self._started = self._said = clock()
        self._first: float | None = None
        self._tenth = self._said_done = 0
        self._lock = threading.RLock()
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

    def part(self, title: str) -> Part:
        """Who tells how the run of one kernel goes; `title` stands before what it says."""
        return Part(self, title if self._kernels > 1 else "")

    def begin(self, cell: str) -> None:
        """The cell in flight."""
        with self._lock:
            self._cell = cell
            if self._first is None:
                # Time left is reckoned from the first cell on: booting says nothing of the cells.
                self._first = self._clock()

    def done(self, record: Mapping[str, Any], title: str = "") -> None:
        """A cell was judged: its journal record."""
        with self._lock:
            self._judged(record, f"{title} " if title else "")

    def _judged(self, record: Mapping[str, Any], title: str) -> None:
        outcome = outcome_of(record)
        if self._first is None:
            self._first = self._clock() - float(record.get("seconds") or 0.0)
        self._done += 1
        self._total = max(self._total, self._done)
        self._counts[outcome] += 1
        self._cell = ""
        if outcome.bad and not self._terse:
            mark = mark_of(record)
            line = Text().append(f" {mark.plain} ", mark.style)
            line.append(f" {title}{record['cell']}: ").append(str(record.get("reason") or ""))
            self._print(line)
        if not self._live:
            tenth = self._done * 10 // max(self._total, 1)
            quiet = self._clock() - self._said
            if (tenth > self._tenth and not self._to_begin) or quiet >= _QUIET_SECONDS:
                self._tenth = max(tenth, self._tenth)
                self._say()

    def note(self, text: str) -> None:
        """A line that stays: "booting", "the guest is gone, booting again"."""
        with self._lock:
            if not self._terse:
                self._print(Text(text))

    def tell(self, line: str) -> None:
        """Words that stay, wrapped as the console does."""
        with self._lock:
            if not self._terse:
                self._console.print(line, highlight=False, markup=False)

    def doing(self, what: str) -> None:
        """What is being done while there is no cell in flight; only a terminal shows it."""
        self._doing = what

    def add(self, cells: int) -> None:
        """So many more cells are to come."""
        with self._lock:
            self._total += cells
            self._begun += 1

    @property
    def bad(self) -> int:
        """Cells so far that make the run exit with 1."""
        return sum(count for outcome, count in self._counts.items() if outcome.bad)

    @property
    def _to_begin(self) -> int:
        """Kernels of which it is not known yet how many cells they have."""
        return max(0, self._kernels - max(self._begun, 1, self._ended))

    def seconds_left(self) -> float | None:
        """Estimate from the cells judged so far; None before the first.

        Kernels that are still to begin are taken to have as many cells as the others.
        """
        if self._first is None or not self._done:
            return None
        to_come = self._to_begin * self._total / max(self._begun, 1)
        left = self._total - self._done + to_come
        return (self._clock() - self._first) / self._done * left

    def _summary(self) -> str:
        parts = []
        if self._kernels > 1:
            parts.append(f"{self._ended}/{self._kernels} {self._called}")
        parts.append(f"{self._done}/{self._total}{'+' * bool(self._to_begin)} cells")
        parts.append(f"{self.bad} bad")
        parts.append(f"{self._counts[Outcome.KNOWN]} known")
        parts.append(f"{self._counts[Outcome.SKIP]} not applicable")
        left = self.seconds_left()
        if self._done >= self._total and not self._to_begin:
            parts.append(f"took {clock(self._clock() - self._started)}")
        elif left is not None:
            parts.append(f"{clock(left)} left")
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

    def _render(self) -> Group:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=max(10, self._console.width // 5))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
        bar = ProgressBar(
            total=max(self._total + round(self._to_begin * self._total / max(self._begun, 1)), 1),
            completed=self._done,
            complete_style=VERMILION if self.bad else BLUE,
            finished_style=VERMILION if self.bad else GREEN,
        )
        style = "bold" if self.bad else ""
        alone = "" if self._kernels > 1 else self._cell or self._doing
        cell = Text(fit(self._console, alone), style="dim")
        summary = self._summary() if self._total or self._kernels > 1 else ""
        table.add_row(bar, Text(summary, style=style), cell)
        with self._lock:
            lines = [fit(self._console, part.line()) for part in self._parts.values()]
        return Group(
            table, *(Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in lines)
        )


class Part:
    """The run of one kernel among others, as `Progress` shows it: a line of its own while it runs.

    Called, it takes what is being done (hil.lab.progress.Say).
    """

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress, self.title = progress, title
        self._doing = self._cell = ""
        self._done = self._total = 0

    def __call__(self, what: str, done: float | None = None) -> None:
        if what.startswith("note:"):
            self.note(what)
            return
        fresh, self._doing = what != self._doing, what
        self._shown()
        self._progress.doing(what if done is None else f"{what} {done:.0%}")
        if fresh and not self._progress._live and not self._progress._terse:
            print(f"{self._lead}{what}", file=sys.stderr, flush=True)

    def begin(self, cell: str) -> None:
        """The cell in flight."""
        self._cell, self._doing = cell, ""
        self._progress.begin(cell)

    def done(self, record: Mapping[str, Any]) -> None:
        """A cell was judged."""
        self._done += 1
        self._progress.done(record, self.title)

    def note(self, text: str) -> None:
        """A line that stays."""
        self._progress.note(f"{self._lead}{text}")

    def tell(self, line: str) -> None:
        """Words that stay."""
        self._progress.tell(f"{self._lead}{line}")

    def add(self, cells: int) -> None:
        """So many cells are to come."""
        self._total += cells
        self._shown()
        self._progress.add(cells)

    def ended(self) -> None:
        """This kernel is done with."""
        with self._progress._lock:
            self._progress._ended += 1
            self._progress._said_done = -1
            self._progress._parts.pop(self.title, None)

    def line(self) -> str:
        """What a terminal shows of it."""
        count = f"{self._done}/{self._total}  " if self._total else ""
        return f"  {self.title:<6} {count}{self._doing or self._cell}"

    @property
    def _lead(self) -> str:
        return f"{self.title}: " if self.title else ""

    def _shown(self) -> None:
        if self.title:
            with self._progress._lock:
                self._progress._parts[self.title] = self


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
