# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs over several kernels: guests side by side, and no guest's place empty while there is work.

Each place takes the first thing to do in the order of the runs: another guest for a run that has
cells left, or the first guest of the next run.  So the next kernel boots while the last cells of
the one before it are judged.  What needs no guest, fetching and unpacking and packing, is done
ahead by a thread of its own.
"""

from __future__ import annotations

import enum
import os
import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from hil.lab import doctor
from hil.lab.board import Machine

_END_SECONDS = 60.0
_GUEST_MEMORY = 2 << 30
"""Bytes of memory that a guest dirties at the most, 1 GiB huge page and all."""


def side_by_side(machines: Sequence[Machine]) -> int:
    """How many guests of such machines are worth running at a time on this one."""
    cores = len(os.sched_getaffinity(0)) // max(m.cpus_for_cells for m in machines)
    memory = doctor.available_memory() // _GUEST_MEMORY
    return max(1, min(cores, memory))


class Job(Protocol):
    """One run.  Its methods are called from several threads; an exception ends this run alone."""

    def prepare(self) -> None:
        """Do what needs no guest."""

    def begin(self) -> None:
        """Start the first guest and see what there is to do."""

    def work(self) -> None:
        """Use a guest until nothing is left for it."""

    def wants_guest(self) -> bool:
        """Whether another guest would be of use."""

    def finish(self) -> None:
        """Nobody works on it any more."""

    def stop(self) -> None:
        """Make `begin` and `work` come to their end at once."""


J = TypeVar("J", bound=Job)


class _State(enum.Enum):
    WAITING = enum.auto()
    READY = enum.auto()
    BEGINNING = enum.auto()
    RUNNING = enum.auto()
    CLOSING = enum.auto()
    ENDED = enum.auto()


class _Entry(Generic[J]):
    """What the fleet knows of one job."""

    def __init__(self, job: J) -> None:
        self.job = job
        self.state = _State.WAITING
        self.guests = 0
        self.error: BaseException | None = None


class Fleet(Generic[J]):
    """Jobs in their order, and places for so many guests at a time."""

    def __init__(self, jobs: Sequence[J], places: int) -> None:
        self._jobs = jobs
        self._entries: list[_Entry[J]] = [_Entry(job) for job in jobs]
        self._places = places
        self._changed = threading.Condition()
        self._stopping = False
        self._over: list[tuple[J, BaseException | None]] = []
        self._threads: list[threading.Thread] = []

    def run(self, over: Callable[[J, BaseException | None], None]) -> None:
        """Until all jobs have ended.

        ``over`` is called in this thread for each of them as it ends, with its error where it came
        to one.  Whatever interrupts this ends all guests.
        """
        self._start(self._prepare_all)
        for _ in range(self._places):
            self._start(self._serve)
        try:
            for _ in self._jobs:
                with self._changed:
                    while not self._over:
                        self._changed.wait()
                    ended = self._over.pop(0)
                over(*ended)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every guest, and wait for those who drove them."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for entry in self._entries:
            entry.job.stop()
        # Not for the preparer: what it fetches may take minutes, and half made parts are no harm.
        for thread in self._threads[1:]:
            thread.join(_END_SECONDS)

    def _start(self, what: Callable[[], None]) -> None:
        thread = threading.Thread(target=what, name=what.__name__.strip("_"), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _prepare_all(self) -> None:
        for entry in self._entries:
            if self._stopping:
                return
            try:
                entry.job.prepare()
            except BaseException as error:
                self._end(entry, error)
            else:
                self._becomes(entry, _State.READY)

    def _serve(self) -> None:
        while (entry := self._next()) is not None:
            error: BaseException | None = None
            try:
                if entry.state is _State.BEGINNING:
                    entry.job.begin()
                    self._becomes(entry, _State.RUNNING)
                entry.job.work()
            except BaseException as caught:
                error = caught
                entry.job.stop()  # its other guests: this run is over
            self._leave(entry, error)

    def _next(self) -> _Entry[J] | None:
        """The first job that wants a guest; None when none ever will."""
        with self._changed:
            while not self._stopping:
                for entry in self._entries:
                    if entry.state is _State.READY:
                        entry.state = _State.BEGINNING
                        entry.guests = 1
                        return entry
                    if entry.state is _State.RUNNING and entry.job.wants_guest():
                        entry.guests += 1
                        return entry
                if all(entry.state is _State.ENDED for entry in self._entries):
                    return None
                self._changed.wait()
        return None

    def _becomes(self, entry: _Entry[J], state: _State) -> None:
        with self._changed:
            entry.state = state
            self._changed.notify_all()

    def _leave(self, entry: _Entry[J], error: BaseException | None) -> None:
        """A guest's place is free again; who leaves last closes the run."""
        with self._changed:
            entry.guests -= 1
            entry.error = entry.error or error
            if entry.guests:
                return
            entry.state = _State.CLOSING
        try:
            entry.job.finish()
        except BaseException as caught:
            entry.error = entry.error or caught
        self._end(entry, entry.error)

    def _end(self, entry: _Entry[J], error: BaseException | None) -> None:
        with self._changed:
            entry.state = _State.ENDED
            self._over.append((entry.job, error))
            self._changed.notify_all()
