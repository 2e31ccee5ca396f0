# SPDX-License-Identifier: GPL-2.0-or-later
"""Run folders are found again, never overwritten, and their exit code follows from their cells."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hil.errors import HilError
from hil.runs.folder import RunFolder, newest
from hil.runs.journal import Journal
from hil.runs.outcome import Outcome, exit_code, outcome_of, totals
from hil.verdicts import Verdict

KNOWN = {"id": "k", "reference": "https://example.org"}


def cell(name: str, verdict: str = "ok", **more: object) -> dict[str, Any]:
    return {"cell": name, "verdict": verdict, **more}


def made(root: Path, name: str) -> RunFolder:
    folder = RunFolder.create(root, name)
    folder.write_meta({"run": name})
    return folder


def test_names_tell_time_board_and_kernel_and_never_collide(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        folder = RunFolder.create(tmp_path, board="virtual-x86", kernel="debian:6.12")
        names.add(folder.name)
    assert len(names) == 3
    assert all("-virtual-x86-debian-6.12" in name for name in names)
    assert any(name.endswith("-2") for name in names)


def test_latest_points_to_the_newest(tmp_path: Path) -> None:
    made(tmp_path, "one")
    two = made(tmp_path, "two")
    assert (tmp_path / "latest").readlink() == Path("two")
    found = RunFolder.find("latest", tmp_path)
    assert (found.name, found.path) == ("two", two.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "one", "two"]


def test_latest_is_found_where_there_are_no_links(tmp_path: Path) -> None:
    made(tmp_path, "one")
    (tmp_path / "latest").unlink()
    assert RunFolder.find("latest", tmp_path).name == "one"


def test_a_run_is_found_by_path_name_and_unique_beginning(tmp_path: Path) -> None:
    folder = made(tmp_path, "20261122-one")
    made(tmp_path, "20261123-two")
    texts = (str(folder.path), str(folder.meta), "20261122-one", "20261122")
    for text in texts:
        assert RunFolder.find(text, tmp_path).path == folder.path


def test_what_fits_several_runs_or_none_is_said_with_names(tmp_path: Path) -> None:
    made(tmp_path, "20261122-one")
    made(tmp_path, "20261123-two")
    for text, message in (("2026", "several"), ("none", "no run 'none'"), ("", "no run ''")):
        with pytest.raises(HilError, match=message) as error:
            RunFolder.find(text, tmp_path)
        assert "20261122-one" in error.value.hint
        assert "20261123-two" in error.value.hint


def test_no_run_at_all_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(HilError, match="holds none") as error:
        RunFolder.find("latest", tmp_path / "results")
    assert "hil run" in error.value.hint


def test_any_text_is_not_taken_for_the_run_that_one_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made(tmp_path, "one").path)
    with pytest.raises(HilError):
        RunFolder.find("typo", tmp_path)


def test_a_given_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    made(tmp_path, "one")
    with pytest.raises(HilError, match="not empty") as error:
        RunFolder.create(tmp_path, "one")
    assert "--resume one" in error.value.hint


@pytest.mark.parametrize("name", ["latest", "..", "a/b"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(HilError, match="cannot be a run's name"):
        RunFolder.create(tmp_path, name)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HilError, match="File exists"):
        RunFolder.create(tmp_path / "file")


def test_meta_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path, "one")
    folder.update_meta(status="running")
    assert folder.read_meta() == {"run": "one", "status": "running"}

    def full(fd: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HilError, match="No space left"):
        folder.update_meta(status="complete")
    assert folder.read_meta()["status"] == "running"
    assert [path.name for path in folder.path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_broken_meta_is_named(tmp_path: Path, text: str) -> None:
    folder = made(tmp_path, "one")
    folder.meta.write_text(text)
    with pytest.raises(HilError, match=r"run\.json"):
        folder.read_meta()


def test_newest_comes_first_and_strangers_are_left_out(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        os.utime(made(tmp_path, name).meta, (1000 - age, 1000 - age))
    (tmp_path / "notes").mkdir()
    assert [path.name for path in newest(tmp_path)] == ["new", "middle", "old"]


def test_a_cell_that_ran_twice_counts_once_with_its_last_verdict(tmp_path: Path) -> None:
    folder = made(tmp_path, "one")
    assert folder.records() == []
    with Journal.open(folder.journal) as journal:
        for verdict in ("harness-error", "ok"):
            journal.write(cell("a", verdict))
        journal.write(cell("b", "harness-error"))
    assert [record["verdict"] for record in folder.records()] == ["ok", "harness-error"]
    assert folder.done() == {"a", "b"}
    assert folder.done(again=(Verdict.HARNESS_ERROR,)) == {"a"}
    folder.write_meta({"cells": 2, "status": "complete"})
    assert folder.exit_code() == 1


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_its_outcome(verdict: Verdict) -> None:
    expected = {
        Verdict.OK: ("pass", "unexpected-pass"),
        Verdict.NOT_APPLICABLE: ("skip", "skip"),
        Verdict.HARNESS_ERROR: ("error", "error"),
    }.get(verdict, ("fail", "known"))
    assert outcome_of(cell("a", verdict)) == expected[0]
    assert outcome_of(cell("a", verdict, known=KNOWN)) == expected[1]


def test_a_verdict_or_outcome_of_a_later_version_is_no_pass() -> None:
    assert outcome_of(cell("a", "melted")) is Outcome.FAIL
    assert outcome_of(cell("a", "ok", outcome="glorious")) is Outcome.FAIL


@pytest.mark.parametrize(
    ("cells", "meta", "code"),
    [
        ([cell("a")], {"cells": 1, "status": "complete"}, 0),
        ([cell("a"), cell("b", "leak", known=KNOWN)], {}, 0),
        ([cell("a", "not-applicable")], {}, 0),
        ([cell("a"), cell("b", "leak")], {}, 1),
        ([cell("a", "ok", known=KNOWN)], {}, 1),
        ([cell("a", "no-rule")], {}, 1),
        ([cell("a", "harness-error")], {}, 1),
        ([cell("a")], {"cells": 2, "status": "complete"}, 3),
        ([cell("a"), cell("a")], {"cells": 2, "status": "complete"}, 3),
        ([cell("a", "leak")], {"cells": 2}, 3),
        ([cell("a")], {"cells": 1, "status": "interrupted"}, 3),
        ([], {}, 3),
    ],
)
def test_exit_code(cells: list[dict[str, Any]], meta: dict[str, Any], code: int) -> None:
    assert exit_code(cells, meta) == code


def test_totals_add_up() -> None:
    verdicts = ["ok", "ok", "leak", "not-applicable", "harness-error"]
    cells = [cell(str(n), verdict) for n, verdict in enumerate(verdicts)]
    cells.append(cell("x", "stayed", known=KNOWN))
    count = totals(cells, {"cells": 9})
    assert (count.passed, count.known, count.skipped, count.bad) == (2, 1, 1, 2)
    assert count.passed + count.known + count.skipped + count.bad == count.judged == 6
    assert count.missing == 3
    assert count.verdicts == {
        "ok": 2,
        "leak": 1,
        "not-applicable": 1,
        "harness-error": 1,
        "stayed": 1,
    }
    assert json.loads(json.dumps(count._asdict()))["planned"] == 9


def test_runs_that_are_made_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: RunFolder.create(tmp_path, board="b"), range(64)))
    assert len({folder.path for folder in made}) == 64
    assert (tmp_path / "latest").resolve() in {folder.path.resolve() for folder in made}
    assert not list(tmp_path.glob(".*"))
