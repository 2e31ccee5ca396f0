# SPDX-License-Identifier: GPL-2.0-or-later
"""A journal read cell by cell gives what reading the whole gives."""

from __future__ import annotations

import json
import runpy
import tracemalloc
from collections import deque
from pathlib import Path

import pytest

from hil.errors import HilError
from hil.runs.folder import RunFolder
from hil.runs.journal import Journal
from hil.runs.stream import Cells

DATA = Path(__file__).parent / "data"
FAKE = runpy.run_path(str(DATA / "fake_run.py"))


@pytest.mark.parametrize("run", sorted(path.name for path in (DATA / "runs").iterdir()))
def test_the_same_records_as_all_at_once(run: str) -> None:
    folder = RunFolder(DATA / "runs" / run)
    cells = Cells(folder.journal)
    assert list(cells) == folder.records()
    assert len(cells) == len(folder.records())
    assert cells.in_flight == folder.scan().in_flight


def test_the_last_record_counts_in_the_place_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first, other = {"cell": "a", "verdict": "hang"}, {"cell": "b", "verdict": "ok"}
    lines = [first, other, {"cell": "a", "verdict": "ok"}]
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    assert [(r["cell"], r["verdict"]) for r in Cells(path)] == [("a", "ok"), ("b", "ok")]


@pytest.mark.parametrize(
    "torn", ['{"cell":"b","verdict":"o', '{"cell":"b","evidence":{"stage":"done"}', "[1]", "\x00"]
)
def test_torn_lines_are_no_cells(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{{"cell":"a","verdict":"ok"}}\n{torn}\n{{"cell":"c","verdict":"ok"}}\n{torn}')
    assert [record["cell"] for record in Cells(path)] == ["a", "c"]


def test_a_line_that_only_looks_whole_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"cell":"a","reason":"}\n')
    assert list(Cells(path)) == [{"cell": "a", "verdict": "unreadable"}]


def test_the_cell_in_flight(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal.jsonl") as journal:
        journal.begin("a")
        journal.write({"cell": "a"})
        journal.begin("b")
        assert Cells(tmp_path / "journal.jsonl").in_flight == "b"
        journal.write({"cell": "b"})
        assert Cells(tmp_path / "journal.jsonl").in_flight is None


def test_no_journal_has_no_cells(tmp_path: Path) -> None:
    assert not list(Cells(tmp_path / "journal.jsonl"))
    with pytest.raises(HilError, match="Is a directory"):
        Cells(tmp_path)


def test_memory_does_not_grow_with_what_records_hold(tmp_path: Path) -> None:
    """Ten times the evidence in each record, the same number of cells."""

    def peak(evidence: int) -> int:
        path = tmp_path / "journal.jsonl"
        with path.open("w") as file:
            for number in range(2000):
                record = {"cell": f"p/m{number}/capture/steady", "log": ["x" * 100] * evidence}
                file.write(json.dumps(record, separators=(",", ":")) + "\n")
        tracemalloc.start()
        deque(Cells(path), maxlen=0)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)  # what is imported late
    assert peak(40) < peak(4) + 200_000
