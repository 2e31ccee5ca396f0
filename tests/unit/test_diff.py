# SPDX-License-Identifier: GPL-2.0-or-later
"""Two records of a cell: what kind of difference, and which evidence counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs_parts import A, B, C, record, run

from hil.runs.brief import brief, briefs
from hil.runs.diff import Kind, difference, differences
from hil.runs.journal import decode
from hil.runs.stream import Cells


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (record(A), record(A, "leak"), Kind.NEW),
        (record(A, "stayed", known=True), record(A, "leak"), Kind.NEW),
        (record(A, "not-applicable"), record(A, "leak"), Kind.NEW),
        (record(A), record(A, known=True), Kind.NEW),  # an unexpected pass is bad
        (record(A, "leak"), record(A), Kind.FIXED),
        (record(A, "leak"), record(A, "leak", known=True), Kind.FIXED),
        (record(A, "leak"), record(A, "moved"), Kind.STILL),
        (record(A), record(A, "stayed", known=True), Kind.APPEARED),
        (record(A, "stayed", known=True), record(A), Kind.GONE),
        (record(A, "stayed", known=True), record(A, "moved", known=True), Kind.VERDICT),
        (record(A, "not-applicable"), record(A), Kind.VERDICT),
        (record(A), record(A, errno="EFAULT"), Kind.ERRNO),
        (record(A, errno="EINVAL"), record(A, errno="EFAULT"), Kind.ERRNO),
        (record(A), record(A, zone="Movable"), Kind.EVIDENCE),
        (record(A), record(A), Kind.SAME),
        (None, record(A), Kind.ONLY_NEW),
        (record(A), None, Kind.ONLY_OLD),
    ],
)
def test_the_verdict_counts_first_then_the_errno_then_evidence(
    old: dict[str, Any] | None, new: dict[str, Any] | None, kind: Kind
) -> None:
    assert difference(A, old, new).kind is kind


@pytest.mark.parametrize(
    "noise",
    [
        {"seconds": {"wall": 9.0}},
        {"zone": "DMA32"},
        {"buffer": {"pages": 4, "address": "0x7f00"}},
        # a buffer of another length, each of its pages pinned once
        {"buffer": {"pages": 9}, "pins": {"during": {"live": 9}, "after": {"live": 0}}},
        {"hugepages": {"during": {"HugePages_Free": 3}}},
    ],
)
def test_noise_is_no_difference(noise: dict[str, Any]) -> None:
    assert difference(A, record(A), record(A, **noise)).kind is Kind.SAME


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"pins": {"during": {"live": 8}, "after": {"live": 0}}}, "pins while held"),
        ({"pins": {"during": {"live": 4}, "after": {"live": 1}}}, "pins at the end"),
        ({"answered": ["EFAULT"]}, "allocator"),
        ({"unsuitable_pages": 2}, "pages pinned in movable memory"),
        ({"moved_pages": 2}, "pages moved while pinned"),
        ({"pin_calls": [{"function": "pin_user_pages", "flags": ["FOLL_WRITE"]}]}, "pin calls"),
        ({"second_pin": {"errno": None, "acquired": 4}}, "second pin"),
        ({"data": {"corrupt_bytes": 7}}, "data"),
        ({"stage": "hold"}, "stage"),
        ({"condition": {"checks": [{"what": "munmap", "gave": "0"}]}}, "checks"),
    ],
)
def test_evidence_that_says_something(more: dict[str, Any], name: str) -> None:
    found = difference(A, record(A), record(A, **more))
    assert found.kind is Kind.EVIDENCE
    assert list(found.evidence) == [name]


def test_journals_are_compared_cell_by_cell(tmp_path: Path) -> None:
    old = run(tmp_path, "old", "6.1", [record(A), record(B)])
    new = run(tmp_path, "new", "6.12", [record(C), record(A, "leak"), record(A, "moved")])
    found = {d.cell: d for d in differences(Cells(old.journal), Cells(new.journal))}
    assert {cell: d.kind for cell, d in found.items()} == {
        A: Kind.NEW, B: Kind.ONLY_OLD, C: Kind.ONLY_NEW,
    }  # fmt: skip
    assert (found[A].new or {})["verdict"] == "moved"  # of two records the last counts


def test_a_brief_record_has_what_reports_look_at_and_no_more(tmp_path: Path) -> None:
    whole = record(A, "stayed", known=True)
    folder = run(tmp_path, "run", "6.12", [whole])
    (found,) = briefs(Cells(folder.journal))
    for name in ("cell", "verdict", "reason", "known", "driver", "memory"):
        assert found[name] == whole[name]
    assert found["evidence"] == {"call": "VIDIOC_QBUF", "errno": None}


@pytest.mark.parametrize(
    "line",
    [b'{"cell":"a","verdict":7}', b'{"cell":"a","evidence":"none"}', b'{"cell":"a","known":[1]}'],
)
def test_a_record_of_other_types_is_not_lost(line: bytes) -> None:
    assert brief(line) == decode(line)


@pytest.mark.parametrize("line", [b'{"cell":"a"', b"[]", b'{"begin":"a"}', b""])
def test_what_is_no_record_is_none(line: bytes) -> None:
    assert brief(line) is None
