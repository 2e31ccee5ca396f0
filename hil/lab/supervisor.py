# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs cells on a virtual board from outside it: a guest may oops, hang or vanish at any cell.

The supervisor sees the journal grow.  When it does not, or the guest is gone, the cell in flight
gets the verdict, the guest is started again, and the rest goes on.  Who is to blame:

* the guest reset itself, powered off, or is silent although the host gave it CPU time: the cell in
  flight (``crash``, ``hang``), or the last one when that is over;
* the suite in the guest ended, or lost a cell: nobody but itself (``harness-error``);
* QEMU was killed, a device model beside it failed, the host starved the guest, or the emulator
  failed it: the cell runs once more.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from hil.cells import Cell
from hil.errors import HilError
from hil.lab import emulator
from hil.lab.lots import Lots
from hil.lab.qemu import LostVmError, patient_line
from hil.lab.running import Guest
from hil.lab.virtual import VirtualBoard
from hil.runs.journal import Journal, Record
from hil.runs.suite import make_record, unfit
from hil.system import release
from hil.verdicts import Verdict

GRACE = 12.0
"""Seconds beyond a cell's own deadline until a guest that says nothing counts as hanging: the suite
in the guest needs some to kill the child and to read its stack."""
_LAST_WORDS = 1.5
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
        self,
        board: VirtualBoard,
        journal: Journal,
        console: Path,
        watcher: Watcher,
        timeout: float,
        *,
        seed: int = 1,
    ) -> None:
        self.board, self.journal, self.console = board, journal, console
        self.watcher, self.timeout, self.seed = watcher, timeout, seed
        self.lots = Lots(())
        """What is left to be handed out."""
        self.starts: list[dict[str, Any]] = []
        """How each guest was started and what it cost: how, seconds to the first cell."""
        self.stopping = False
        """Set when the run ends early: guests are killed, and nothing is said of their cells."""
        self._second_chance: set[str] = set()
        self._guests: set[Guest] = set()
        self._consoles: set[int] = set()
        self._lock = threading.RLock()

    def run(self, first: Guest, cells: Iterable[str]) -> None:
        """Run ``cells``, one guest after the other, beginning in the guest ``first``.

        A cell that is named several times runs as often, in one guest as long as that is fit.
        IncompleteError when it cannot go on.
        """
        self.lots = Lots(cells)
        self.work(first)

    def work(self, first: Guest | None = None) -> None:
        """One guest after the other until nothing is left to hand out; IncompleteError.

        Several threads may do that at a time: each guest takes its lots, and has its console.
        """
        with self._lock:
            number = next(n for n in range(1, len(self._consoles) + 2) if n not in self._consoles)
            self._consoles.add(number)
        try:
            self._work(first, self.console if number == 1 else _sibling(self.console, number))
        finally:
            self._consoles.discard(number)

    def stop(self) -> None:
        """End every guest; the threads that drive them come to their end by that."""
        with self._lock:
            self.stopping = True
            for guest in tuple(self._guests):
                guest.vm.terminate()

    def _enlist(self, guest: Guest) -> bool:
        """Remember a guest that is to be ended when the run ends early; False when it has."""
        with self._lock:
            self._guests.add(guest)
            return not self.stopping

    def _work(self, first: Guest | None, console: Path) -> None:
        guest, fruitless = first, 0
        left: Counter[str] = Counter()
        try:
            while not self.stopping:
                left = left or self.lots.take(fresh=True)
                if not left:
                    return
                if guest is None:
                    guest = self._start(console)
                with guest:
                    drive = _Drive(self, guest, left)
                    if self._enlist(guest):
                        drive.run()
                self._guests.discard(guest)
                guest = None
                if self.stopping:
                    return
                fruitless = 0 if drive.judged else fruitless + 1
                if fruitless >= _FRUITLESS:
                    raise IncompleteError(
                        f"{_FRUITLESS} guests in a row died before a cell was judged; "
                        f"see {self.console}"
                    )
                if fruitless:
                    self.board.distrust()
        finally:
            if guest is not None:
                guest.close()

    def _start(self, console: Path) -> Guest:
        try:
            return self.board.start(console)
        except HilError as error:
            raise IncompleteError(f"the guest cannot be started again: {error}") from error

    def begin(self, cell: str) -> None:
        """To who watches."""
        with self._lock:
            self.watcher.begin(cell)

    def note(self, text: str) -> None:
        """To who watches."""
        with self._lock:
            self.watcher.note(text)

    def keep(self, record: Record) -> None:
        """Into the journal, then to who watches."""
        with self._lock:
            self.journal.write(record)
            self.watcher.done(record)

    def again(self, cell: str) -> bool:
        """Whether the cell, which the host spoilt, may have another try: it gets one."""
        if cell in self._second_chance:
            return False
        self._second_chance.add(cell)
        return True


class _Drive:
    """The run of one guest, from its orders to its end."""

    def __init__(self, supervisor: Supervisor, guest: Guest, left: Counter[str]) -> None:
        self.supervisor, self.guest, self.vm = supervisor, guest, guest.vm
        self.left = left
        self.judged = 0
        """Cells judged or put off; a guest without any was fruitless."""
        self.in_flight: str | None = None
        self.last: Record | None = None
        self._fit = True
        """Whether another cell may run in it."""
        self._waits: dict[str, int] = {}
        self._begun = 0.0

    def run(self) -> None:
        """Until nothing is left to hand out, or the guest is of no more use."""
        supervisor = self.supervisor
        order = {"timeout": supervisor.timeout, "seed": supervisor.seed}
        try:
            while self.left:
                settle = supervisor.lots.nearly_over
                self.vm.send({"run": list(self.left.elements()), "settle": settle, **order})
                while self._take(self._next()):
                    pass
                if self.left or not self._fit:
                    return
                self.left.update(supervisor.lots.take(fresh=False))
        except LostVmError:
            self._lost()

    def _next(self) -> dict[str, Any]:
        """The next message; LostVmError when the guest is gone, or silent although it had CPU."""
        line = patient_line(self.vm, self.supervisor.timeout + GRACE)
        if line is None:
            raise LostVmError("gone or silent")
        return _decode(line)

    def _take(self, message: dict[str, Any]) -> bool:
        """Deal with one message; False when it was the lot's last."""
        event = message.get("event")
        if "begin" in message:
            self._no_record("the suite went on without a record")
            self._began(message["begin"])
        elif "failed" in message:
            self._no_record(str(message.get("error")))
        elif "cell" in message:
            return self._record(message)
        elif event == "finished":
            self._no_record("the suite ended without a record")
            return False
        elif event == "exit":
            self.vm.listen(0.5)
            what = f"the suite in the guest ended with status {message.get('status')}"
            if self.in_flight is None:
                self._note(f"{what} between cells")
            self._no_record(what, console=self.vm.tail(120).splitlines())
            self._fit = False
            return False
        return True

    def _began(self, cell: str) -> None:
        self.in_flight, self._begun, self._waits = cell, time.monotonic(), self.vm.waits()
        if self.guest.how:
            seconds = time.monotonic() - self.vm.started
            self.supervisor.starts.append({"how": self.guest.how, "seconds": round(seconds, 3)})
            self.guest.how = ""
        self.supervisor.begin(cell)

    def _record(self, record: Record) -> bool:
        """Keep the guest's own record of a cell."""
        cell = record["cell"]
        if record["evidence"].get("settled"):  # of two records the last counts
            self.supervisor.journal.write(record)
            self._note(f"the kernel warned when the process of {cell} ended")
            self._fit = not unfit(record)
            return self._fit
        if self.guest.failure():  # what the driver saw of a device that is gone is no evidence
            raise LostVmError("a device model beside it failed")
        self.in_flight = None
        if record["verdict"] == Verdict.HANG:
            starved = self.vm.starved(self._waits)
            if starved > (time.monotonic() - self._begun) / 2 and self.supervisor.again(cell):
                self._note(f"{cell} took too long, but so did the host: once more")
                self.judged += 1  # no fault of the guest
                self._fit = False
                return False
        self._keep(record)
        self._fit = not unfit(record)  # else it stops by itself (fixtures/guest.py)
        return self._fit

    def _keep(self, record: Record) -> None:
        self.left -= Counter((record["cell"],))
        self.judged += 1
        self.last = record
        self.supervisor.keep(record)

    def _no_record(self, error: str, **more: object) -> None:
        """The suite lost the cell in flight: that is its own fault, and no driver's."""
        if self.in_flight is None:
            return
        cell, self.in_flight = self.in_flight, None
        self._keep(self._made(cell, {"stage": "suite", "setup": {"error": error}, **more}))

    def _lost(self) -> None:
        """Judge the cell in which the guest went silent or down."""
        if self.supervisor.stopping:
            return
        status = self.vm.end()
        if status is None and self.vm.failed():
            self._host_did_it(why := "KVM failed the guest: internal error", [])
            self.supervisor.board.without_kvm(why)
            return
        if status is None:
            # The last question: every CPU's stack on the console, by way of unknown_nmi_panic.
            with contextlib.suppress(LostVmError):
                self.vm.nmi()
        self.vm.listen(_LAST_WORDS)
        console = self.vm.tail(120).splitlines()
        if failed := self.guest.failure():
            self._host_did_it(failed, console)
            return
        if status:  # neither the kernel under test nor a driver in it can do that
            self._host_did_it(f"QEMU ended with {status} on the host", console)
            return
        if self.supervisor.board.emulated and (fault := emulator.fault(console)):
            self._host_did_it(f"the guest went down of {fault}", console)
            return
        lost, what = (
            ("hang", "said nothing for too long") if status is None else ("crash", "went down")
        )
        evidence: dict[str, Any] = {
            "stage": "machine", "setup": None, "machine_lost": lost, "console": console,
        }  # fmt: skip
        cell, self.in_flight = self.in_flight, None
        if cell is not None:
            if self.last is not None:
                evidence["cell_before"] = self.last["cell"]
            self._keep(self._made(cell, evidence))
            self._note(f"the guest {what} in {cell}")
        elif self.last is not None:
            # What a cell leaves behind may strike when it is over: of two records the last counts.
            cell = self.last["cell"]
            evidence |= {"stage": "after", "verdict_before": self.last["verdict"]}
            self.supervisor.journal.write(self._made(cell, {**self.last["evidence"], **evidence}))
            self._note(f"the guest {what} right after {cell}")
        else:
            self._note(f"the guest {what} before a cell")

    def _host_did_it(self, what: str, console: list[str]) -> None:
        cell = self.in_flight
        if cell is not None and not self.supervisor.again(cell):
            self._no_record(f"{what}, twice in this cell", console=console)
        elif cell is not None:
            self._note(f"{what} in {cell}: once more")
            self.judged += 1  # no fault of the guest
        else:
            self._note(f"{what} between cells")

    def _made(self, cell_id: str, evidence: Mapping[str, Any]) -> Record:
        suite = self.guest.suite
        cell = Cell.parse(cell_id)
        pinner = next(p for p in suite["pinners"] if p["name"] == cell.pinner)
        kernel = release.parse(suite["kernel"])
        seconds = time.monotonic() - self._begun
        return make_record(
            cell, pinner["driver"], pinner["family"], kernel, evidence, seconds=seconds
        )

    def _note(self, text: str) -> None:
        self.supervisor.note(text)


def _sibling(console: Path, number: int) -> Path:
    return console.with_name(f"{console.stem}-{number}{console.suffix}")


def _decode(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        return {}  # a guest that dies may leave half a line
    return message if isinstance(message, dict) else {}
