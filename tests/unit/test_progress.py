# SPDX-License-Identifier: GPL-2.0-or-later
"""The progress of a run over several kernels."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from hil.report.progress import Progress


def record(cell: str, verdict: str = "ok") -> dict[str, Any]:
    return {"cell": cell, "verdict": verdict, "reason": "so", "known": None, "seconds": 1.0}


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=160)


def said(there: Console) -> str:
    assert isinstance(there.file, io.StringIO)
    return there.file.getvalue()


def test_kernels_that_are_still_to_begin_are_reckoned_with() -> None:
    now = [0.0]
    progress = Progress(console(terminal=False), 0, kernels=3, clock=lambda: now[0])
    first, second = progress.part("6.1"), progress.part("6.12")
    assert progress.seconds_left() is None
    first.add(10)
    first.begin("a")
    for _ in range(5):
        now[0] += 1.0
        first.done(record("a"))
    # 5 cells of this kernel, and 10 of each of the two others, at a second each
    assert progress.seconds_left() == pytest.approx(25.0)
    second.add(20)
    assert progress.seconds_left() == pytest.approx(40.0)


def test_what_a_kernel_says_carries_its_name() -> None:
    there = console(terminal=False)
    with Progress(there, 0, kernels=2) as progress:
        one, other = progress.part("6.1"), progress.part("6.12")
        one.add(1)
        one.note("the guest went down")
        one.done(record("x/memfd/capture/steady", "leak"))
        one.ended()
        other.add(1)
        other.done(record("x/memfd/capture/steady"))
        other.ended()
    told = said(there)
    assert "6.1: the guest went down" in told
    assert "6.1 x/memfd/capture/steady: so" in told
    assert "2/2 kernels, 2/2 cells, 1 bad" in told


def test_a_terminal_shows_a_line_for_each_kernel_that_is_at_work() -> None:
    there = console(terminal=True)
    with Progress(there, 0, kernels=2) as progress:
        one, other = progress.part("6.1"), progress.part("6.12")
        one.add(3)
        one.begin("x/memfd/capture/steady")
        other("fetching kernel 6.12.118", 0.4)
        shown = progress._render()
        lines = [line.plain for line in shown.renderables[1:]]  # type: ignore[union-attr]
        assert lines == [
            "  6.1    0/3  x/memfd/capture/steady", "  6.12   fetching kernel 6.12.118",
        ]  # fmt: skip
        one.ended()
        assert len(progress._render().renderables) == 2
    assert "1/2 kernels, 0/3+ cells" in said(there)


def test_one_kernel_is_not_named() -> None:
    there = console(terminal=False)
    with Progress(there, 0) as progress:
        part = progress.part("6.1")
        part.add(1)
        part.note("a note")
        part.done(record("x/memfd/capture/steady", "leak"))
    assert "6.1" not in said(there)
    assert "kernels" not in said(there)


def test_a_terse_one_tells_of_no_cell() -> None:
    text = io.StringIO()
    console = Console(file=text, width=200)
    with Progress(console, 2, kernels=3, called="builds", terse=True) as progress:
        part = progress.part("leak-on-release")
        part.tell("Linux 6.12: 2 cells")
        part.note("the guest went down in a cell")
        part.begin("a/b/c/d")
        part.done({"cell": "a/b/c/d", "verdict": "leak", "reason": "3 pins"})
        part.ended()
    assert "1/3 builds" in text.getvalue()
    assert "1 bad" in text.getvalue()
    assert not any(word in text.getvalue() for word in ("a/b/c/d", "3 pins", "Linux", "went down"))
