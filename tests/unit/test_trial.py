# SPDX-License-Identifier: GPL-2.0-or-later
"""One cell in a child: pinners that answer, refuse, hang, die, leak; no device is needed."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.cells import Cell, Direction
from hil.conditions import Condition, Scene, all_conditions
from hil.errors import NotApplicableError
from hil.evidence import counters, log
from hil.evidence.counters import Pins
from hil.evidence.frames import PAGE
from hil.memory.base import Buffer, MemoryClass
from hil.memory.bench import Bench
from hil.pinners.base import Pinner, PinResult, Session, Transfer
from hil.runs import act, child, trial
from hil.runs.act import Act

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="frame numbers need CAP_SYS_ADMIN: run as root")
CELL = Cell("fake-dev0", "fake", Direction.CAPTURE, "steady")
PAGES = 16

Step = Callable[[], Any]


class Counters:
    """Pin counters that parent and children share, in the place of the kernel's."""

    def __init__(self) -> None:
        self.page = mmap.mmap(-1, mmap.PAGESIZE)

    def read(self) -> Pins:
        return Pins(*struct.unpack_from("QQ", self.page))

    def add(self, acquired: int = 0, released: int = 0) -> None:
        old = self.read()
        struct.pack_into("QQ", self.page, 0, old.acquired + acquired, old.released + released)


class FakeSession(Session):
    length = PAGES * PAGE
    call = "VIDIOC_QBUF"

    def __init__(self, pinner: FakePinner) -> None:
        self.pinner = pinner

    def pin(self, buffer: Buffer) -> PinResult:
        result = self.pinner.on_pin()
        return result if isinstance(result, PinResult) else PinResult(self.call, result or 0, 3)

    def transfer(self, buffer: Buffer) -> Transfer | None:
        found: Transfer | None = self.pinner.on_transfer()
        return found

    def stop(self) -> None:
        self.pinner.calls.append("stop")

    def release(self) -> None:
        self.pinner.on_release()


class FakePinner(Pinner):
    name = "fake-dev0"
    driver = family = allocator = bus = "fake"
    node = Path("/dev/null")
    slow = False
    directions = (Direction.CAPTURE,)

    def __init__(self, on_pin: Step = lambda: 0, on_release: Step = lambda: None) -> None:
        self.on_pin = on_pin
        self.on_release = on_release
        self.on_transfer: Step = lambda: None
        self.calls: list[str] = []

    def open(self, direction: Direction) -> Session:
        assert direction is Direction.CAPTURE
        return FakeSession(self)


class Memory(Buffer):
    """Touched private memory, page by page."""

    __slots__ = ("map",)

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.map.madvise(mmap.MADV_NOHUGEPAGE)
        self.map[:] = b"x" * len(self.map)
        super().__init__(ctypes.addressof(ctypes.c_char.from_buffer(self.map)), len(self.map))

    def renew(self) -> None:
        """Other frames at the same address; some more first, so that the old ones aren't reused."""
        self.map.madvise(mmap.MADV_DONTNEED)
        keep = mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        keep[:] = self.map[:] = b"y" * len(self.map)


def memory(make: Callable[[], Buffer] = Memory) -> MemoryClass:
    return MemoryClass("fake", "fake", "", lambda bench, length, direction: make(), False)


def run(
    pinner: FakePinner | None = None,
    make: Callable[[], Buffer] = Memory,
    condition: Condition | None = None,
    deadline: float = 20,
) -> dict[str, Any]:
    steady = all_conditions()["steady"]
    made = Act(CELL, pinner or FakePinner(), memory(make), condition or steady, Bench())
    evidence = trial.run(made, deadline=deadline)
    assert json.loads(json.dumps(evidence)) == evidence
    return evidence


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch) -> Counters:
    found = Counters()
    found.add(1000, 900)
    monkeypatch.setattr(counters, "pins", found.read)
    return found


def spin() -> None:
    while True:
        pass


def fail(error: BaseException) -> Step:
    def step() -> None:
        raise error

    return step


def test_an_accepted_pin_leaves_the_whole_evidence(pins: Counters) -> None:
    before = log.taint()
    evidence = run(FakePinner(lambda: pins.add(19), lambda: pins.add(0, 19)))
    assert evidence["stage"] == "done"
    assert (evidence["setup"], evidence["call"], evidence["errno"]) == (None, "VIDIOC_QBUF", None)
    buffer = evidence["buffer"]
    assert (buffer["length"], buffer["pages"], buffer["companion_pages"]) == (
        PAGES * PAGE,
        PAGES,
        3,
    )
    assert int(buffer["address"], 16) % PAGE == 0
    assert evidence["pins"] == {
        "before": {"acquired": 0, "released": 0, "live": 0},
        "during": {"acquired": 19, "released": 0, "live": 19},
        "after": {"acquired": 19, "released": 19, "live": 0},
    }
    assert set(evidence["frames"]) == set(evidence["hugepages"]) == {"before", "during", "after"}
    for moment in evidence["frames"].values():
        assert sum(moment["zones"].values()) == PAGES
    assert (evidence["moved_pages"], evidence["second_pin"]) == (0, None)
    assert evidence["taint"] == {"before": before, "after": before}
    seconds = evidence["seconds"]
    assert 0 < seconds["pin"] < seconds["wall"]
    assert seconds["system"] >= 0
    assert evidence["child"] == {
        "hung": False,
        "signal": None,
        "exit": 0,
        "stack": None,
        "tasks": None,
        "killed": None,
        "cells_before": 0,
    }
    assert isinstance(evidence["log"], list)


def test_a_refusal_has_its_errno_and_no_condition(pins: Counters) -> None:
    class Wrong(Condition):
        name = summary = "wrong"

        def during(self, scene: Scene) -> None:
            raise AssertionError("nothing is pinned")

    evidence = run(FakePinner(lambda: 14), condition=Wrong())
    assert (evidence["stage"], evidence["errno"], evidence["setup"]) == ("done", "EFAULT", None)
    assert evidence["pins"]["after"]["live"] == 0
    assert run(FakePinner(lambda: 4095))["errno"] == "4095"


def test_the_device_under_test_is_known_to_the_maker(pins: Counters) -> None:
    bench = Bench()
    seen = MemoryClass("fake", "fake", "", lambda b, n, d: _noted(b.busy_node, n), False)
    steady = all_conditions()["steady"]
    evidence = trial.run(Act(CELL, FakePinner(), seen, steady, bench), deadline=20)
    assert evidence["buffer"]["proof"] == {"node": "/dev/null", "least": PAGES * PAGE}


def _noted(node: Path | None, least: int) -> Buffer:
    buffer = Memory()
    buffer.proof = {"node": node, "least": least}
    return buffer


def test_a_spinning_call_is_a_hang_with_its_stack(pins: Counters) -> None:
    began = time.monotonic()
    evidence = run(FakePinner(spin), deadline=0.3)
    assert 0.3 <= time.monotonic() - began < 5
    assert (evidence["stage"], evidence["setup"]) == ("pin", None)
    found = evidence["child"]
    assert (found["hung"], found["killed"], found["signal"]) == (True, True, signal.SIGKILL)
    assert "state R" in found["stack"]
    assert evidence["buffer"]["pages"] == PAGES
    assert evidence["pins"]["before"]["live"] == evidence["pins"]["after"]["live"] == 0
    assert run()["stage"] == "done", "the next cell must not notice"


def test_a_blocked_call_is_a_hang_and_names_where_it_waits(pins: Counters) -> None:
    reader, _ = os.pipe()
    evidence = run(FakePinner(lambda: os.read(reader, 1)), deadline=0.2)
    assert evidence["child"]["hung"]
    assert "state S" in evidence["child"]["stack"]
    assert "system call 0 " in evidence["child"]["stack"] or os.uname().machine != "x86_64"


def test_a_hang_in_the_release_is_told_apart(pins: Counters) -> None:
    evidence = run(FakePinner(lambda: pins.add(5), spin), deadline=0.3)
    assert evidence["stage"] == "release"
    assert evidence["pins"]["after"] == {"acquired": 5, "released": 0, "live": 5}


def test_a_child_that_no_signal_ends_is_given_up(
    pins: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed: list[int] = []
    monkeypatch.setattr(child, "KILL_WAIT", 0.1)
    monkeypatch.setattr(trial, "_post_mortem", lambda pid: {"stack": str(pid)})
    with monkeypatch.context() as patch:
        patch.setattr(child, "kill", lambda pid: None)
        evidence = run(FakePinner(spin), deadline=0.2)
    doomed.append(int(evidence["child"]["stack"]))
    os.kill(doomed[0], signal.SIGKILL)
    os.waitpid(doomed[0], 0)
    found = evidence["child"]
    assert (found["hung"], found["killed"], found["exit"]) == (True, False, None)
    assert evidence["stage"] == "pin"
    assert run()["stage"] == "done", "the next cell has a board of its own"


def test_the_parent_does_not_wait_for_a_blocked_helper(
    pins: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "ASIDE_WAIT", 0.2)
    monkeypatch.setattr(trial, "_post_mortem", lambda pid: spin())
    began = time.monotonic()
    evidence = run(FakePinner(spin), deadline=0.2)
    assert time.monotonic() - began < 3
    assert (evidence["child"]["killed"], evidence["child"]["stack"]) == (True, None)


def test_death_by_signal_tells_the_stage_and_what_stays_pinned(pins: Counters) -> None:
    def die() -> None:
        pins.add(16)
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)

    evidence = run(FakePinner(die))
    assert (evidence["stage"], evidence["setup"]) == ("pin", None)
    assert (evidence["child"]["signal"], evidence["child"]["hung"]) == (signal.SIGSEGV, False)
    assert evidence["pins"]["after"] == {"acquired": 16, "released": 0, "live": 16}


def test_an_exit_in_the_middle_is_the_suites_fault(pins: Counters) -> None:
    evidence = run(make=lambda: os._exit(7))
    assert evidence["stage"] == "make"
    assert "status 7" in evidence["setup"]["error"]


def test_an_error_of_the_maker_is_told_with_its_place(pins: Counters) -> None:
    evidence = run(make=fail(OSError(28, "No space left on device")))
    assert evidence["stage"] == "make"
    assert "No space left" in evidence["setup"]["error"]
    assert "test_trial.py" in evidence["setup"]["error"]
    assert evidence["call"] is None


def test_a_class_that_does_not_apply_says_why_and_closes_the_session(pins: Counters) -> None:
    pinner = FakePinner(on_release=lambda: pins.add(7, 7))
    evidence = run(pinner, make=fail(NotApplicableError("no KSM: boot with CONFIG_KSM=y")))
    assert evidence["setup"] == {"not_applicable": "no KSM: boot with CONFIG_KSM=y"}
    assert pins.read() == Pins(1007, 907)


def test_an_error_while_it_holds_is_the_suites(pins: Counters) -> None:
    class Broken(Condition):
        name = summary = "broken"

        def during(self, scene: Scene) -> None:
            raise RuntimeError("no such node")

    evidence = run(condition=Broken())
    assert evidence["stage"] == "hold"
    assert "no such node" in evidence["setup"]["error"]
    assert evidence["errno"] is None


def test_a_failing_release_is_told(pins: Counters) -> None:
    evidence = run(FakePinner(on_release=fail(OSError(16, "busy"))))
    assert evidence["stage"] == "release"
    assert "busy" in evidence["setup"]["error"]


def test_evidence_may_be_larger_than_any_pipe(pins: Counters) -> None:
    def make() -> Buffer:
        buffer = Memory()
        buffer.proof = {"text": "ä" * 300_000, "set": frozenset("ba"), "path": Path("/x")}
        buffer.facts = {"more": ["y" * 1000] * 500}
        return buffer

    evidence = run(make=make)
    assert evidence["stage"] == "done"
    assert len(evidence["buffer"]["proof"]["text"]) == 300_000
    assert evidence["buffer"]["proof"]["set"] == ["a", "b"]
    assert len(evidence["buffer"]["facts"]["more"]) == 500
    assert run()["buffer"]["proof"] == {}


def test_a_leak_shows_after_the_grace_time(pins: Counters) -> None:
    began = time.monotonic()
    evidence = run(FakePinner(lambda: pins.add(16), lambda: pins.add(0, 15)))
    assert evidence["pins"]["after"]["live"] == 1
    assert time.monotonic() - began >= act.GRACE


def test_a_late_release_is_no_leak(pins: Counters, monkeypatch: pytest.MonkeyPatch) -> None:
    def late() -> Pins:
        found = pins.read()
        pins.add(0, 4 if found.released > 900 else 0)
        return found

    monkeypatch.setattr(counters, "pins", late)
    evidence = run(FakePinner(lambda: pins.add(16), lambda: pins.add(0, 4)))
    assert evidence["pins"]["after"] == {"acquired": 16, "released": 16, "live": 0}


@pytest.mark.parametrize("hang", [False, True])
def test_what_the_child_left_behind_dies_with_it(pins: Counters, hang: bool) -> None:
    def make() -> Buffer:
        left = os.fork()
        if left == 0:
            signal.pause()
        buffer = Memory()
        buffer.proof = {"left": left}
        return buffer

    evidence = run(FakePinner(spin if hang else lambda: 0), make, deadline=0.4 if hang else 20)
    left = evidence["buffer"]["proof"]["left"]
    if hang:
        assert f"process {left} thread {left}" in evidence["child"]["stack"]
    until = time.monotonic() + 2
    while alive(left) and time.monotonic() < until:
        time.sleep(0.01)
    assert not alive(left)


def alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"


def test_the_child_dies_with_its_parent(pins: Counters) -> None:
    reader, writer = os.pipe()

    def tell() -> None:
        os.write(writer, struct.pack("i", os.getpid()))
        spin()

    if (parent := os.fork()) == 0:
        run(FakePinner(tell), deadline=60)
        os._exit(0)
    (pid,) = struct.unpack("i", os.read(reader, 4))
    assert alive(pid)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    until = time.monotonic() + 2
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert not alive(pid)
    os.close(reader)
    os.close(writer)


def test_an_interrupt_ends_the_child_and_comes_through(
    pins: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = child.wait

    def interrupted(watch: int, seconds: float) -> bool:
        if not seen:
            fields = Path(f"/proc/self/fdinfo/{watch}").read_text().split()
            seen.append(int(fields[fields.index("Pid:") + 1]))
            raise KeyboardInterrupt
        return real(watch, seconds)

    monkeypatch.setattr(child, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(FakePinner(spin))
    assert not Path(f"/proc/{seen[0]}").exists()


@ROOT
def test_a_page_that_moves_while_pinned_is_counted(pins: Counters) -> None:
    class Renew(Condition):
        name = summary = "renew"

        def during(self, scene: Scene) -> None:
            assert isinstance(scene.buffer, Memory)
            scene.buffer.renew()

    evidence = run(condition=Renew())
    assert evidence["moved_pages"] == PAGES
    first = {moment: found["first"]["frame"] for moment, found in evidence["frames"].items()}
    assert first["before"] == first["during"] != first["after"]


@ROOT
def test_the_second_pin_of_a_pointer_whose_pages_are_others(pins: Counters) -> None:
    def make() -> Buffer:
        buffer = Memory()
        buffer.settle = buffer.renew
        return buffer

    answers = iter((16, 0))  # the driver takes the pointer for known and pins nothing new
    pinner = FakePinner(lambda: pins.add(next(answers)))
    evidence = run(pinner, make)
    assert evidence["second_pin"] == {"errno": None, "acquired": 0, "changed_frames": PAGES}
    assert evidence["moved_pages"] == 0


def test_a_refused_buffer_is_not_pinned_again(pins: Counters) -> None:
    def make() -> Buffer:
        buffer = Memory()
        buffer.settle = fail(AssertionError("not after a refusal"))
        return buffer

    assert run(FakePinner(lambda: 14), make)["second_pin"] is None


def test_moved_pages_compares_frames_and_not_flags() -> None:
    from array import array

    present, soft_dirty = 1 << 63, 1 << 55
    one = array("Q", [present | 1, present | 2, 0, present | 4, present | 5])
    other = array("Q", [present | soft_dirty | 1, present | 9, present | 3, 0, present | 5])
    assert act.moved_pages(one, other) == 1


def test_the_steady_condition_is_there_and_does_nothing() -> None:
    steady = all_conditions()["steady"]
    assert steady.name == "steady"
    scene = Scene(CELL, "fake", FakeSession(FakePinner(fail(AssertionError()))), Bench())
    scene.buffer = buffer = Memory()
    steady.before(scene)
    steady.during(scene)
    assert buffer.map[:1] == b"x"
    assert (scene.checks, scene.answer, scene.data) == ([], None, "same")


def moving(transfer: Step) -> dict[str, Any]:
    pinner = FakePinner()
    pinner.on_transfer = transfer
    return run(pinner)


def test_bytes_that_went_through_the_device_are_compared(pins: Counters) -> None:
    sent = bytes(range(250)) * 40
    arrived = bytearray(sent)
    assert moving(lambda: Transfer(sent, bytes(arrived), "there and back"))["data"] == {
        "how": "there and back", "bytes": len(sent), "corrupt_bytes": 0,
    }  # fmt: skip
    arrived[5000] ^= 1
    arrived[5003] ^= 1
    found = moving(lambda: Transfer(sent, bytes(arrived), "there and back"))["data"]
    assert (found["corrupt_bytes"], found["corrupt_pages"], found["first_wrong"]) == (2, 1, 5000)
    short = moving(lambda: Transfer(sent, sent[:-100], "there and back"))["data"]
    assert (short["corrupt_bytes"], short["first_wrong"]) == (100, len(sent) - 100)


def test_a_driver_that_cannot_prove_its_data_says_nothing(pins: Counters) -> None:
    assert moving(lambda: None)["data"] is None


def test_a_device_that_does_not_answer_is_evidence_and_no_error(pins: Counters) -> None:
    found = moving(fail(TimeoutError(110, "no frame came")))
    assert (found["stage"], found["setup"]) == ("done", None)
    assert found["data"] == {"failed": "ETIMEDOUT: no frame came"}


def test_the_device_is_not_set_on_memory_that_should_have_been_refused(pins: Counters) -> None:
    pinner = FakePinner()
    pinner.on_transfer = fail(AssertionError("it was set on it"))
    asked: list[Any] = []

    def refuses(so_far: dict[str, Any]) -> bool:
        asked.append((so_far["errno"], so_far["buffer"]["pages"], "during" in so_far["frames"]))
        return asked == [(None, PAGES, True)]

    steady = all_conditions()["steady"]
    evidence = trial.run(Act(CELL, pinner, memory(), steady, Bench(), refuses=refuses), deadline=20)
    assert (evidence["stage"], evidence["setup"]) == ("done", None)
    assert "should have been refused" in evidence["data"]["unproven"]
    assert evidence["pins"]["after"]["live"] == 0
