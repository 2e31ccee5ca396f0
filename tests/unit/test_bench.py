# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of docs/performance.md: medians, ratios, targets."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

# bench/ is no installed package.
_spec = importlib.util.spec_from_file_location(
    "bench_page", Path(__file__).parents[2] / "bench/page.py"
)
assert _spec is not None
assert _spec.loader is not None
page = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(page)
Figure = page.Figure

C = Figure("c", "the C program", "ms", (10.0, 12.0, 11.0))
QUICK = Figure("cell", "a cell", "ms", (30.0, 36.0, 20.0), beside="c", ratio_target=3.0)
SLOW = QUICK._replace(values=(36.0, 40.0, 35.0))
START = Figure("start", "the start", "s", (0.5, 7.0, 0.6), target=1.0)
FIGURES = {"c": C}


def test_the_median_counts_and_not_the_worst() -> None:
    assert START.median == 0.6
    assert page.met(START, {}) is True
    assert page.met(START._replace(values=(0.5, 7.0, 1.1)), {}) is False


def test_a_ratio_compares_medians_in_one_unit() -> None:
    assert page.ratio(QUICK, FIGURES) == pytest.approx(30 / 11)
    in_seconds = QUICK._replace(unit="s", values=(0.030,))
    assert page.ratio(in_seconds, FIGURES) == pytest.approx(30 / 11)
    assert page.ratio(C, FIGURES) is None


def test_a_target_of_the_ratio() -> None:
    assert page.met(QUICK, FIGURES) is True
    assert page.met(SLOW, FIGURES) is False
    assert page.met(SLOW, {}) is None, "nothing to compare with: neither met nor missed"


def test_a_row_tells_all() -> None:
    assert page.row(SLOW, FIGURES) == [
        "a cell", "36.0 ms", "35.0 .. 40.0 ms", "3", "3.27 of the C program",
        "ratio <= 3: **not met**",
    ]  # fmt: skip
    assert page.row(START, {}) == ["the start", "0.60 s", "0.50 .. 7.00 s", "3", "", "<= 1 s: met"]
    assert page.row(C._replace(values=(10.0,)), {})[2] == ""


def test_a_table_leaves_out_what_is_empty_everywhere() -> None:
    lines = page.table([page.row(C, {}), page.row(C, {})]).splitlines()
    assert lines[0] == "|  | median | min .. max | runs |"
    assert len(lines) == 4


def test_figures_survive_json() -> None:
    assert page.figure(json.loads(json.dumps(QUICK.as_dict()))) == QUICK


def test_only_what_is_between_the_markers_is_replaced() -> None:
    begin, end = "<!-- measured: a.py writes from here -->", "<!-- measured: to here -->"
    other = f"<!-- measured: b.py writes from here -->\nkept\n{end}\n"
    text = f"{other}before\n{begin}\nold\n{end}\nafter\n{other}"
    expected = f"{other}before\n{begin}\n\nnew\n\n{end}\nafter\n{other}"
    assert page.replaced(text, "new\n", "a.py") == expected
    twice = page.replaced(page.replaced(text, "1", "a.py"), "2", "a.py")
    assert twice == page.replaced(text, "2", "a.py")
    with pytest.raises(ValueError, match="no <!-- measured"):
        page.replaced("no markers", "new")
