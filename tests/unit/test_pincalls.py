# SPDX-License-Identifier: GPL-2.0-or-later
"""Traced pin calls: the probes that are asked for, the lines that come, and what the judge says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hil.cells import Cell, Direction
from hil.evidence import pincalls
from hil.evidence.pincalls import PinCalls
from hil.judge import judge
from hil.system.release import parse
from hil.verdicts import Verdict

NEW, OLD = parse("6.12.118"), parse("6.1.192")
LINE = (
    "      python3.11-{pid}     [000] ...1.   123.456789: pin_user_pages_fast: "
    "(pin_user_pages_fast+0x4/0x90) start=0x1000000000 pages=64 flags={flags}\n"
)


@pytest.fixture(name="tracefs")
def _tracefs(tmp_path: Path) -> Path:
    """A folder with the files that are used, the pipe being one."""
    (tmp_path / "kprobe_events").write_text("p:other/probe do_exit\n")
    instance = tmp_path / "instances/hil-pins"
    (instance / "events/hil_pins").mkdir(parents=True)
    os.mkfifo(instance / "trace_pipe")
    return tmp_path


def test_probes_are_put_beside_those_of_others(tracefs: Path) -> None:
    assert PinCalls.arm(("pin_user_pages_fast",), NEW, None, tracefs) is not None
    other, ours = (tracefs / "kprobe_events").read_text().splitlines()
    assert other == "p:other/probe do_exit"
    assert ours == (
        "p:hil_pins/pin_user_pages_fast pin_user_pages_fast "
        "start=$arg1:x64 pages=$arg2:s32 flags=$arg3:x32"
    )
    assert (tracefs / "instances/hil-pins/events/hil_pins/enable").read_text() == "1"


def test_a_machine_without_probes_has_none(tmp_path: Path) -> None:
    assert PinCalls.arm(("pin_user_pages_fast",), NEW, None, tmp_path) is None


def test_only_the_calls_of_the_process_since_then_are_told(tracefs: Path) -> None:
    calls = PinCalls.arm(("pin_user_pages_fast",), NEW, None, tracefs)
    assert calls is not None
    pipe = os.open(tracefs / "instances/hil-pins/trace_pipe", os.O_WRONLY)
    assert calls.seen(5) == []
    os.write(pipe, LINE.format(pid=5, flags="0x1").encode())
    calls.skip()
    for pid, flags in ((5, "0x101"), (55, "0x1"), (5, "0x100001")):
        os.write(pipe, LINE.format(pid=pid, flags=flags).encode())
    os.write(pipe, b"CPU:0 [LOST 3 EVENTS]\n")
    found = calls.seen(5)
    assert [call.flags for call in found] == [("FOLL_WRITE", "FOLL_LONGTERM"), ("FOLL_WRITE",)]
    assert found[0].as_dict() == {
        "function": "pin_user_pages_fast", "start": "0x1000000000", "pages": 64,
        "flags": ["FOLL_WRITE", "FOLL_LONGTERM"], "value": "0x101",
    }  # fmt: skip
    os.close(pipe)


def test_flags_have_other_numbers_before_6_3() -> None:
    assert pincalls.names(0x10011, OLD) == ("FOLL_WRITE", "FOLL_FORCE", "FOLL_LONGTERM")
    assert pincalls.names(0x10011, NEW) == ("FOLL_WRITE",)
    assert pincalls.names(0x101, parse("6.3-rc1")) == ("FOLL_WRITE", "FOLL_LONGTERM")


def evidence(flags: list[str], errno: str | None) -> dict[str, Any]:
    call = {"function": "pin_user_pages_fast", "flags": flags, "value": "0x1"}
    held = {"acquired": 64, "released": 0, "live": 64 if errno is None else 0}
    return {
        "stage": "done", "call": "HL_MEM_OP_MAP", "errno": errno, "pin_calls": [call],
        "buffer": {"pages": 64, "companion_pages": 0},
        "pins": {"during": held, "after": {"acquired": 64, "released": 64, "live": 0}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "errno", "verdict"),
    [
        (["FOLL_WRITE", "FOLL_LONGTERM"], None, Verdict.OK),
        (["FOLL_WRITE"], None, Verdict.STAYED),
        (["FOLL_WRITE"], "EFAULT", Verdict.WRONGLY_REFUSED),
    ],
)
def test_a_missing_longterm_is_bad_wherever_the_pages_are(
    flags: list[str], errno: str | None, verdict: Verdict
) -> None:
    cell = Cell("habanalabs-accel0", "anonymous", Direction.CAPTURE, "steady")
    found = judge(cell, "habanalabs", "habanalabs", NEW, evidence(flags, errno))
    assert (found.verdict, found.known) == (verdict, None)
    if verdict is Verdict.STAYED:
        assert "flags 0x1, expected FOLL_LONGTERM" in found.reason
