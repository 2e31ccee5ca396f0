# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs cells on a virtual board from outside it: a guest may oops, hang or vanish at any cell.

The supervisor sees the journal grow.  When it does not, or the guest is gone, the cell in flight gets
the verdict, the guest is started again, and the rest goes on.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from hil.cells import Cell
from hil.errors import HilError
from hil.lab.qemu import LostVmError
from hil.lab.virtual import Guest, VirtualBoard
from hil.runs.journal import Journal, Record
from hil.runs.suite import make_record
from hil.system import release
from hil.verdicts import Verdict

GRACE = 12.0
"""Seconds beyond a cell's own deadline until a guest that says nothing counts as hanging: the suite
in the guest needs some to kill the child and to read its stack."""
_LAST_WORDS = 1.0
_FRUITLESS = 3


class Watcher(Protocol):
    """Who is told how the run goes on."""

    def begin(self, cell: str) -> None: ...
    def done(self, record: Record) -> None: ...
    def note(self, text: str) -> None: ...


class IncompleteError(Exception):
    """The run could not be completed; what was judged is in the journal."""


class Supervisor:
    """One run of chosen cells on one board."""

    def __init__(
        self, board: VirtualBoard, journal: Journal, console: Path, watcher: Watcher, timeout: float
    ) -> None:
        self.board, self.journal, self.console = board, journal, console
        self.watcher, self.timeout = watcher, timeout
        self.starts: list[dict[str, Any]] = []
        """How each guest was started and what it cost: how, seconds to the first cell."""

    def run(self, first: Guest, cells: Iterable[str]) -> None:
        """Run ``cells``, beginning in the guest ``first``; IncompleteError when it cannot go on."""
        left = dict.fromkeys(cells)
        guest: Guest | None = first
        fruitless = 0
        try:
            while left:
                if guest is None:
                    guest = self.board.start(self.console)
                before = len(left)
                again = self._drive(guest, left)
                guest.close()
                guest = None
                fruitless = 0 if len(left) < before else fruitless + 1
                if left and not again:
                    raise IncompleteError(f"the guest ended with {len(left)} cells to go")
                if fruitless >= _FRUITLESS:
                    raise IncompleteError(
                        f"{_FRUITLESS} guests in a row died before a cell; see {self.console}"
                    )
        finally:
            if guest is not None:
                guest.close()

    def _drive(self, guest: Guest, left: dict[str, None]) -> bool:
        """Run what is left in this guest until it ends; False when nothing more can come of it."""
        suite = guest.suite
        vm = guest.vm
        in_flight: str | None = None
        try:
            vm.send({"run": list(left), "timeout": self.timeout})
            while True:
                heard = False
                deadline = time.monotonic() + self.timeout + GRACE
                for line in vm.lines(deadline):
                    heard = True
                    message = _decode(line)
                    if "begin" in message:
                        in_flight = message["begin"]
                        self._began(guest)
                        self.watcher.begin(in_flight)
                    elif "cell" in message:
                        in_flight = None
                        left.pop(message["cell"], None)
                        self._keep(message)
                        if _unfit(message):
                            return True
                    elif message.get("event") in ("finished", "exit"):
                        return bool(left) and message.get("event") == "finished"
                    break  # a new deadline for each line
                if not heard:
                    break
        except LostVmError:
            pass
        self._lost(guest, suite, in_flight, left)
        return True

    def _began(self, guest: Guest) -> None:
        if guest.how:
            seconds = time.monotonic() - guest.vm.started
            self.starts.append({"how": guest.how, "seconds": round(seconds, 3)})
            guest.how = ""

    def _lost(
        self, guest: Guest, suite: Mapping[str, Any], in_flight: str | None, left: dict[str, None]
    ) -> None:
        """Judge the cell in which the guest went silent or down."""
        vm = guest.vm
        silent = vm.alive
        if silent:
            # The last question: every CPU's stack on the console, by way of unknown_nmi_panic.
            with contextlib.suppress(LostVmError):
                vm.qmp("inject-nmi")
            vm.listen(_LAST_WORDS + 2)
        else:
            vm.listen(_LAST_WORDS)
        what = "said nothing for too long" if silent else "went down"
        if in_flight is None:
            self.watcher.note(f"the guest {what} between cells; starting it again")
            return
        cell = Cell.parse(in_flight)
        pinner = next(p for p in suite["pinners"] if p["name"] == cell.pinner)
        evidence = {
            "stage": "machine",
            "setup": None,
            "machine_lost": "hang" if silent else "crash",
            "console": vm.tail(120).splitlines(),
        }
        record = make_record(
            cell, pinner["driver"], pinner["family"], release.parse(suite["kernel"]), evidence, 0.0
        )
        left.pop(in_flight, None)
        self._keep(record)
        self.watcher.note(f"the guest {what} in {in_flight}; starting it again")

    def _keep(self, record: Record) -> None:
        self.journal.write(record)
        self.watcher.done(record)


def _unfit(record: Record) -> bool:
    """Whether the guest stops after this record (fixtures/guest.py)."""
    return record["verdict"] in (Verdict.HANG, Verdict.KERNEL_WARNING, Verdict.CRASH)


def _decode(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        return {}  # a guest that dies may leave half a line
    return message if isinstance(message, dict) else {}


def select(
    guest: Guest, keywords: str, marks: str, done: Iterable[str] = ()
) -> list[str]:
    """The guest's cells that pytest's -k and -m expressions choose, without those already done.

    Evaluated here with pytest's own expressions, so that a restored guest need not.
    """
    from _pytest.mark.expression import Expression

    def compiled(text: str, option: str) -> Expression | None:
        try:
            return Expression.compile(text) if text else None
        except SyntaxError as error:
            raise HilError(
                f"{option} {text!r} is not an expression pytest understands: {error}",
                "Words joined by and, or, not: -k 'hugetlb and not 1g'.",
            ) from error

    by_name, by_mark = compiled(keywords, "-k"), compiled(marks, "-m")
    skip = set(done)
    chosen = []
    for cell in guest.cells:
        if cell in skip:
            continue
        names = f"test_pinning[{cell}]".lower()
        own = {"hw", "slow"} if cell in guest.slow else {"hw"}
        if by_name and not by_name.evaluate(_contains(names)):
            continue
        if by_mark and not by_mark.evaluate(_among(own)):
            continue
        chosen.append(cell)
    return chosen


def _contains(text: str) -> Callable[..., bool]:
    return lambda word, **_: word.lower() in text


def _among(names: set[str]) -> Callable[..., bool]:
    return lambda name, **_: name in names
