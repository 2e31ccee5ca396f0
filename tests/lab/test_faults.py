# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults are built and caught; the control is clean; what is not caught, or not built, is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from hil.faults import campaign, catalogue
from hil.faults.catalogue import FOLDER
from hil.faults.hunt import Came, Result
from tests.lab.driving import finished

SOME = ("missing-longterm", "leak-on-partial-pin", "record-leaks", "not-marked-dirty", "oops")


@pytest.mark.timeout(600)  # headers and source may have to be fetched
def test_faults_are_caught_by_their_names_and_the_control_is_clean(tmp_path: Path) -> None:
    status, output = finished("faults", *SOME, "--out", tmp_path)
    assert status == 0, output
    assert f"{len(SOME)} of {len(SOME)} faults caught by their name" in output
    assert "1 of 1 unchanged builds clean" in output
    runs = [json.loads(path.read_text()) for path in tmp_path.glob("2*/run.json")]
    assert len(runs) == len(SOME) + 1
    # a guest that is up already is given the module
    assert {start["how"] for run in runs for start in run["starts"]} == {"snapshot"}
    assert all(run["own_modules"] for run in runs)


@pytest.mark.timeout(300)
def test_what_is_missed_misnamed_or_not_built_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    text = (FOLDER / "leak-on-release.toml").read_text()
    (faults / "harmless.toml").write_text(text.replace("nr_frames - 1", "nr_frames - 0"))
    (faults / "misnamed.toml").write_text(text.replace('["leak"]', '["stale"]'))
    (faults / "unbuildable.toml").write_text(text.replace("nr_frames - 1", "no_frames"))
    (faults / "unfit.toml").write_text(text.replace("unpin_user_pages(pages", "unpin_pages(pages"))
    monkeypatch.setattr(catalogue, "FOLDER", faults)
    told: list[Result] = []
    wish = campaign.Wish(kernel="debian:6.12", out=str(tmp_path / "out"), control=False)
    results = campaign.run(catalogue.chosen([]), wish, ["hil"], Console(stderr=True), told.append)
    assert {one.fault: one.came for one in results} == {
        "harmless": Came.MISSED, "misnamed": Came.MISNAMED, "unbuildable": Came.NOT_RUN,
        "unfit": Came.NOT_RUN,
    }  # fmt: skip
    by_name = {one.fault: one for one in results}
    assert by_name["misnamed"].verdicts.keys() == {"leak"}
    assert "no_frames" in by_name["unbuildable"].reason
    assert "expected one of them once" in by_name["unfit"].reason
    assert campaign.exit_code(results) == 3
    assert sorted(told) == sorted(results)
    shutil.rmtree(tmp_path / "out")
