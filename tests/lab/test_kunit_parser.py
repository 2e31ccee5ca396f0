# SPDX-License-Identifier: GPL-2.0-or-later
"""The KTAP that we write, read by the kernel's own parser, from the distribution's source."""

from __future__ import annotations

import importlib
import io
import runpy
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from hil.lab import kernels
from hil.lab.drivers import sources
from hil.report import ktap
from hil.runs.folder import RunFolder
from hil.runs.stream import Cells

DATA = Path(__file__).parents[1] / "unit/data"
FAKE = runpy.run_path(str(DATA / "fake_run.py"))
TOOLS = "tools/testing/kunit"


@pytest.fixture(scope="module")
def parser() -> Iterator[Any]:
    kernel = kernels.get("debian:6.12", say=lambda *_: None)
    folder = sources.source(kernel, [TOOLS], lambda *_: None).folder / TOOLS
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("kunit_parser")
    finally:
        sys.path.remove(str(folder))


def parsed(parser: Any, folder: Path) -> Any:
    run = RunFolder(folder)
    text = "".join(ktap.lines(Cells(run.journal), run.read_meta()))
    # A kernel's console has a time stamp before each line.
    console = [f"[    1.234567] {line}" for line in text.splitlines()]
    with redirect_stdout(io.StringIO()):
        test = parser.parse_run_tests(console)
    assert test.counts.errors == 0
    return test


@pytest.mark.parametrize(
    ("run", "passed", "failed", "skipped"),
    [
        ("every-verdict", 4, 15, 1), ("hostile", 1, 2, 1), ("interrupted", 2, 1, 1),
        ("all-well", 2, 0, 0),
    ],
)  # fmt: skip
def test_recorded_runs(parser: Any, run: str, passed: int, failed: int, skipped: int) -> None:
    counts = parsed(parser, DATA / "runs" / run).counts
    assert (counts.passed, counts.failed, counts.skipped) == (passed, failed, skipped)
    assert counts.crashed == 0


def test_it_finds_each_cell_in_its_place(parser: Any, tmp_path: Path) -> None:
    records = FAKE["records"](900)
    FAKE["write"](tmp_path, records, FAKE["meta"](900))
    found = [
        f"{pinner.name}/{memory.name}/{cell.name}"
        for pinner in parsed(parser, tmp_path).subtests
        for memory in pinner.subtests
        for cell in memory.subtests
    ]
    assert found == [record["cell"] for record in records]
