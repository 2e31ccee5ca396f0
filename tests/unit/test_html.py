# SPDX-License-Identifier: GPL-2.0-or-later
"""report.html: one file, whole, that nothing in a kernel log can break out of."""

from __future__ import annotations

import html.parser
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from hil.errors import HilError
from hil.report import throughput
from hil.report.grid import whole
from hil.report.html import render, write_html
from hil.report.pack import pack
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


def unpack(text: str) -> list[Any]:
    """As report.js does."""
    data = json.loads(text)
    pool: list[Any] = []

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            if value[0] < 0:
                return [whole(part) for part in value[1:]]
            names = data["shapes"][value[0]]
            assert len(names) == len(value) - 1
            return {n: whole(part) for n, part in zip(names, value[1:], strict=True)}
        return pool[value["$"]] if isinstance(value, dict) else value

    for entry in data["pool"]:
        pool.append(whole(entry))
    return [whole(cell) for cell in data["cells"]]


def full(value: Any) -> Any:
    """Without what is null or empty."""
    if isinstance(value, dict):
        return {k: full(v) for k, v in value.items() if v is not None and v not in ("", [], {})}
    return [full(part) for part in value] if isinstance(value, list) else value


def test_packed_records_come_back_whole() -> None:
    records = FAKE["records"](200) + FAKE["small"]() + FAKE["hostile"]()
    assert unpack(pack(records)) == full(records)


def test_true_and_one_stay_apart_when_packed() -> None:
    cells = [{"a": True, "b": 1, "c": 1.0, "d": [True, 1]}, {"a": 1, "b": True}]
    assert str(unpack(pack(cells))) == str(cells)


def test_packing_is_worth_its_while() -> None:
    records = FAKE["records"](1000)
    assert len(pack(records)) < len(json.dumps(records)) / 3
    assert len(render(records)) < 800_000


def test_every_cell_has_a_square_with_its_evidence() -> None:
    records = FAKE["small"]()
    page = Page(render(records, FAKE["meta"](20)))
    cells = unpack(page.scripts[0])
    assert len(page.squares()) == len(cells) == len(records)
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
    assert len(page.scripts) == 2
    assert not {tag for tag, _ in page.tags} & {"b", "i"}
    assert not [a for tag, a in page.tags if tag == "a" and "javascript" in (a["href"] or "")]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    cells = unpack(page.scripts[0])
    assert cells[0]["evidence"]["log"] == [FAKE["HOSTILE"]]
    assert "{{ 7 * 7 }}" in " ".join(page.words)
    assert "\x1b" not in text
    text.encode("utf-8")


def test_an_empty_run_makes_a_page() -> None:
    page = Page(render([], {}))
    assert page.squares() == []
    assert unpack(page.scripts[0]) == []


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
