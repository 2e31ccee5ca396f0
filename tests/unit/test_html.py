# SPDX-License-Identifier: GPL-2.0-or-later
"""report.html: one file, whole, that nothing in a kernel log can break out of."""

from __future__ import annotations

import base64
import html.parser
import json
import runpy
import zlib
from pathlib import Path
from typing import Any

import pytest

from hil.errors import HilError
from hil.report import throughput
from hil.report.grid import whole
from hil.report.html import render, write_html
from hil.report.pack import SHEET, Table, script_json, sheets
from hil.runs.folder import RunFolder

DATA = Path(__file__).parent / "data"
FAKE = runpy.run_path(str(DATA / "fake_run.py"))


class Page(html.parser.HTMLParser):
    """Elements, squares and scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._in = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in != "style":
            self.words.append(data)

    def squares(self) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == "button" and "data-i" in attrs]


def summaries(page: Page) -> list[dict[str, str]]:
    """What report.js filters by."""
    data = json.loads(page.scripts[0])
    names = ("cell", "verdict", "outcome", "mark", "driver", "known", "reason")
    return [
        dict(zip(names, (data["words"][n] or "" for n in row), strict=True)) for row in data["rows"]
    ]


def records(page: Page) -> list[Any]:
    """The records in the page's sheets, as evidence.js finds them."""
    found: list[Any] = []
    for sheet in page.scripts[2:]:
        lines = zlib.decompress(base64.b64decode(sheet)).split(b"\n")
        found += map(json.loads, lines)
    return found


def test_records_come_back_whole() -> None:
    given = FAKE["records"](3 * SHEET - 1) + FAKE["small"]()[:1] + FAKE["hostile"]()
    found = "".join(sheets((json.dumps(record).encode() for record in given), len(given)))
    page = Page(f"<script></script><script></script>{found}")
    assert records(page) == given
    assert [attrs.get("id") for tag, attrs in page.tags if tag == "script"][2:] == [
        f"sheet-{n}" for n in range(4)
    ]


def test_words_are_written_once() -> None:
    table = Table()
    table.add(["a", "b", None])
    table.add(["b", "b", "</script>"])
    text = script_json(table.as_dict())
    assert "</script>" not in text
    data = json.loads(text)
    assert data["words"] == ["a", "b", None, "</script>"]
    assert data["rows"] == [[0, 1, 2], [1, 1, 3]]


def test_packing_is_worth_its_while() -> None:
    given = FAKE["records"](1000)
    assert len(render(given)) < len(json.dumps(given)) / 4


def test_every_cell_has_a_square_with_its_evidence() -> None:
    given = FAKE["small"]()
    page = Page(render(given, FAKE["meta"](20)))
    cells = summaries(page)
    assert len(page.squares()) == len(cells) == len(given)
    assert records(page) == given
    for square in page.squares():
        cell = cells[int(square["data-i"] or "")]
        assert square["title"] == f"{cell['cell']}: {cell['verdict']}"
        assert cell["mark"] in (square["class"] or "")


def test_totals_reasons_and_references_are_on_the_page() -> None:
    text = " ".join(Page(render(FAKE["small"](), FAKE["meta"](22))).words)
    for part in ("20 cells:", "15 bad", "2 known", "2 of 22 not judged", "6.12.107+deb13-amd64"):
        assert part in text
    assert "made up, to show leak" in text
    assert FAKE["KNOWN"]["reference"] in text


def test_the_page_needs_nothing_from_outside() -> None:
    text = render(FAKE["small"](), FAKE["meta"](20))
    page = Page(text)
    for tag, attrs in page.tags:
        assert tag not in ("link", "img", "iframe", "object")
        assert "src" not in attrs
        if tag == "a":
            assert (attrs["href"] or "").startswith(("#", "https://lore.kernel.org/"))
    assert "@import" not in text
    assert "url(" not in text
    policies = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert "default-src 'none'" in (policies[0] or "")


def test_hostile_text_stays_text() -> None:
    folder = RunFolder(DATA / "runs" / "hostile")
    text = render(folder.records(), folder.read_meta())
    page = Page(text)
    assert len(page.scripts) == 3
    assert not {tag for tag, _ in page.tags} & {"b", "i"}
    assert not [a for tag, a in page.tags if tag == "a" and "javascript" in (a["href"] or "")]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    cells = records(page)
    assert cells[0]["evidence"]["log"] == [FAKE["HOSTILE"]]
    assert "{{ 7 * 7 }}" in " ".join(page.words)
    assert "\x1b" not in text
    text.encode("utf-8")


def test_an_empty_run_makes_a_page() -> None:
    page = Page(render([], {}))
    assert page.squares() == []
    assert summaries(page) == records(page) == []


def test_the_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_html(path, FAKE["small"]())
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(HilError, match="No such file"):
        write_html(tmp_path / "none" / "report.html", [])


def _measured(memory: str, ratio: float | None) -> dict[str, Any]:
    paces = {"userptr": {"fps": 24.0, "lost": 1}, "mmap": {"fps": 30.0, "lost": 0}, "ratio": ratio}
    return {
        "cell": f"v4l2-tw68-video0/{memory}/capture/throughput",
        "verdict": "ok",
        "evidence": {"condition": {"facts": {"throughput": paces}}},
    }


def test_what_cells_measured_is_a_chart() -> None:
    records = [_measured("thp", 1.04), _measured("memfd", None), _measured("anonymous", 0.8)]
    found = throughput.bars([whole(record) for record in records])
    assert [(bar.record, bar.ratio, bar.width) for bar in found] == [
        (2, 0.8, 40.0),
        (0, 1.04, 52.0),
    ]
    assert found[0].told == "24.0 frames a second, 1 lost; MMAP 30.0, 0 lost"
    text = render(records)
    assert text.count('class="bar"') == 2
    assert "v4l2-tw68-video0, anonymous" in text
    assert 'class="throughput"' not in render(FAKE["small"]())
