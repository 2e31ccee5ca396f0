# SPDX-License-Identifier: GPL-2.0-or-later
"""Seeded faults: their files, their edits, and what counts as caught."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hil import cli
from hil.errors import HilError
from hil.faults import campaign, catalogue, table
from hil.faults.catalogue import Edit, Fault
from hil.faults.hunt import Came, Result, weigh
from hil.lab import board as boards

KINDS = (
    "missing-longterm", "missing-write", "get-for-pin", "leak-on-release", "leak-on-partial-pin",
    "partial-pin-accepted", "early-unpin", "not-marked-dirty", "wrong-direction", "wrong-offset",
    "last-page-missed", "wrong-errno", "pfnmap-followed", "cache-not-synced", "hang", "oops",
    "use-after-free", "lock-kept-on-error", "thp-unpinned-once", "hugetlb-miscounted",
)  # fmt: skip


def fault(*edits: Edit, **more: Any) -> Fault:
    given = {
        "summary": "s", "because": "b", "module": "m", "file": "d/x.c", "cells": "steady",
        "verdicts": ("leak",), "name": "f", **more,
    }  # fmt: skip
    return Fault(edit=edits, **given)


def record(
    verdict: str, cell: str = "v4l2-x/anonymous/capture/steady", **more: Any
) -> dict[str, Any]:
    return {"cell": cell, "verdict": verdict, "reason": f"why {verdict}", **more}


def test_there_are_faults_of_every_kind_and_on_every_kind_of_driver() -> None:
    faults = {one.name: one for one in catalogue.everything()}
    assert len(faults) >= 24
    assert set(KINDS) <= set(faults)
    modules = {one.module for one in faults.values()}
    assert {
        "videobuf2_common", "videobuf2_memops", "videobuf2_vmalloc", "videobuf2_dma_sg",
        "exynosdrm", "habanalabs",
    } <= modules  # fmt: skip


@pytest.mark.parametrize("path", sorted(catalogue.FOLDER.glob("*.toml")), ids=lambda p: p.stem)
def test_each_fault_is_sound(path: Path) -> None:
    one = catalogue.load(path)
    boards.load(one.board)
    assert one.summary[0].islower() and not one.summary.endswith(".")
    assert one.because and one.edit
    assert one.file.startswith("drivers/")
    for edit in one.edit:
        assert all(old != edit.new for old in edit.old)


def test_an_edit_takes_the_first_text_that_is_there_once() -> None:
    edit = Edit(old=("if (a)", "if (b)"), new="{0} else")
    assert catalogue.apply(fault(edit), {"d/x.c": "if (a) if (a) if (b)"}) == {
        "d/x.c": "if (a) if (a) if (b) else"
    }


def test_edits_may_be_in_several_files_and_follow_one_another() -> None:
    edits = (Edit(("a",), "b"), Edit(("b",), "c"), Edit(("x",), "y", file="d/z.c"))
    found = catalogue.apply(fault(*edits), {"d/x.c": "a", "d/z.c": "x"})
    assert found == {"d/x.c": "c", "d/z.c": "y"}


def test_the_control_gets_only_what_is_done_always_and_the_fault_must_fit_it_too() -> None:
    edits = (Edit(("a",), "b"), Edit(("x",), "y", always=True))
    assert catalogue.apply(fault(*edits), {"d/x.c": "a x"}, control=True) == {"d/x.c": "a y"}
    with pytest.raises(HilError, match="has 'a' 0 times, expected one of them once"):
        catalogue.apply(fault(*edits), {"d/x.c": "x"}, control=True)


def test_a_fault_that_does_not_fit_says_so() -> None:
    with pytest.raises(HilError, match="has 'a' 2 times"):
        catalogue.apply(fault(Edit(("a",), "b")), {"d/x.c": "aa"})
    with pytest.raises(HilError, match=r"no d/x\.c"):
        catalogue.apply(fault(Edit(("a",), "b")), {})


SOUND = """\
summary = "s"
because = "b"
module = "m"
file = "drivers/x.c"
cells = "steady"
verdicts = ["leak"]
[[edit]]
old = ["a"]
new = "b"
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('["leak"]', '["leek"]', "unknown key 'leek'.*\n.*'leak'"),
        ('["leak"]', '["ok"]', "'ok' tells of no mistake"),
        ('["leak"]', '["harness-error"]', "tells of no mistake"),
        ('["leak"]', "[]", "a fault needs"),
        ('old = ["a"]', "old = []", "a fault needs"),
        ('"steady"', '"steady and"', "expected words as for"),
        ("summary", "sumary", "unknown key 'sumary'"),
        ('because = "b"\n', "", "'because' is missing"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(SOUND)
    assert catalogue.load(path).name == "x"
    path.write_text(SOUND.replace(old, new))
    with pytest.raises(HilError) as caught:
        catalogue.load(path)
    import re

    assert re.search(said, str(caught.value), re.IGNORECASE), str(caught.value)


def test_faults_are_chosen_by_name_pattern_and_board() -> None:
    assert [one.name for one in catalogue.chosen(["oops"])] == ["oops"]
    leaks = [one.name for one in catalogue.chosen(["leak-*"], ["virtual-x86"])]
    assert leaks == ["leak-on-partial-pin", "leak-on-release"]
    with pytest.raises(HilError, match=r"unknown key 'leek-on-release'"):
        catalogue.chosen(["leek-on-release"])
    with pytest.raises(HilError, match="no fault is for the board 'local'"):
        catalogue.chosen([], ["local"])


@pytest.mark.parametrize(
    ("records", "came"),
    [
        ([record("ok"), record("leak")], Came.CAUGHT),
        ([record("ok"), record("crash")], Came.MISNAMED),
        ([record("ok"), record("not-applicable")], Came.MISSED),
        ([record("leak", known={"id": "k"})], Came.MISSED),
        ([record("harness-error")], Came.MISSED),
        ([record("harness-error"), record("hang")], Came.MISNAMED),
        ([record("ok", known={"id": "k"})], Came.MISNAMED),  # a known defect that is gone
    ],
)
def test_what_counts_as_caught(records: list[dict[str, Any]], came: Came) -> None:
    assert weigh(records, ["leak"]).came is came


@pytest.mark.parametrize(
    ("records", "came"),
    [
        ([record("ok"), record("leak", known={"id": "k"})], Came.CLEAN),
        ([record("ok"), record("leak")], Came.NOT_CLEAN),
        ([record("harness-error")], Came.NOT_CLEAN),
        ([record("no-rule")], Came.NOT_CLEAN),
    ],
)
def test_what_counts_as_clean(records: list[dict[str, Any]], came: Came) -> None:
    assert weigh(records, (), changed=False).came is came


def test_a_result_tells_which_cells_named_it_and_all_that_went_bad() -> None:
    found = weigh([record("crash", "a"), record("leak", "b"), record("leak", "c")], ["leak"])
    assert found.cells == ("b", "c")
    assert found.verdicts == {"crash": 1, "leak": 2}
    assert (found.tried, found.reason) == (3, "why leak")
    assert table.verdicts(found) == "2 leak, 1 crash"
    assert json.dumps(found.told())


RESULTS = [
    Result("unchanged", "virtual-x86", Came.CLEAN, tried=9, seconds=3.0),
    Result("f", "virtual-x86", Came.CAUGHT, ("c/1", "c/2", "c/3"), {"leak": 3}, 9, 1.5, "why"),
    Result("g", "virtual-x86", Came.MISSED, tried=9, seconds=1.0, run="results/faults/R"),
    Result("h", "virtual-x86", Came.NOT_RUN, reason="h does not build: error"),
]


@pytest.mark.parametrize(
    ("results", "status"),
    [(RESULTS[:2], 0), (RESULTS[:3], 1), (RESULTS, 3),
     ([RESULTS[0]._replace(came=Came.NOT_CLEAN), RESULTS[1]], 1),
     ([RESULTS[1]._replace(came=Came.MISNAMED)], 1)],
)  # fmt: skip
def test_the_exit_status(results: list[Result], status: int) -> None:
    assert campaign.exit_code(results) == status


def test_the_table_on_the_terminal() -> None:
    console = Console(width=160)
    with console.capture() as text:
        table.show(console, RESULTS)
    said = text.get()
    assert "1 of 3 faults caught by their name, 1 of 1 unchanged builds clean" in said
    assert "c/1, c/2 and 1 more" in said
    assert "h does not build: error" in said
    assert "g: hil show results/faults/R" in said
    assert table.line(RESULTS[1]) == "f: caught, 3 leak; why (1.5 s)"


def test_a_control_that_could_not_run_is_no_fault() -> None:
    lost = Result("unchanged", "virtual-gaudi", Came.NOT_RUN, reason="no such board")
    told = table.summary([*RESULTS, lost])
    assert told.startswith("1 of 3 faults caught by their name, 1 of 2 unchanged builds clean")


def test_the_table_in_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table._BEGIN}\nold\n{table._END}\nafter\n")
    for _ in range(2):
        table.write(RESULTS, [fault(Edit(("a",), "b"))], "6.12", page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("| f | s | virtual-x86 | caught | 3 leak | `c/1` and 2 more | 1.5 s |") == 1
    page.write_text("no marks")
    with pytest.raises(HilError, match="lacks the marks"):
        table.write(RESULTS, [], "6.12", page)
    assert all(mark in table.PAGE.read_text() for mark in (table._BEGIN, table._END))


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["faults", "--list", "--json", "oops", "hang"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found] == ["hang", "oops"]
    assert cli.main(["faults", "--list", "oops"]) == 0
    assert "crash" in capsys.readouterr().out
    assert cli.main(["faults", "--list", "ooops"]) == 2
    assert "Did you mean 'oops'?" in capsys.readouterr().err
