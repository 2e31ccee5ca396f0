# SPDX-License-Identifier: GPL-2.0-or-later
"""tools/repeat.py: verdicts of several runs, compared."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "tools" / "repeat.py"


@pytest.fixture
def repeat(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("repeat", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "repeat", module)
    spec.loader.exec_module(module)
    return module


def run(**verdicts: str) -> list[dict[str, Any]]:
    return [
        {"cell": cell, "verdict": verdict.removesuffix("?"), "known": verdict.endswith("?") or None}
        for cell, verdict in verdicts.items()
    ]


def test_equal_runs_have_no_flaky_cell(repeat: ModuleType) -> None:
    found = repeat.compare([run(a="ok", b="stale?")] * 3)
    assert (found.cells, found.runs, found.flaky) == (2, 3, {})
    assert found.verdicts == {"ok": 3, "stale (known)": 3}
    assert repeat.line(found, "6.12.1", "hil run", "2026-01-01") == (
        "| 2026-01-01 | 6.12.1 | `hil run` | 3 | 2 | 3 ok, 3 stale (known) | none |"
    )


def test_another_verdict_a_lost_excuse_and_a_missing_cell_differ(repeat: ModuleType) -> None:
    found = repeat.compare(
        [run(a="ok", b="stale?", c="ok", d="ok"), run(a="leak", b="stale", d="ok", e="ok")]
    )
    assert found.flaky == {
        "a": ["ok", "leak"],
        "b": ["stale (known)", "stale"],
        "c": ["ok", "missing"],
        "e": ["missing", "ok"],
    }
    assert "`a`, `b`" in repeat.line(found, "", "", "")


def test_of_a_cell_that_was_run_twice_the_last_counts(repeat: ModuleType) -> None:
    found = repeat.compare([[*run(a="hang"), *run(a="ok")], run(a="ok")])
    assert found.flaky == {}
