# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels side by side: the page, the table, and what they are made of."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from runs_parts import A, B, C, D, record, run, three
from test_html import Page, records

from hil.errors import HilError
from hil.report import html
from hil.report.across import print_across, write_across
from hil.report.beside import Beside
from hil.runs.diff import Kind
from hil.runs.folder import RunFolder

REFERENCES = runpy.run_path(str(Path(__file__).parent / "data" / "references.py"))


def page_of(folders: list[RunFolder], tmp_path: Path) -> tuple[Page, dict[str, Any], str]:
    path = tmp_path / "across.html"
    write_across(folders, path)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    return page, json.loads(page.scripts[0]), text


def words(data: dict[str, Any], table: str) -> list[list[str]]:
    return [[data[table]["words"][n] or "" for n in row] for row in data[table]["rows"]]


def test_columns_are_kernels_as_they_were_released(tmp_path: Path) -> None:
    _, data, _ = page_of(three(tmp_path / "runs"), tmp_path)
    assert [column["kernel"] for column in data["columns"]] == ["5.10.200", "6.9.3", "6.10"]


def test_each_crossing_has_its_state_and_its_record(tmp_path: Path) -> None:
    page, data, _ = page_of(three(tmp_path / "runs"), tmp_path)
    cells = ["/".join(row[:4]) for row in words(data, "rows")]
    states = words(data, "states")
    found: dict[tuple[str, str], str] = {}
    number = 0
    kept = records(page)
    for place, state in enumerate(data["squares"]):
        if state < 0:
            continue
        row, column = divmod(place, len(data["columns"]))
        kernel = data["columns"][column]["kernel"]
        found[cells[row], kernel] = states[state][2]
        assert (kept[number]["cell"], kept[number]["kernel"]) == (cells[row], kernel)
        assert kept[number]["verdict"] == states[state][2]
        number += 1
    assert number == len(kept) == 11
    assert found[A, "5.10.200"] == "stayed"
    assert found[B, "6.10"] == "leak"
    assert (D, "6.10") not in found
    assert found[C, "6.9.3"] == "not-applicable"


def test_what_changed_between_neighbours(tmp_path: Path) -> None:
    beside = Beside(three(tmp_path))
    steps = beside.steps
    assert steps[0] is None
    told = [{k: [r.cell for r in v] for k, v in s.kinds.items()} for s in steps if s]
    assert told == [
        {Kind.GONE: [A], Kind.VERDICT: [C]},
        {Kind.NEW: [B], Kind.VERDICT: [C], Kind.ONLY_OLD: [D]},
    ]
    assert [row.cell for row, _ in beside.changing()] == [A, B, C]


def test_other_boards_are_no_neighbours(tmp_path: Path) -> None:
    folders = [
        run(tmp_path, "a", "6.1", [record(A)]),
        run(tmp_path, "b", "6.12", [record(A, "leak")], {"board": "virtual-gaudi"}),
    ]
    beside = Beside(folders)
    assert beside.boards == ["virtual-gaudi", "virtual-x86"]
    assert beside.steps == [None, None]
    assert not list(beside.changing())


def test_a_run_that_is_named_twice_is_one_column(tmp_path: Path) -> None:
    (folder, *_) = three(tmp_path)
    assert len(Beside([folder, RunFolder(folder.path)]).columns) == 1


def test_what_is_bad_and_known_is_on_the_page_without_its_script(tmp_path: Path) -> None:
    page, _, _ = page_of(three(tmp_path / "runs"), tmp_path)
    text = " ".join(" ".join(page.words).split())
    assert "thp came to leak" in text
    assert "https://example.org/1" in text
    assert "6.9.3 to 6.10" in text
    assert "was: anonymous came to stayed" in text


def test_the_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    page, _, text = page_of(three(tmp_path / "runs"), tmp_path)
    for tag, attrs in page.tags:
        assert tag not in ("link", "img", "iframe", "object")
        assert "src" not in attrs
    assert "@import" not in text
    assert "url(" not in text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    hostile = "</script><b onclick=x>{{ 7 * 7 }}<!-- sheets --> \x1b[31m"
    entry = {**record(A, "leak", log=[hostile]), "reason": hostile, "driver": hostile}
    page, data, text = page_of([run(tmp_path / "runs", "r", "6.1", [entry])], tmp_path)
    assert "b" not in {tag for tag, _ in page.tags}
    assert "\x1b" not in text
    assert words(data, "states")[0][6] == hostile
    assert records(page)[0]["evidence"]["log"] == [hostile]
    assert len(page.scripts) == 3


def test_nothing_at_all_makes_a_page(tmp_path: Path) -> None:
    page, data, _ = page_of([], tmp_path)
    assert data["squares"] == records(page) == []


def test_a_page_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(HilError, match="No such file"):
        write_across(three(tmp_path / "runs"), tmp_path / "none" / "a.html")


def test_the_table_shows_what_differs_and_counts_the_rest(tmp_path: Path) -> None:
    console = REFERENCES["terminal"](100)
    same = record("v4l2-vivid-video0/sysv/output/fork")
    folders = [
        run(tmp_path, "a", "5.10.200", [record(A, "stayed", known=True), record(B), same]),
        run(tmp_path, "b", "6.1", [record(A), record(B, errno="EINVAL"), same]),
        run(tmp_path, "c", "6.12.9", [record(A), record(B, "leak"), same]),
    ]
    print_across(console, folders)
    lines = [line.split() for line in REFERENCES["said"](console).splitlines()]
    assert ["2", "cells", "differ,", "1", "do", "not"] in lines
    assert ["memory", "class", "way", "5.10", "6.1", "6.12", "cells"] in lines
    assert ["anonymous", "cap", "stay", "✓", "✓", "1"] in lines
    assert ["thp", "cap", "✓", "⊘", "LEAK", "1"] in lines
    assert ["5.10.200", "3", "2", "1", "0", "0"] in lines
    assert ["6.12.9", "3", "2", "0", "0", "1", "1", "new"] in lines
    assert ["known:", "not-migrated:", "https://example.org/1"] in lines


def test_where_only_the_errno_differs_it_is_told_from_which_kernel_on(tmp_path: Path) -> None:
    console = REFERENCES["terminal"](100, "ascii")
    folders = [
        run(tmp_path, "a", "5.10.200", [record(A, errno="EINVAL")]),
        run(tmp_path, "b", "6.1", [record(A, errno="EINVAL")]),
        run(tmp_path, "c", "6.12", [record(A, errno="EFAULT")]),
    ]
    print_across(console, folders)
    text = REFERENCES["said"](console)
    assert "anonymous, cap: EINVAL, EFAULT from 6.12 on  (1)" in text


@pytest.mark.parametrize("width", [20, 60, 80])
def test_a_narrow_terminal_loses_no_kernel(tmp_path: Path, width: int) -> None:
    cell = "v4l2-vivid-video0/file-private-untouched-large-folio/capture/fork"
    kernels = [f"6.{number}" for number in range(11)]
    folders = [
        run(tmp_path, kernel, kernel, [record(cell, "leak" if kernel == "6.5" else "ok")])
        for kernel in kernels
    ]
    console = REFERENCES["terminal"](width)
    print_across(console, folders)
    found = [line.split() for line in REFERENCES["said"](console).splitlines()]
    assert ["memory", "class", "way", "condition", *kernels, "cells"] in found
    line = next(line for line in found if "LEAK" in line)
    assert line[0].startswith("file-private")
    assert line[1:] == ["cap", "fork", *"✓✓✓✓✓", "LEAK", *"✓✓✓✓✓", "1"]


def test_a_run_of_very_many_cells_gets_the_page_that_draws_as_it_scrolls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder, *_) = three(tmp_path)
    html.write(folder)
    assert '<button type="button" class="q accepted" data-i' in folder.html.read_text("utf-8")
    monkeypatch.setattr(html, "_MANY", 2)
    html.write(folder)
    page = Page(folder.html.read_text("utf-8"))
    assert len(json.loads(page.scripts[0])["columns"]) == 1
    assert len(records(page)) == 3
