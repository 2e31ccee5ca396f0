# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix on the terminal: recorded runs against their reference outputs, and its layout."""

from __future__ import annotations

import io
import runpy
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hil.report.grid import Grid, merged
from hil.report.marks import WORDS, mark_of
from hil.report.matrix import print_matrix
from hil.report.progress import Progress
from hil.runs.folder import RunFolder
from hil.verdicts import Verdict

DATA = Path(__file__).parent / "data"
FAKE = runpy.run_path(str(DATA / "fake_run.py"))
REFERENCES = runpy.run_path(str(DATA / "references.py"))
RUNS = sorted(path.name for path in (DATA / "runs").iterdir())


def lines_of(records: list[dict[str, Any]], width: int, encoding: str = "utf-8") -> list[str]:
    console = REFERENCES["terminal"](width, encoding)
    print_matrix(console, records, {})
    text: str = REFERENCES["said"](console)
    return text.splitlines()


@pytest.mark.parametrize("name", RUNS)
def test_recorded_runs_read_as_their_references(name: str) -> None:
    folder = RunFolder(DATA / "runs" / name)
    for file, text in REFERENCES["outputs"](folder).items():
        assert text == (folder.path / file).read_text(encoding="utf-8"), f"{name}/{file}"


def test_the_recorded_runs_hold_every_verdict() -> None:
    records = RunFolder(DATA / "runs" / "every-verdict").records()
    assert {record["verdict"] for record in records} == set(Verdict)


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_line_of_a_big_matrix_is_broken_or_too_long(width: int) -> None:
    records = FAKE["records"](20 * FAKE["CLASSES"])
    lines = lines_of(records, width)
    # Ids and references are there to be copied: they stay whole.
    ids = {record["cell"] for record in records}
    long = [line for line in lines if len(line) > width and line.strip() not in ids]
    assert all(FAKE["KNOWN"]["reference"] in line for line in long)
    # Each square is drawn once: count the rows of one class over all blocks.
    signs = " ".join(line for line in lines if line.startswith("  ksm ")).split()[1:]
    assert [sign for sign in signs if sign != "ksm"] == ["✓"] * 20


def test_twenty_columns_fit_one_block_at_160_and_wrap_by_node_at_80() -> None:
    records = FAKE["records"](20 * FAKE["CLASSES"])
    assert sum(line.startswith("  ksm ") for line in lines_of(records, 160)) == 1
    narrow = lines_of(records, 80)
    assert sum(line.startswith("  ksm ") for line in narrow) > 1
    heads = [line.split() for line in narrow if "qbuf" in line]
    assert all(head == ["qbuf", "prep"] * (len(head) // 2) for head in heads)


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-2"])
def test_an_encoding_without_the_signs_gets_plain_ones(encoding: str) -> None:
    lines = lines_of(FAKE["records"](FAKE["CLASSES"]), 80, encoding)
    assert [line.split()[1] for line in lines if line.startswith("  memfd ")] == ["+"]
    assert [line.split()[1] for line in lines if line.startswith("  prot-none ")] == ["-"]
    assert [line.split()[1] for line in lines if line.startswith("  drm-dumb-buffer ")] == ["."]


def test_every_bad_verdict_has_a_word_of_its_own() -> None:
    bad = {verdict for verdict in Verdict if verdict.bad}
    assert set(WORDS) == bad
    assert len(set(WORDS.values())) == len(bad)
    assert all(len(word) <= 5 for word in WORDS.values())
    known = mark_of({"cell": "a", "verdict": "leak", "known": {"id": "k"}})
    assert (known.sign, mark_of({"cell": "a", "verdict": "leak"}).sign) == ("leak", "LEAK")


def test_a_verdict_of_a_later_version_is_shown_as_bad() -> None:
    record = {"cell": "p/m/capture/steady", "verdict": "melted[/]", "reason": "[red]hot[/red]"}
    text = "\n".join(lines_of([record], 80))
    assert "MELTE" in text
    assert "melted[/]: [red]hot[/red]" in text
    assert "1 bad" in text


def test_no_cells_is_said() -> None:
    assert lines_of([], 80) == ["No cell was judged."]


def test_columns_share_the_head_of_their_node() -> None:
    grid = Grid(FAKE["records"](4 * FAKE["CLASSES"]))
    assert [column.heads[:3] for column in grid.columns] == [
        ("video0", "cap", "qbuf"),
        ("video0", "cap", "prep"),
        ("video1", "out", "qbuf"),
        ("video1", "out", "prep"),
    ]
    assert merged(grid.columns, 0) == [("video0", 2), ("video1", 2)]
    assert merged(grid.columns, 2) == [("qbuf", 1), ("prep", 1), ("qbuf", 1), ("prep", 1)]


def test_both_directions_of_a_queue_and_conditions_are_columns() -> None:
    cells = [
        {"cell": f"v4l2-m2m-video0/memfd/{direction}/{condition}", "verdict": "ok"}
        for condition in ("steady", "migrate")
        for direction in ("capture", "output")
    ]
    grid = Grid(cells)
    assert [column.heads for column in grid.columns] == [
        ("video0", "cap", "", "steady"),
        ("video0", "cap", "", "migrate"),
        ("video0", "out", "", "steady"),
        ("video0", "out", "", "migrate"),
    ]


def test_rows_stand_in_the_suites_order_whichever_guest_was_first() -> None:
    classes = ("memfd", "thp", "a-class-of-yours", "anonymous-untouched", "anonymous")
    grid = Grid([{"cell": f"v4l2-x-video0/{m}/capture/steady", "verdict": "ok"} for m in classes])
    assert [memory for group in grid.groups for memory in group.memories] == [
        "anonymous", "anonymous-untouched", "thp", "memfd", "a-class-of-yours",
    ]  # fmt: skip


def test_colours_are_for_terminals_only() -> None:
    records = FAKE["small"]()
    for terminal in (True, False):
        file = io.StringIO()
        print_matrix(Console(file=file, force_terminal=terminal, width=80), records, {})
        assert ("\x1b[" in file.getvalue()) is terminal


def test_progress_in_a_pipe_is_a_line_a_tenth_and_each_bad_cell() -> None:
    now = [0.0]
    console = REFERENCES["terminal"](80)
    with Progress(console, 20, clock=lambda: now[0]) as progress:
        progress.note("booting [bold]")
        now[0] = 5.0
        for record in FAKE["small"]():
            progress.begin(record["cell"])
            now[0] += 2.0
            progress.done(record)
    lines = REFERENCES["said"](console).splitlines()
    assert lines[0] == "booting [bold]"
    assert sum("made up, to show" in line for line in lines) == 14
    told = [line for line in lines if " cells, " in line]
    assert len(told) == 10
    assert told[4] == "10/20 cells, 10 bad, 0 known, 0 not applicable, 0:20 left"
    assert told[-1] == "20/20 cells, 15 bad, 2 known, 1 not applicable, took 0:45"


def test_progress_speaks_up_when_cells_are_slow() -> None:
    now = [0.0]
    console = REFERENCES["terminal"](80)
    with Progress(console, 1000, clock=lambda: now[0]) as progress:
        for record in FAKE["records"](3):
            now[0] += 16.0
            progress.done(record)
        assert progress.seconds_left() is not None
    assert REFERENCES["said"](console).count(" cells, ") == 3


def test_progress_on_a_terminal_names_the_cell_in_flight() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=160)
    with Progress(console, 2) as progress:
        progress.begin("v4l2-vivid-video0/memfd/capture/steady")
        progress.note("a note")
    assert "v4l2-vivid-video0/memfd/capture/steady" in file.getvalue()
    assert "a note" in file.getvalue()
