# SPDX-License-Identifier: GPL-2.0-or-later
"""Evidence as a cell leaves it, for the tests of hil/judge.py."""

from __future__ import annotations

from typing import Any

from hil.cells import Cell
from hil.judge import Judgement, judge
from hil.system.release import parse

PAGES = 113
REFUSED_WARNING = [
    "[   12.300000] ------------[ cut here ]------------",
    "[   12.300001] get_vaddr_frames() cannot follow VM_IO mapping",
    "[   12.300002] WARNING: CPU: 0 PID: 215 at drivers/media/common/videobuf2/frame_vector.c:59 "
    "get_vaddr_frames+0x8c/0xa0 [videobuf2_common]",
]
HUGETLB_WARNING = [
    "[   12.300002] WARNING: CPU: 1 PID: 300 at mm/hugetlb.c:6627 follow_hugetlb_page+0x5f1/0x630",
]
OTHER_WARNING = ["[   12.400000] WARNING: CPU: 1 PID: 300 at mm/gup.c:229 unpin_user_page+0x1/0x9"]
TAINT_WARN = 512


def count(live: int, acquired: int | None = None) -> dict[str, int]:
    acquired = live if acquired is None else acquired
    return {"acquired": acquired, "released": acquired - live, "live": live}


def evidence(errno: str | None = None, zone: str = "0/Normal", **more: Any) -> dict[str, Any]:
    """The evidence of a cell in which everything went as it must."""
    held = 0 if errno else PAGES
    return {
        "stage": "done",
        "setup": None,
        "call": "VIDIOC_QBUF",
        "errno": errno,
        "buffer": {"address": "0x1000", "length": 462848, "pages": PAGES, "companion_pages": 0,
                   "proof": {}, "facts": {}},
        "pins": {"before": count(0), "during": count(held), "after": count(0, held)},
        "frames": {"before": {"zones": {zone: PAGES}}, "during": {"zones": {"0/Normal": PAGES}}},
        "moved_pages": 0,
        "unsuitable_pages": 0,
        "second_pin": None,
        "data": None,
        "log": [],
        "taint": {"before": 0, "after": 0},
        "child": {"hung": False, "signal": None, "exit": 0, "killed": None},
    } | more  # fmt: skip


def judged(
    memory: str,
    found: dict[str, Any],
    kernel: str = "6.12.117",
    direction: str = "capture",
    family: str = "vb2-vmalloc",
) -> Judgement:
    cell = Cell.parse(f"v4l2-vivid-video0/{memory}/{direction}/steady")
    return judge(cell, family, "vivid", parse(kernel), found)


def checked(what: str, gave: object, *expected: object, verdict: str = "not-held") -> Any:
    """The part of the evidence in which a condition tells of one check."""
    check = {"what": what, "gave": gave, "expected": list(expected), "verdict": verdict}
    return {"data": "same", "frames_stay": True, "answer": None, "facts": {}, "checks": [check]}


def unfinished(stage: str, hung: bool = False, **child: Any) -> dict[str, Any]:
    end = {"hung": hung, "signal": None, "exit": None, "killed": True if hung else None} | child
    return evidence(stage=stage, pins={"before": count(0)}, child=end)


ACCEPTED = evidence()
EFAULT = evidence("EFAULT")
LEFT = {"before": count(0), "during": count(PAGES), "after": count(2, PAGES)}
