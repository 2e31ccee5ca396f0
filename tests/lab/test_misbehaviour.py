# SPDX-License-Identifier: GPL-2.0-or-later
"""Cells that spin, get stuck, take the guest or the suite down: each costs itself alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lab.driving import CONDITIONS, Run, finished, misbehaving_board

CELL = "v4l2-vivid-video0/shared-anonymous/capture"


class Result:
    def __init__(self, status: int, output: str, run: Run) -> None:
        self.status, self.output, self.run = status, output, run
        self.by_condition: dict[str, dict[str, Any]] = {r["condition"]: r for r in run.records}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    out = tmp_path_factory.mktemp("results")
    board = misbehaving_board(out)
    status, output = finished(
        "run", "--board", board, "--out", out, "--cell-timeout", 1,
        "-k", "video0/shared-anonymous/capture",
    )  # fmt: skip
    return Result(status, output, Run(out))


@pytest.mark.parametrize(
    ("condition", "verdict", "words"),
    [
        ("exit", "harness-error", "ended with status 3"),
        ("segfault", "harness-error", "died of signal 11"),
        ("suite-dies", "harness-error", "the suite in the guest ended with status 137"),
        ("spin", "hang", "did not end within the deadline"),
        ("stuck", "hang", "can't be killed"),
        ("panic", "crash", "Kernel panic - not syncing: sysrq triggered crash"),
        ("vanish", "crash", "the machine went down"),
        ("freeze", "hang", "the machine hung"),
        ("steady", "ok", "as it must"),
    ],
)
def test_verdicts(result: Result, condition: str, verdict: str, words: str) -> None:
    record = result.by_condition[condition]
    assert record["verdict"] == verdict, record["reason"]
    assert words in record["reason"]


def test_each_cell_has_one_record_in_order(result: Result) -> None:
    assert result.run.cells == [f"{CELL}/{name}" for name in CONDITIONS], result.output
    assert result.status == 1
    assert result.run.meta["status"] == "complete"


def test_a_hang_comes_with_its_stack_and_the_kernels_tasks(result: Result) -> None:
    spin, stuck = (result.by_condition[name]["evidence"]["child"] for name in ("spin", "stuck"))
    assert spin["killed"] is True
    assert "state R" in spin["stack"]
    assert stuck["killed"] is False
    assert "state D" in stuck["stack"]
    assert "vfs_write" in stuck["stack"]
    assert "Show Blocked State" in stuck["tasks"]


def test_a_lost_machine_comes_with_its_last_words(result: Result) -> None:
    panic, freeze = (result.by_condition[name]["evidence"] for name in ("panic", "freeze"))
    assert "sysrq_handle_crash" in "\n".join(panic["console"])
    assert "NMI" in "\n".join(freeze["console"])
    console = (result.run.path / "console.log").read_text()
    assert "sysrq triggered crash" in console


def test_the_next_guest_is_there_at_once(result: Result) -> None:
    starts = result.run.meta["starts"]
    # exit and segfault leave the guest alone, each of the others costs one
    assert len(starts) == len(CONDITIONS) - 2
    assert {start["how"] for start in starts} == {"snapshot"}


def test_a_normal_board_has_no_such_cells(tmp_path: Path) -> None:
    status, output = finished("run", "-k", "panic or spin or freeze", "--out", tmp_path)
    assert status == 2
    assert "cells fits -k 'panic or spin or freeze'" in output
