# SPDX-License-Identifier: GPL-2.0-or-later
"""The conditions as a collection, and those of them that need no device."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
from docs_parts import CONTRIBUTING, blocks

from hil.cells import Cell, Direction
from hil.conditions import FAMILIES, Condition, Scene, all_conditions
from hil.conditions.base import GRACE, MAIN, tried
from hil.conditions.ends import FdPassed
from hil.conditions.forks import ForkChildWrites, ForkParentWrites, Twin
from hil.conditions.mapping import DontNeed, MapOver, ProtectCycle, Remap, Unmap
from hil.conditions.page import FILE, page
from hil.conditions.reclaim import make_swap
from hil.errors import NotApplicableError
from hil.evidence import frames
from hil.evidence.counters import Pins
from hil.memory.anonymous import filled
from hil.memory.base import PAGE, all_classes
from hil.memory.bench import Bench
from hil.memory.shmem import empty_memfd, shared
from hil.pinners.base import PinResult, Session
from hil.system.release import parse, running
from hil.verdicts import Verdict

CONDITIONS = list(all_conditions().values())
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="proving a buffer needs CAP_SYS_ADMIN")


class Idle(Session):
    """A session of a device that does nothing."""

    length, call = 4 * PAGE, "none"

    def pin(self, buffer: Any) -> PinResult:
        return PinResult(self.call, 0, 0)

    def stop(self) -> None:
        pass

    def release(self) -> None:
        pass


def scene(buffer: Any, memory: str = "anonymous", seed: int = 1) -> Scene:
    bench = Bench()
    bench.seed = seed
    made = Scene(Cell("x", memory, Direction.CAPTURE, "c"), "x", Idle(), bench)
    made.buffer, made.base = buffer, Pins(0, 0)
    return made


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: c.name)
def test_each_says_what_it_does_what_must_hold_and_why(condition: Condition) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", condition.name)
    assert condition.summary and not condition.summary.endswith(".")
    if not condition.only_on_demand:
        assert condition.holds and condition.why
        assert not condition.holds.endswith("."), condition.holds
    assert parse(condition.since) >= (5, 10)
    assert any(condition.meets(name) for name in all_classes())


def test_names_are_not_used_twice_and_keep_their_order() -> None:
    names = [kind.name for _, kinds in FAMILIES for kind in kinds]
    assert len(set(names)) == len(names)
    assert list(all_conditions()) == names
    assert names[0] == "steady"


def test_the_classes_that_conditions_name_exist() -> None:
    names = set(all_classes())
    assert set(MAIN) <= names
    for condition in CONDITIONS:
        for pattern in condition.classes:
            assert pattern == "*" or pattern in names, (condition.name, pattern)


def test_the_page_is_what_the_code_says() -> None:
    assert FILE.read_text() == page(GRACE), "run python -m hil.conditions.page"


def test_a_condition_that_the_kernel_lacks_says_since_when_it_is_there() -> None:
    class Later(Condition):
        name = summary = "later"
        since = "99.1"

    assert Later().applies() == "needs Linux 99.1"
    Later.since = f"{running().major}.{running().minor}"
    assert Later().applies() == ""


def test_a_check_names_a_verdict_that_exists() -> None:
    folder = Path(__file__).parents[2] / "hil" / "conditions"
    for file in folder.glob("*.py"):
        for name in re.findall(r'verdict="([^"]*)"', file.read_text()):
            assert Verdict(name).bad


def test_the_seed_and_the_cell_make_the_random_numbers() -> None:
    buffer = object()
    one, same, other = scene(buffer), scene(buffer), scene(buffer, seed=2)
    first = one.random.random()
    assert first == same.random.random() != other.random.random()
    assert first != random.Random(1).random()


def test_tried_tells_the_errno_by_name() -> None:
    assert tried(os.close, os.dup(0)) == "0"
    assert tried(os.close, 9999) == "EBADF"


@ROOT
@pytest.mark.parametrize("kind", [Unmap, MapOver, DontNeed])
def test_what_the_process_gives_up_is_lost(kind: type[Condition]) -> None:
    buffer = filled(4 * PAGE)
    stage = scene(buffer)
    kind().during(stage)
    assert (stage.data, stage.frames_stay) == ("lost", False)
    if kind is Unmap:
        with pytest.raises(OSError, match="Bad address"):
            buffer.read()
    else:
        assert buffer.read() == bytes(4 * PAGE)


@ROOT
def test_shared_memory_survives_dontneed() -> None:
    buffer = shared(4 * PAGE, empty_memfd(4 * PAGE))
    before, stage = buffer.read(), scene(buffer, "memfd")
    DontNeed().during(stage)
    assert stage.data == "same"
    assert buffer.read() == before
    buffer.close()


@ROOT
def test_mremap_takes_the_bytes_along() -> None:
    buffer = filled(4 * PAGE)
    before, stage = buffer.read(), scene(buffer)
    Remap().during(stage)
    assert buffer.view != buffer.address
    assert buffer.read() == before
    assert stage.data == "same"


@ROOT
def test_an_mprotect_cycle_leaves_memory_that_was_written() -> None:
    buffer = filled(4 * PAGE)
    before = buffer.read()
    ProtectCycle().during(scene(buffer))
    assert buffer.read() != before


@ROOT
@pytest.mark.parametrize("kind", [ForkChildWrites, ForkParentWrites])
def test_a_child_that_sees_what_it_should_not_is_found(kind: type[Any]) -> None:
    stage, fork = scene(filled(4 * PAGE)), kind()
    fork.during(stage)
    fork.verify(stage)
    assert all(check["gave"] in check["expected"] for check in stage.checks)
    assert stage.checks

    # Memory that is shared although it claims to be private: the write is seen on the other side.
    stage, fork = scene(shared(4 * PAGE)), kind()
    stage._shared = False
    fork.during(stage)
    fork.verify(stage)
    assert not all(check["gave"] in check["expected"] for check in stage.checks)


@ROOT
def test_a_twin_reads_and_ends() -> None:
    stage = scene(filled(4 * PAGE))
    twin = Twin(stage, 2 * PAGE)
    assert twin.read() == stage.buffer.read(2 * PAGE)
    twin.end()
    with pytest.raises(ChildProcessError):
        os.waitpid(twin.pid, 0)


def test_a_swap_file_has_the_kernels_header(tmp_path: Path) -> None:
    make_swap(tmp_path / "swap", 16 * PAGE)
    data = (tmp_path / "swap").read_bytes()
    assert len(data) == 16 * PAGE
    assert data[PAGE - 10 : PAGE] == b"SWAPSPACE2"
    assert int.from_bytes(data[1028:1032], "little") == 15


@ROOT
def test_the_example_condition_of_the_handbook_works() -> None:
    (text,) = [block for block in blocks(CONTRIBUTING, "python") if "(Condition)" in block]
    assert text.startswith("# SPDX-License-Identifier: GPL-2.0-or-later\n")
    space: dict[str, Any] = {"__name__": "example"}
    exec(compile(text, "CONTRIBUTING.md", "exec"), space)
    lock, stage = space["Lock"](), scene(filled(4 * PAGE))
    lock.during(stage)
    assert lock.name not in all_conditions()
    assert [check["gave"] for check in stage.checks] == ["0"]


@ROOT
def test_a_descriptor_that_cannot_be_passed_on_is_no_hang() -> None:
    made = scene(filled(PAGE))
    assert made.session.fd < 0  # EBADF; a ring of io_uring's gives EINVAL
    with pytest.raises(NotApplicableError, match="can't be passed on: Bad file descriptor"):
        FdPassed().pin(made)


@ROOT
def test_the_pages_of_the_process_that_pinned_are_those_that_count() -> None:
    made = scene(filled(2 * PAGE))
    made.session.fd = os.open(os.devnull, os.O_RDONLY)

    def pin(buffer: Any) -> PinResult:
        buffer.write(b"a copy of the page, then")
        return PinResult("call", 0, 0)

    made.session.pin = pin  # type: ignore[method-assign]
    mine = frames.frames(made.buffer.address, 2 * PAGE)
    FdPassed().pin(made)
    assert made.theirs is not None
    theirs = [frames.frame_of(word) for word in made.theirs]
    assert theirs[0] not in (None, mine[0])
    assert theirs[1] == mine[1]
    os.close(made.session.fd)


@ROOT
def test_a_descriptor_is_passed_on_with_what_the_call_pinned_besides() -> None:
    made = scene(filled(PAGE))
    made.session.fd = os.open(os.devnull, os.O_RDONLY)
    made.session.pin = lambda _: PinResult("call", 0, 7)  # type: ignore[method-assign]
    assert FdPassed().pin(made) == PinResult("none", 0, 7)
    assert Path(f"/proc/self/fd/{made.session.fd}").readlink() == Path(os.devnull)
    assert (made.session.extra_pages, made.data) == (7, "lost")
    os.close(made.session.fd)
