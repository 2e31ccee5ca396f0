# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil show` finds the cell that is meant and prints all there is of it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from hil.errors import HilError
from hil.report import html, junit
from hil.report.show import find_cell, show_cell, show_run
from hil.runs.folder import RunFolder

DATA = Path(__file__).parent / "data"
FAKE = runpy.run_path(str(DATA / "fake_run.py"))
REFERENCES = runpy.run_path(str(DATA / "references.py"))


def leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    if isinstance(value, list):
        return [leaf for part in value for leaf in leaves(part)]
    return [] if value is None else [str(value)]


def test_all_evidence_is_printed(tmp_path: Path) -> None:
    record = FAKE["small"]()[9]
    evidence = record["evidence"]
    evidence["child"].update(stack=FAKE["STACK"], tasks="task dump", signal=9, killed="by us")
    evidence["log"] = FAKE["WARNING"]
    evidence["second_pin"] = {"errno": None, "acquired": 7001, "changed_frames": 7002}
    evidence["data"] = {"corrupt_bytes": 7003}
    evidence["moved_pages"], evidence["unsuitable_pages"] = 7004, 7005
    evidence["found_later"] = {"new": "a kind of evidence of a later version"}
    FAKE["write"](tmp_path, [record], FAKE["meta"](1))
    console = REFERENCES["terminal"](200)
    show_cell(console, RunFolder(tmp_path), record["cell"])
    text = " ".join(REFERENCES["said"](console).split())
    for leaf in leaves({**record, "memory_family": None, "evidence": {**evidence, "stage": None}}):
        if leaf not in ("True", "False"):
            assert " ".join(leaf.split()) in text, leaf


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("v4l2-vivid-video0/thp/capture/steady", "v4l2-vivid-video0/thp/capture/steady"),
        ("video0/thp", "v4l2-vivid-video0/thp/capture/steady"),
        ("video1-prepare sysv", "v4l2-vivid-video1-prepare/sysv/output/steady"),
        # "memfd-secret" has "memfd" in it too; the class called just that is meant.
        ("v4l2-vivid-video0 memfd", "v4l2-vivid-video0/memfd/capture/steady"),
    ],
)
def test_a_part_that_only_one_cell_has_is_enough(text: str, meant: str) -> None:
    assert find_cell(FAKE["small"](), text)["cell"] == meant


def test_several_cells_are_named() -> None:
    with pytest.raises(HilError, match="fits 4 cells") as error:
        find_cell(FAKE["small"](), "sysv")
    assert "v4l2-vivid-video1/sysv/output/steady" in error.value.hint


def test_a_long_list_of_candidates_is_cut() -> None:
    with pytest.raises(HilError, match="fits 20 cells") as error:
        find_cell(FAKE["small"](), "steady")
    assert "and 8 more" in error.value.hint


def test_a_slip_is_met_with_the_nearest_cells() -> None:
    with pytest.raises(HilError, match="no cell") as error:
        find_cell(FAKE["small"](), "v4l2-vivid-video0/memdf/capture/steady")
    assert "v4l2-vivid-video0/memfd/capture/steady" in error.value.hint


@pytest.mark.parametrize("text", ["", " ", "zzz"])
def test_nothing_fits(text: str) -> None:
    with pytest.raises(HilError, match="among the 20") as error:
        find_cell(FAKE["small"](), text)
    assert "hil show RUN" in error.value.hint


def test_an_interrupted_run_says_where_it_stopped_and_how_to_go_on(tmp_path: Path) -> None:
    FAKE["write"](tmp_path, FAKE["small"]()[:3], FAKE["meta"](20, "interrupted"))
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"begin":"v4l2-vivid-video0/sysv/capture/steady"}\n{"cell":"v4l2-viv')
    console = REFERENCES["terminal"](200)
    show_run(console, RunFolder(tmp_path))
    text = REFERENCES["said"](console)
    assert "it stopped in v4l2-vivid-video0/sysv/capture/steady" in text
    assert f"hil run --resume {tmp_path.name}" in text
    assert "the last line is torn" in text
    assert "17 of 20 were not judged" in text


def test_a_run_that_has_judged_nothing_yet_is_shown(tmp_path: Path) -> None:
    FAKE["write"](tmp_path, [], FAKE["meta"](20, "running"))
    console = REFERENCES["terminal"](80)
    show_run(console, RunFolder(tmp_path))
    assert "No cell was judged; 20 were planned." in REFERENCES["said"](console)


def test_reports_are_made_beside_the_journal(tmp_path: Path) -> None:
    meta = {**FAKE["meta"](20), "command": ["pytest", "-m", "hw", "-k", "memfd or thp"]}
    FAKE["write"](tmp_path, FAKE["small"](), meta)
    folder = RunFolder(tmp_path)
    html.write(folder)
    junit.write(folder)
    assert "pytest -m hw -k &#39;memfd or thp&#39;" in folder.html.read_text(encoding="utf-8")
    assert "pytest -m hw -k 'memfd or thp'" in folder.junit.read_text(encoding="utf-8")
    console = REFERENCES["terminal"](100)
    show_run(console, folder)
    assert "pytest -m hw -k 'memfd or thp'" in REFERENCES["said"](console)
