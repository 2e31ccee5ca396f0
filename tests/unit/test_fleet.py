# SPDX-License-Identifier: GPL-2.0-or-later
"""Who gets a guest when: made-up runs that note what is asked of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from hil.errors import NotCompletedError
from hil.lab.fleet import Fleet

SOON = 20.0  # seconds; only a test that fails waits so long


class Run:
    """A run with so many lots of work; each waits until it is let go on."""

    def __init__(self, name: str, lots: int = 1, log: list[str] | None = None) -> None:
        self.name, self.lots = name, lots
        self.log = [] if log is None else log
        self.gate = threading.Event()
        self.gate.set()
        self.working = threading.Semaphore(0)
        self.stopped = False
        self.prepare_error: BaseException | None = None
        self.begin_error: BaseException | None = None
        self.work_error: BaseException | None = None
        self._lock = threading.Lock()

    def prepare(self) -> None:
        if self.prepare_error:
            raise self.prepare_error
        self.log.append(f"prepare {self.name}")

    def begin(self) -> None:
        if self.begin_error:
            raise self.begin_error
        self.log.append(f"begin {self.name}")

    def work(self) -> None:
        while True:
            with self._lock:
                if not self.lots or self.stopped:
                    return
                self.lots -= 1
            self.working.release()
            self.log.append(f"work {self.name}")
            assert self.gate.wait(SOON)
            if self.work_error:
                raise self.work_error

    def wants_guest(self) -> bool:
        return self.lots > 0 and not self.stopped

    def finish(self) -> None:
        self.log.append(f"finish {self.name}")

    def stop(self) -> None:
        self.stopped = True
        self.gate.set()


def ran(runs: Sequence[Run], places: int = 2) -> list[tuple[str, BaseException | None]]:
    ended: list[tuple[str, BaseException | None]] = []
    Fleet(runs, places).run(lambda run, error: ended.append((run.name, error)))
    return ended


def test_runs_go_in_their_order_and_each_ends_once() -> None:
    log: list[str] = []
    assert ran([Run(name, 2, log) for name in "abc"], 1) == [(n, None) for n in "abc"]
    assert [line for line in log if "prepare" not in line] == [
        line for n in "abc" for line in (f"begin {n}", f"work {n}", f"work {n}", f"finish {n}")
    ]


def test_the_next_kernel_boots_while_the_last_cells_of_this_one_run() -> None:
    log: list[str] = []
    first, second = Run("a", 1, log), Run("b", 1, log)
    first.gate.clear()

    def let_go() -> None:
        assert second.working.acquire(timeout=SOON)  # it works although the first has not ended
        first.gate.set()

    watcher = threading.Thread(target=let_go)
    watcher.start()
    ended = ran([first, second])
    watcher.join()
    assert {name for name, _ in ended} == {"a", "b"}
    assert log.index("work b") < log.index("finish a")


def test_places_that_are_free_help_with_the_same_kernel_first() -> None:
    run = Run("a", 2)
    run.gate.clear()

    def let_go() -> None:
        for _ in range(2):  # both lots at the same time
            assert run.working.acquire(timeout=SOON)
        run.gate.set()

    watcher = threading.Thread(target=let_go)
    watcher.start()
    assert ran([run]) == [("a", None)]
    watcher.join()


@pytest.mark.parametrize("where", ["prepare_error", "begin_error", "work_error"])
def test_a_kernel_that_fails_costs_itself_alone(where: str) -> None:
    bad = Run("bad", 2)
    error = NotCompletedError("it does not come up")
    setattr(bad, where, error)
    ended = dict(ran([Run("a"), bad, Run("b")]))
    assert ended == {"a": None, "bad": error, "b": None}
    assert ("finish bad" in bad.log) == (where != "prepare_error")
    assert bad.stopped == (where != "prepare_error")


def test_an_interruption_ends_every_guest_and_waits_for_their_ends() -> None:
    log: list[str] = []
    runs = [Run("a", 1, log), Run("b", 5, log), Run("c", 5, log)]
    for run in runs[1:]:
        run.gate.clear()

    def over(run: Run, error: BaseException | None) -> None:
        raise KeyboardInterrupt

    fleet = Fleet(runs, 2)
    with pytest.raises(KeyboardInterrupt):
        fleet.run(over)
    assert all(run.stopped for run in runs)
    begun = {line.split()[1] for line in log if line.startswith("begin")}
    assert begun == {line.split()[1] for line in log if line.startswith("finish")}
    assert log.count("work b") + log.count("work c") < 10
