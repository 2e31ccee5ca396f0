# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver's fault or mm's: what the control says of a bad cell; the control itself."""

from __future__ import annotations

import os
from typing import Any

import pytest

from hil import attribution
from hil.cells import Cell, Direction
from hil.conditions import all_conditions
from hil.memory import base
from hil.pinners import discover, io_uring
from hil.pinners.base import Node, Survey
from hil.runs import suite as suites
from hil.runs.suite import Suite
from hil.verdicts import Verdict

CONTROL = io_uring.NAME
DRIVER = "v4l2-vivid-video0"
needs_io_uring = pytest.mark.skipif(
    io_uring.control() is None, reason="this kernel has no io_uring"
)


def record(pinner: str, verdict: Verdict) -> dict[str, Any]:
    evidence = {"errno": "ENOMEM", "pins": {"during": {"live": 0}}, "frames": {}}
    return {"pinner": pinner, "verdict": str(verdict), "reason": "why", "evidence": evidence}


@pytest.mark.parametrize(
    ("verdict", "control", "to"),
    [
        (Verdict.WRONGLY_REFUSED, Verdict.OK, "driver"),
        (Verdict.LEAK, Verdict.OK, "driver"),
        (Verdict.STAYED, Verdict.STAYED, "mm"),
        (Verdict.STAYED, Verdict.LEAK, "mm"),
        # A warning that the kernel gives once a boot can't be met twice.
        (Verdict.KERNEL_WARNING, Verdict.OK, "unclear"),
        (Verdict.KERNEL_WARNING, Verdict.WRONGLY_REFUSED, "mm"),
        (Verdict.STAYED, Verdict.NOT_APPLICABLE, "unclear"),
        (Verdict.STAYED, Verdict.HARNESS_ERROR, "unclear"),
        (Verdict.STAYED, Verdict.NO_RULE, "unclear"),
    ],
)
def test_whose_fault_it_is(verdict: Verdict, control: Verdict, to: str) -> None:
    found = attribution.attribute(record(DRIVER, verdict), record(CONTROL, control))
    assert (found["to"], found["verdict"], found["errno"]) == (to, control, "ENOMEM")
    assert CONTROL in found["why"]


def test_who_is_asked_about_what() -> None:
    for verdict in Verdict:
        asked = attribution.asked(record(DRIVER, verdict), CONTROL)
        lost = verdict in (Verdict.HANG, Verdict.CRASH, Verdict.NO_RULE, Verdict.HARNESS_ERROR)
        assert asked == (verdict.bad and not lost)
        assert not attribution.asked(record(CONTROL, verdict), CONTROL)


class Asked(Suite):
    """A suite whose cells come to what the test says."""

    def __init__(self, verdicts: dict[str, Verdict]) -> None:
        self.verdicts, self.asked = verdicts, []
        self.pinners = {DRIVER: None}  # type: ignore[dict-item]
        self.control = io_uring.IoUringPinner()
        self.conditions = all_conditions()

    def _learn(self, pinner: Any) -> None:
        """There is no device."""

    def _judged(self, cell: Cell, pinner: Any, deadline: float) -> dict[str, Any]:
        self.asked.append(cell)
        return record(cell.pinner, self.verdicts[cell.pinner]) | {"seconds": 0.0}


def test_the_suite_asks_about_bad_cells_only() -> None:
    cell = Cell(DRIVER, "thp-movable", Direction.OUTPUT, "steady")
    well = Asked({DRIVER: Verdict.OK})
    assert "attribution" not in well.run(cell)
    assert well.asked == [cell]
    bad = Asked({DRIVER: Verdict.STAYED, CONTROL: Verdict.OK})
    assert bad.run(cell)["attribution"]["to"] == "driver"
    # It pins for writing, whichever way the cell goes.
    assert bad.asked == [cell, Cell(CONTROL, "thp-movable", Direction.CAPTURE, "steady")]
    # It has no queue whose buffers change their length.
    cell = cell._replace(condition="end-other-length")
    assert "attribution" not in bad.run(cell)


@needs_io_uring
def test_the_control_pins_and_refuses() -> None:
    (pinner,) = discover(("io-uring",))
    with pinner.open(Direction.CAPTURE) as session:
        address = base.place(session.length)
        good = base.buffer_of(address, session.length)
        assert [session.pin(good).errno for _ in range(2)] == [0, 0]  # the second time anew
        session.release()
    with pinner.open(Direction.CAPTURE) as session:
        nowhere = base.Buffer(base.reserve(session.length), session.length)
        assert os.strerror(session.pin(nowhere).errno) == "Bad address"
    good.close()


def test_the_control_is_no_device_under_test() -> None:
    assert io_uring.survey(()) == Survey([], [])
    assert io_uring.survey(("vivid", "/dev/video0")) == Survey([], [])


def test_surveys_join() -> None:
    node = Node("/dev/video0", "vivid", "", "", "vmalloc", (), "")
    pinner = io_uring.IoUringPinner()
    one, other = Survey([], [node]), Survey([pinner], [node._replace(path="io_uring")])
    both = one.joined(other)
    assert both.joined(other) == both
    assert [n.path for n in both.nodes] == ["/dev/video0", "io_uring"]
    assert both.pinners == [pinner]


@needs_io_uring
def test_control_cells_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "survey", lambda _: Survey([], []))
    assert list(Suite().pinners) == []
    assert list(Suite(control_cells=True).pinners) == [CONTROL]
