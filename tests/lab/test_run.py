# SPDX-License-Identifier: GPL-2.0-or-later
"""`hil run` and `hil show` with cells that are well: what is printed, what is left behind."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.lab.driving import Run, finished

CELLS = [
    f"v4l2-vivid-video0/{memory}/capture/steady"
    for memory in ("shared-anonymous", "memfd", "tmpfs", "pci-bar")
]


class Places(HTMLParser):
    """Where a page's elements point to; links that wait for a click are no part of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {"src", "srcset", "data", "action"} | ({"href"} if tag != "a" else set())
        self.found += [value or "" for name, value in attrs if name in names]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def run(out: Path) -> Run:
    words = " or ".join(f"/{cell.split('/')[1]}/" for cell in CELLS)
    status, output = finished("run", "--out", out, "-k", f"video0/ and steady and ({words})")
    assert status == 0, output
    (out / "output.txt").write_text(output)
    return Run(out)


def test_the_journal_has_a_whole_record_a_cell(run: Run) -> None:
    assert sorted(run.cells) == sorted(CELLS)
    for record in run.records:
        assert {
            "cell", "pinner", "driver", "memory", "direction", "condition", "kernel", "expected",
            "rule", "verdict", "known", "evidence", "seconds",
        } <= set(record)  # fmt: skip
        assert (record["driver"], record["verdict"]) == ("vivid", "ok")
        assert record["kernel"].startswith("6.12.")
        assert record["evidence"]["child"]["exit"] == 0


def test_cells_that_leave_their_process_as_it_was_share_it(run: Run) -> None:
    before = [record["evidence"]["child"]["cells_before"] for record in run.records]
    assert before[:3] == [0, 1, 2]  # a process that shows what its end shows may end with a lot


def test_junit_counts_agree(run: Run) -> None:
    root = ET.parse(run.path / "junit.xml").getroot()
    cases = list(root.iter("testcase"))
    suite = next(root.iter("testsuite"))
    assert len(cases) == int(suite.get("tests", 0)) == len(CELLS)
    assert [suite.get(kind) for kind in ("failures", "errors")] == ["0", "0"]
    names = {p.get("name") for p in cases[0].iter("property")}
    assert {"kernel", "driver", "memory", "verdict"} <= names


def test_the_html_report_stands_alone(run: Run) -> None:
    page = (run.path / "report.html").read_text()
    for cell in CELLS:
        assert cell.split("/")[1] in page
    places = Places()
    places.feed(page)
    assert [place for place in places.found if not place.startswith(("#", "data:"))] == []
    assert not re.findall(r"@import|url\((?!data:|#)", page)


def test_the_folder_tells_what_ran(run: Run) -> None:
    assert {p.name for p in run.path.iterdir()} == {
        "journal.jsonl", "junit.xml", "report.html", "console.log", "run.json",
    }  # fmt: skip
    meta = run.meta
    assert (meta["board"], meta["status"], meta["cells"]) == ("virtual-x86", "complete", len(CELLS))
    assert meta["run"] == run.name
    assert meta["kernel_spec"].startswith("debian:6.12.")
    assert "hil run --out" in meta["command"]
    assert {"python", "qemu", "kernel"} <= set(meta["versions"])
    assert "v4l2-vivid-video0" in [p["name"] for p in meta["pinners"]]
    assert len(meta["starts"]) == 1


def test_show_prints_it_again(run: Run, out: Path) -> None:
    status, output = finished("show", "latest", "--out", out)
    assert status == 0
    assert "4 cells: 4 ok" in output
    assert "4 cells: 4 ok" in (out / "output.txt").read_text()
    status, output = finished("show", run.name, "pci-bar", "--out", out)
    assert status == 0
    assert CELLS[-1] in output
    assert "EFAULT" in output


def test_resuming_a_complete_run_judges_nothing_again(run: Run, out: Path) -> None:
    before = (run.path / "journal.jsonl").read_bytes()
    assert finished("run", "--resume", "latest", "--out", out)[0] == 0
    assert (run.path / "journal.jsonl").read_bytes() == before
