# SPDX-License-Identifier: GPL-2.0-or-later
"""Bisection in a git tree of 100 commits, of the distribution's own source, that is made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.lab import histories
from tests.lab.driving import finished
from tests.lab.histories import Made

CELL = "v4l2-vivid-video0/anonymous-movable/capture/steady"
MOST_STEPS = 8


def bisect(folder: Path, made: Made) -> tuple[str, list[dict[str, Any]]]:
    """What `hil bisect module` printed, and its steps."""
    status, output = finished(
        "bisect", "module", "--tree", made.repository, "--path", histories.PATH,
        "--good", made.commits[0], "--bad", made.commits[-1], "--cell", CELL,
        "--kernel", "debian:6.1", "--out", folder / "results",
        "--confidence", "0.9999",  # chance is to fail this test once in ten thousand runs
    )  # fmt: skip
    assert status == 0, output
    (file,) = (folder / "results").glob("bisect-*/steps.jsonl")
    return output, [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.timeout(400)  # nine or ten builds and guests
@pytest.mark.parametrize(("fault", "at"), [("longterm", 62), ("sometimes", 37)])
def test_finds_the_pinning_bug_among_commits_that_do_not_build(
    tmp_path: Path, fault: str, at: int
) -> None:
    """One that fails always, and one that fails in three runs of ten."""
    made = histories.make(tmp_path / "tree", histories.FAULTS[fault], at=at)
    output, steps = bisect(tmp_path, made)
    assert f"{made.faulty} is the first bad commit" in output
    tested = [step for step in steps if step["role"] == "step"]
    assert len(tested) <= MOST_STEPS, output
    number = {commit: i for i, commit in enumerate(made.commits)}
    for step in steps:
        if step["commit"] in made.broken:
            assert step["sight"] == "untold" and "does not build" in step["why"]
        else:
            assert step["sight"] == ("bad" if number[step["commit"]] >= at else "good")
    assert {step["commit"] for step in tested} & made.broken, "no commit tested was a broken one"
    assert "stayed" in output
