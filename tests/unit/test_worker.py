# SPDX-License-Identifier: GPL-2.0-or-later
"""A child that does one piece after another, and whether its process is what it was."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.cells import Cell, Direction
from hil.errors import NotApplicableError
from hil.evidence import log
from hil.memory.base import PAGE, all_classes, place, unmap_all
from hil.memory.bench import Bench
from hil.pinners import io_uring
from hil.runs import child, trial, worker
from hil.runs.footprint import Footprint, Process
from hil.runs.suite import Suite, unfit
from hil.runs.worker import Worker
from hil.verdicts import Verdict

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="proving a buffer needs CAP_SYS_ADMIN")
LONG = 20.0


def work(board: child.Board, order: str) -> dict[str, Any]:
    board.stage = 3
    if order == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "spin":
        while True:
            pass
    if order == "fail":
        raise ValueError("no such piece")
    return {"order": order, "pid": os.getpid()}


@pytest.fixture
def made() -> Iterator[Worker]:
    it = Worker(work, lambda: lambda: True)
    yield it
    it.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def done(it: Worker, order: str, seconds: float = LONG) -> tuple[child.End, dict[str, Any]]:
    it.board.clear()
    board = it.board
    end = it.run(order, seconds)
    return end, board.read()[1]


def test_one_child_does_one_piece_after_another(made: Worker) -> None:
    pids = set()
    for order in ("a", "b", "c"):
        end, result = done(made, order)
        assert (end.hung, end.killed, end.signal, end.exit) == (False, None, None, 0)
        assert result["order"] == order
        pids.add(result["pid"])
    assert len(pids) == 1
    assert made.used == 3
    made.dismiss()
    assert not Path(f"/proc/{pids.pop()}").exists()
    assert done(made, "d")[1]["order"] == "d"


def test_a_child_that_is_not_what_it_was_does_no_more() -> None:
    it = Worker(work, lambda: lambda: False)
    first, second = done(it, "a")[1]["pid"], done(it, "b")[1]["pid"]
    assert first != second
    assert not Path(f"/proc/{second}").exists()
    it.close()


def test_a_child_has_an_end(made: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MOST", 2)
    pids = [done(made, "a")[1]["pid"] for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_the_death_of_a_child_is_told_and_another_goes_on(made: Worker) -> None:
    done(made, "a")
    end, result = done(made, "die")
    assert (end.signal, end.exit, end.hung, result) == (signal.SIGKILL, None, False, {})
    assert made.used == 0
    assert done(made, "b")[1]["order"] == "b"


def test_a_child_that_died_between_two_pieces_costs_none(made: Worker) -> None:
    pid = done(made, "a")[1]["pid"]
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.001)
    assert done(made, "b")[1]["order"] == "b"


def test_a_child_that_hangs_is_killed_at_the_deadline(made: Worker) -> None:
    seen: list[int] = []
    made.board.clear()
    end = made.run("spin", 0.1, seen.append)
    assert (end.hung, end.killed, end.signal) == (True, True, signal.SIGKILL)
    assert len(seen) == 1
    assert made.board.stage == 3
    assert done(made, "b")[1]["order"] == "b"


def test_one_that_no_signal_ends_is_given_up(made: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    board = made.board
    monkeypatch.setattr(child, "KILL_WAIT", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(child, "kill", lambda pid: None)
        end = made.run("spin", 0.1, seen.append)
    assert (end.hung, end.killed, end.exit) == (True, False, None)
    assert made.board is not board, "it may write there yet"
    assert done(made, "b")[1]["order"] == "b"
    os.kill(seen[0], signal.SIGKILL)
    os.waitpid(seen[0], 0)


def test_an_error_of_the_work_is_told(made: Worker) -> None:
    end, result = done(made, "fail")
    assert end.exit == 0
    assert "ValueError('no such piece')" in result["setup"]["error"]
    assert "test_worker.py" in result["setup"]["error"]


def test_an_interrupt_ends_the_child(made: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = done(made, "a")[1]["pid"]

    def interrupted(fd: int, seconds: float) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.run("b", LONG)
    assert not Path(f"/proc/{pid}").exists()


def test_last_words_are_warnings_only(made: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    class Log:
        said: tuple[str, ...] = ("[ 1.0] usb 1-1: new device",)

        def skip(self) -> None:
            assert made.used

        def lines(self) -> list[str]:
            assert not made.used
            return list(self.said)

    fake = Log()
    monkeypatch.setattr(trial, "ready", lambda: (made.board, fake))
    done(made, "a")
    assert trial.last_words(made) == []
    fake.said = (*fake.said, "[ 1.1] BUG: Bad rss-counter state")
    done(made, "a")
    assert trial.last_words(made) == list(fake.said)


# --- is it what it was? ---------------------------------------------------------------------------


def after(change: Callable[[], object]) -> bool:
    """Whether a process that did this may run another cell."""

    def look() -> dict[str, Any]:
        process = Process()
        kept = change()
        return {"fit": process.as_it_was(), "kept": repr(kept)}

    found = child.aside(look, LONG)
    assert found is not None
    return bool(found["fit"])


def test_what_a_cell_may_leave() -> None:
    assert after(lambda: None)
    assert after(lambda: place(4 * PAGE)), "a buffer is taken away"
    assert after(lambda: bytearray(64 << 20)), "heaps grow"


def _thread() -> object:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    return None


def _child() -> object:
    if os.fork() == 0:
        time.sleep(60)
    return None


def _file() -> object:
    with tempfile.TemporaryFile() as file:
        file.truncate(PAGE)
        return mmap.mmap(file.fileno(), PAGE)


@pytest.mark.parametrize("change", [_thread, _child, _file, lambda: os.open("/", os.O_RDONLY)])
def test_what_a_cell_may_not_leave(change: Callable[[], object]) -> None:
    assert not after(change)


def test_the_places_of_buffers_are_given_again() -> None:
    def look() -> dict[str, Any]:
        unmap_all()
        first = place(PAGE)
        place(PAGE)
        unmap_all()
        return {"first": first, "again": place(PAGE)}

    found = child.aside(look, LONG)
    assert found is not None
    assert found["first"] == found["again"]


def _limits() -> dict[str, Any]:
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    status = Path("/proc/self/status").read_text().splitlines()
    return {name: resource.getrlimit(getattr(resource, name)) for name in names} | {
        line.split(":")[0]: line for line in status if line.startswith(("Cap", "Sig", "Shd", "THP"))
    }


@ROOT
@pytest.mark.parametrize("name", [n for n, c in all_classes().items() if not c.alone])
def test_a_class_leaves_its_process_as_it_was(name: str) -> None:
    bench = Bench.find({})
    trial.ready()

    def look() -> dict[str, Any]:
        process, before = Process(), _limits()
        try:
            buffer = all_classes()[name].make(bench, 4 * PAGE, Direction.CAPTURE)
        except NotApplicableError:
            return {"made": False}
        buffer.close()
        seen = repr((Footprint.now(), process._before))
        return {
            "made": True,
            "fit": process.as_it_was(),
            "limits": before == _limits(),
            "seen": seen,
        }

    found = child.aside(look, LONG)
    assert found is not None
    if not found["made"]:
        pytest.skip("it can't be made here")
    assert (found["fit"], found["limits"]) == (True, True), found


# --- cells ----------------------------------------------------------------------------------------


needs_control = pytest.mark.skipif(io_uring.control() is None, reason="no io_uring")


def _cell(memory: str, condition: str = "steady") -> Cell:
    return Cell(io_uring.NAME, memory, Direction.CAPTURE, condition)


@ROOT
@needs_control
def test_cells_share_a_process_unless_they_need_one_of_their_own() -> None:
    suite = Suite(devices=(io_uring.NAME,))
    for count, memory in enumerate(("anonymous", "memfd", "unmapped-last")):
        made = suite.run(_cell(memory))
        assert made["verdict"] in (Verdict.OK, Verdict.NO_RULE)
        assert made["evidence"]["child"]["cells_before"] == count
    assert suite._worker is not None
    assert suite._worker.used == 3
    pid = suite._worker._pid
    for cell in (_cell("over-memlock"), _cell("anonymous", "fork-child-writes")):
        suite.run(cell)
    assert (suite._worker.used, suite._worker._pid) == (3, pid)
    suite.forget()
    assert suite._worker.used == 0


@ROOT
@needs_control
def test_what_fails_in_a_used_process_before_the_call_gets_one_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suite = Suite(devices=(io_uring.NAME,))
    suite.run(_cell("anonymous"))
    real = suite.classes["memfd"]

    def spoilt(*words: Any) -> Any:
        if spoilt_in:
            raise MemoryError("no room")
        return real.make(*words)

    spoilt_in = ["worker"]
    suite.classes["memfd"] = real._replace(make=spoilt)
    suite._dismiss()
    suite.run(_cell("anonymous"))  # the worker knows the class that fails in it
    spoilt_in.clear()  # and the process that comes next does not
    made = suite.run(_cell("memfd"))
    assert made["evidence"]["setup"] is None
    assert (made["evidence"]["stage"], made["evidence"]["child"]["cells_before"]) == ("done", 0)


@ROOT
@needs_control
def test_what_fails_in_a_new_process_is_told() -> None:
    suite = Suite(devices=(io_uring.NAME,))

    def spoilt(*_: Any) -> Any:
        raise MemoryError("no room")

    suite.classes["memfd"] = suite.classes["memfd"]._replace(make=spoilt)
    made = suite.run(_cell("memfd"))
    assert made["verdict"] == Verdict.HARNESS_ERROR
    assert "no room" in made["reason"]


@ROOT
@needs_control
def test_what_the_kernel_says_when_the_process_ends_is_the_last_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suite = Suite(devices=(io_uring.NAME,))
    said = ["[ 1.0] BUG: Bad rss-counter state mm:3 type:MM_FILEPAGES val:-1"]
    assert suite.settle() is None, "nothing ran"
    first = suite.run(_cell("anonymous"))
    suite.run(_cell("over-memlock"))
    assert suite._worker is not None
    pid = suite._worker._pid
    assert suite.settle() is None, "nothing was said"
    assert not Path(f"/proc/{pid}").exists()
    suite.run(_cell("anonymous"))
    monkeypatch.setattr(trial, "last_words", lambda worker: worker.dismiss() or said)
    suite.forget()  # a process that ended meanwhile
    monkeypatch.undo()
    late = suite.settle()
    assert late is not None
    assert late["cell"] == first["cell"] == _cell("anonymous").id
    assert late["verdict"] == Verdict.KERNEL_WARNING
    assert "Bad rss-counter" in late["reason"]
    assert late["evidence"]["settled"]
    assert unfit(late)
    assert suite.settle() is None


# --- warnings of once a boot ----------------------------------------------------------------------


def test_a_warning_that_was_armed_again_leaves_the_machine_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "REARM", tmp_path / "clear_warn_once")
    assert log.rearm()
    assert (tmp_path / "clear_warn_once").read_text() == "1"
    monkeypatch.setattr(log, "REARM", tmp_path / "no" / "debugfs")
    assert not log.rearm()
    record = {"verdict": "kernel-warning", "known": {"once": False, "rearm": True}}
    assert not unfit(record)
    assert unfit(record | {"known": {"once": False, "rearm": False}})
    assert unfit(record | {"known": None})


@ROOT
@needs_control
@pytest.mark.parametrize("works", [True, False])
def test_the_suite_arms_known_warnings_again(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = Suite(devices=(io_uring.NAME,))
    real = trial.run
    asked: list[int] = []

    def warned(*words: Any, **more: Any) -> dict[str, Any]:
        found = real(*words, **more)
        found["log"] = ["[ 1.0] WARNING: CPU: 0 PID: 3 at mm/hugetlb.c:6627 follow_hugetlb_page"]
        found["frames"]["before"]["zones"] = {"0/Movable": 1}
        return found

    monkeypatch.setattr(trial, "run", warned)
    monkeypatch.setattr(log, "rearm", lambda: bool(asked.append(1)) or works)
    suite.release = suite.release._replace(major=6, minor=1, point=176)
    suite.classes["hugetlb-2m-movable"] = suite.classes["anonymous"]._replace(
        name="hugetlb-2m-movable"
    )
    made = suite.run(_cell("hugetlb-2m-movable"))
    assert made["verdict"] == Verdict.KERNEL_WARNING
    assert made["known"]["id"] == "hugetlb-in-movable-zone"
    assert (made["known"]["rearm"], asked) == (works, [1])
    assert unfit(made) is not works
