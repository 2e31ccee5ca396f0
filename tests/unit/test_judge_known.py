# SPDX-License-Identifier: GPL-2.0-or-later
"""hil/judge.py: what is known of a cell, and what must have been refused."""

from __future__ import annotations

from typing import Any

import pytest
from judge_parts import (
    ACCEPTED,
    EFAULT,
    HUGETLB_WARNING,
    LEFT,
    OTHER_WARNING,
    PAGES,
    REFUSED_WARNING,
    TAINT_WARN,
    evidence,
    judged,
)

from hil.cells import Cell
from hil.judge import Judgement, must_refuse
from hil.system.release import parse
from hil.verdicts import Verdict


def known_id(result: Judgement) -> str | None:
    return result.known and result.known.id


def test_5_10_leaves_movable_pages_where_they_are() -> None:
    found = evidence(zone="1/Movable", unsuitable_pages=PAGES)
    result = judged("memfd-movable", found, "5.10.262")
    assert (result.verdict, known_id(result)) == (Verdict.STAYED, "frame-vector-without-longterm")
    result = judged("anonymous", found, "5.10.262")
    assert known_id(result) == "frame-vector-without-longterm-elsewhere"
    assert judged("memfd-movable", found, "6.1.192").known is None


def test_5_10_checks_the_first_vma_only() -> None:
    result = judged("fsdax-xfs-second-vma", ACCEPTED, "5.10.262")
    assert result.verdict is Verdict.WRONGLY_ACCEPTED
    assert known_id(result) == "frame-vector-asks-first-vma-only"


def test_a_remapped_pointer_is_not_pinned_again() -> None:
    found = evidence(second_pin={"errno": None, "acquired": 0, "changed_frames": PAGES})
    result = judged("remapped-same-address", found)
    assert (result.verdict, known_id(result)) == (Verdict.STALE, "userptr-not-reacquired")


def test_the_warning_for_a_refused_pointer() -> None:
    found = evidence("EFAULT", log=REFUSED_WARNING, taint={"before": 0, "after": TAINT_WARN})
    result = judged("kernel-address", found, "6.1.55")
    assert result.verdict is Verdict.KERNEL_WARNING
    assert known_id(result) == "warning-for-a-refused-pointer"
    assert judged("kernel-address", found, "6.1.192").known is None
    # The warning comes once a boot, so that a cell without it is nothing to report.
    assert judged("kernel-address", EFAULT, "6.1.55") == judged("kernel-address", EFAULT, "6.1.55")
    assert judged("kernel-address", EFAULT, "6.1.55").known is None


def test_another_warning_beside_the_known_one_is_not_excused() -> None:
    found = evidence("EFAULT", log=REFUSED_WARNING + OTHER_WARNING)
    result = judged("kernel-address", found, "6.1.55")
    assert (result.verdict, result.known) == (Verdict.KERNEL_WARNING, None)


def test_what_a_known_defect_does_not_name_is_still_bad() -> None:
    found = evidence("ENOMEM", log=REFUSED_WARNING)
    result = judged("kernel-address", found, "6.1.55")
    assert (result.verdict, result.known) == (Verdict.WRONG_ERRNO, None)
    found = evidence(zone="1/Movable", unsuitable_pages=PAGES, pins=LEFT)
    result = judged("anonymous-movable", found, "5.10.262")
    assert (result.verdict, result.known) == (Verdict.LEAK, None)


def test_hugetlb_in_the_movable_zone_on_6_1() -> None:
    warned = evidence(
        "ENOMEM",
        zone="1/Movable",
        log=HUGETLB_WARNING,
        taint={"before": 0, "after": TAINT_WARN},
    )
    result = judged("hugetlb-2m-movable", warned, "6.1.192")
    assert (result.verdict, known_id(result)) == (
        Verdict.KERNEL_WARNING,
        "hugetlb-in-movable-zone",
    )
    later = evidence("ENOMEM", zone="1/Movable")
    result = judged("hugetlb-2m-private", later, "6.1.192")
    assert (result.verdict, known_id(result)) == (
        Verdict.WRONGLY_REFUSED,
        "hugetlb-in-movable-zone",
    )
    assert judged("hugetlb-2m-private", evidence("ENOMEM"), "6.1.192").known is None
    assert judged("hugetlb-2m-private", warned, "6.12.117").known is None


def test_a_known_defect_that_does_not_show_is_named() -> None:
    found = evidence(zone="1/Movable")
    result = judged("anonymous-movable", found, "5.10.262")
    assert (result.verdict, known_id(result)) == (Verdict.OK, "frame-vector-without-longterm")
    result = judged("remapped-same-address", ACCEPTED)
    assert (result.verdict, known_id(result)) == (Verdict.OK, "userptr-not-reacquired")
    # Its condition is not met: the pages were elsewhere.
    assert judged("anonymous-movable", ACCEPTED, "5.10.262").known is None


@pytest.mark.parametrize(
    ("memory", "so_far", "expected"),
    [
        ("unmapped-last", {}, True),
        ("anonymous", {}, False),
        ("anonymous", {"answer": {"errnos": ["EFAULT"], "accept": False, "because": "x"}}, True),
        # a race may end either way
        ("anonymous", {"answer": {"errnos": ["EFAULT"], "accept": True, "because": "x"}}, False),
        ("unheard-of", {}, False),
    ],
)
def test_what_must_have_been_refused(memory: str, so_far: dict[str, Any], expected: bool) -> None:
    cell = Cell.parse(f"v4l2-vivid-video0/{memory}/capture/steady")
    found = evidence(condition=so_far)
    assert must_refuse(cell, "vb2-vmalloc", parse("6.12.117"), found) is expected
