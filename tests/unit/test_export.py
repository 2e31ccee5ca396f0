# SPDX-License-Identifier: GPL-2.0-or-later
"""What `hil export` makes is what KTAP, KCIDB, CSV and Markdown ask for."""

from __future__ import annotations

import csv
import io
import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ktap_reader
import pytest

from hil.cli import main
from hil.commands.export import FORMATS
from hil.report import csv as csv_report
from hil.report import kcidb, ktap, markdown
from hil.runs.folder import RunFolder
from hil.runs.outcome import Outcome, outcome_of
from hil.runs.stream import Cells

DATA = Path(__file__).parent / "data"
RUNS = sorted(path.name for path in (DATA / "runs").iterdir())
FAKE = runpy.run_path(str(DATA / "fake_run.py"))


def run(name: str) -> tuple[Cells, dict[str, Any]]:
    folder = RunFolder(DATA / "runs" / name)
    return Cells(folder.journal), folder.read_meta()


def made(tmp_path: Path, records: list[dict[str, Any]], meta: dict[str, Any]) -> Cells:
    FAKE["write"](tmp_path, records, meta)
    return Cells(tmp_path / "journal.jsonl")


# KTAP


def leaves(text: str) -> dict[str, ktap_reader.Test]:
    return {name: t for top in ktap_reader.read(text) for name, t in top.leaves().items()}


@pytest.mark.parametrize("name", RUNS)
def test_ktap_has_each_cell_once(name: str) -> None:
    cells, meta = run(name)
    found = leaves("".join(ktap.lines(cells, meta)))
    found.pop("all-cells-judged", None)
    assert len(found) == len(cells)
    if name != "hostile":  # the names there are changed
        assert set(found) == set(cells.ids)


def test_each_outcome_has_its_ktap_line(tmp_path: Path) -> None:
    cells = made(tmp_path, FAKE["small"](), FAKE["meta"](20))
    found = leaves("".join(ktap.lines(cells, FAKE["meta"](20))))
    seen = set()
    for record in cells:
        test, outcome = found[record["cell"]], outcome_of(record)
        seen.add(outcome)
        assert test.ok == (not outcome.bad)
        wanted = {Outcome.SKIP: "SKIP", Outcome.KNOWN: "XFAIL", Outcome.ERROR: "ERROR"}
        hang = "TIMEOUT" if record["verdict"] == "hang" else ""
        assert test.directive == wanted.get(outcome, hang)
        if outcome not in (Outcome.PASS, Outcome.UNEXPECTED_PASS):
            assert record["reason"] in test.text
    assert seen == set(Outcome)


def test_ktap_shows_log_and_stack_before_the_result(tmp_path: Path) -> None:
    record = FAKE["small"]()[9]
    record["evidence"]["log"] = [f"line {number}" for number in range(500)]
    record["evidence"]["child"]["stack"] = FAKE["STACK"]
    cells = made(tmp_path, [record], FAKE["meta"](1))
    (test,) = leaves("".join(ktap.lines(cells, FAKE["meta"](1)))).values()
    assert "VIDIOC_QBUF: accepted" in test.said
    assert "kernel: line 0" in test.said
    assert any("lines are left out" in line for line in test.said)
    assert any("vb2_vmalloc_get_userptr+0x8c" in line for line in test.said)
    assert len(test.said) < 100


@pytest.mark.parametrize(
    "text",
    ["# SKIP this", "x # SKIP y", "1..4", "Kernel panic - not syncing: VFS: Unable", "ok 1 x",
     "KTAP version 1", "# Subtest: x", "a\nnot ok 1 b", "reboot: System halted"],
)  # fmt: skip
def test_no_text_passes_for_ktap(tmp_path: Path, text: str) -> None:
    record = FAKE["small"]()[3]
    record["reason"], record["evidence"]["log"] = text, [text]
    record["cell"] = f"pinner/{text.replace('/', '-')}/capture/steady"
    cells = made(tmp_path, [record], FAKE["meta"](1))
    document = "".join(ktap.lines(cells, FAKE["meta"](1)))
    (test,) = leaves(document).values()
    assert not test.ok and not test.directive
    assert "Kernel panic - not syncing: VFS:" not in document  # kunit_parser.py would stop there
    assert "reboot: System halted" not in document


def test_a_run_that_is_not_complete_is_not_ok() -> None:
    cells, meta = run("interrupted")
    last = ktap_reader.read("".join(ktap.lines(cells, meta)))[-1]
    assert (last.ok, last.directive, last.text) == (
        False, "ERROR", "17 of 20 cells were not judged"
    )  # fmt: skip


# KCIDB


def document(cells: Cells, meta: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Made, and held against the schema that kcidb-io ships."""
    schema = pytest.importorskip("kcidb_io.schema", reason="needs kcidb-io: make setup")
    text = "".join(kcidb.lines(cells, meta, **more))
    text.encode()  # no half of a surrogate pair
    found: dict[str, Any] = json.loads(text)
    schema.V5_3.validate_exactly(found)
    return found


@pytest.mark.parametrize("name", RUNS)
def test_kcidb_is_valid_and_ties_together(name: str) -> None:
    cells, meta = run(name)
    found = document(cells, meta)
    (checkout,), (build,) = found["checkouts"], found["builds"]
    assert build["checkout_id"] == checkout["id"]
    assert {test["build_id"] for test in found["tests"]} == {build["id"]}
    ids = [test["id"] for test in found["tests"]]
    assert len(set(ids)) == len(ids) == len(cells)
    issues = {(issue["id"], issue["version"]) for issue in found.get("issues", [])}
    for incident in found.get("incidents", []):
        assert incident["test_id"] in ids
        assert (incident["issue_id"], incident["issue_version"]) in issues


def test_statuses(tmp_path: Path) -> None:
    cells = made(tmp_path, FAKE["small"](), FAKE["meta"](20))
    found = document(cells, FAKE["meta"](20))
    tied = {incident["test_id"]: incident["present"] for incident in found["incidents"]}
    for record, test in zip(cells, found["tests"], strict=True):
        wanted = {
            "ok": "PASS", "not-applicable": "SKIP", "no-rule": "ERROR", "harness-error": "ERROR",
        }  # fmt: skip
        assert test["status"] == wanted.get(record["verdict"], "FAIL"), record["verdict"]
        if record["known"]:
            # The tested code is at fault, and it is known what for.
            assert tied[test["id"]] == (record["verdict"] != "ok")
        else:
            assert test["id"] not in tied
        if record["verdict"] in ("ok", "not-applicable"):
            continue
        assert record["reason"] in test["log_excerpt"]


def test_a_suite_that_was_not_ready_ran_no_test() -> None:
    record = {"cell": "p/m/capture/steady", "verdict": "harness-error"}
    assert kcidb.status_of({**record, "evidence": {"stage": "make"}}) == "MISS"
    assert kcidb.status_of({**record, "evidence": {"stage": "hold"}}) == "ERROR"
    assert kcidb.status_of({**record, "verdict": "of-a-later-version"}) == "ERROR"


def test_the_cell_that_a_run_was_stopped_in_is_missed() -> None:
    cells, meta = run("interrupted")
    found = document(cells, meta, in_flight="v4l2-vivid-video0/sysv/capture/steady")
    last = found["tests"][-1]
    assert last["status"] == "MISS"
    assert last["path"] == "userptr_hil.v4l2-vivid-video0.sysv.capture.steady"


def test_a_long_log_is_cut_in_the_middle(tmp_path: Path) -> None:
    record = FAKE["small"]()[11]
    record["evidence"]["log"] = ["the first line", *["x" * 70] * 4000, "the last line"]
    cells = made(tmp_path, [record], FAKE["meta"](1))
    (test,) = document(cells, FAKE["meta"](1))["tests"]
    text = test["log_excerpt"]
    assert len(text) == pytest.approx(kcidb.EXCERPT, abs=20)
    assert len(text) <= kcidb.EXCERPT
    assert "the first line" in text and "the last line" in text and "are left out" in text


def test_a_reference_with_an_address_is_a_report(tmp_path: Path) -> None:
    cells = made(tmp_path, FAKE["small"](), FAKE["meta"](20))
    (issue,) = document(cells, FAKE["meta"](20))["issues"]
    assert issue["report_url"] == FAKE["KNOWN"]["reference"]
    assert issue["culprit"] == {"code": True, "tool": False, "harness": False}


def test_own_modules_make_another_build(tmp_path: Path) -> None:
    meta = FAKE["meta"](20)
    cells = made(tmp_path, FAKE["small"](), meta)
    own = document(cells, {**meta, "own_modules": ["vivid.ko"]})
    assert own["builds"][0]["id"] != document(cells, meta)["builds"][0]["id"]


# CSV


@pytest.mark.parametrize("name", RUNS)
def test_csv_has_a_line_a_cell(name: str) -> None:
    cells, meta = run(name)
    rows = list(csv.DictReader(io.StringIO("".join(csv_report.lines(cells, meta)), newline="")))
    assert [row["cell"] for row in rows] == list(cells.ids)
    for row, record in zip(rows, cells, strict=True):
        assert len(row) == len(csv_report.COLUMNS)
        assert row["verdict"] == record["verdict"]
        assert row["outcome"] == outcome_of(record)


def test_csv_columns_stay() -> None:
    """Scripts name them: add at the end, never change."""
    assert csv_report.COLUMNS[:10] == (
        "run", "board", "kernel", "cell", "pinner", "driver", "memory", "direction", "condition",
        "verdict",
    )  # fmt: skip
    cells, meta = run("every-verdict")
    row = next(csv.DictReader(io.StringIO("".join(csv_report.lines(cells, meta)), newline="")))
    assert (row["run"], row["board"]) == (meta["run"], "virtual-x86")
    assert (row["expected"], row["call"], row["errno"]) == ("accepted", "VIDIOC_QBUF", "")
    assert (row["pins_during"], row["pins_after"]) == ("113", "0")


# Markdown


def tables(text: str) -> Iterator[list[list[str]]]:
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        yield [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]


@pytest.mark.parametrize("name", RUNS)
def test_markdown_tables_are_even(name: str) -> None:
    cells, meta = run(name)
    text = "".join(markdown.lines(cells, meta))
    for table in tables(text):
        assert {len(row) for row in table} == {len(table[0])}, table[0]
        assert set("".join(table[1])) <= set("-: ")
    assert "<b>" not in re.sub(r"`[^`]*`", "", text)


def test_markdown_names_bad_and_known_cells(tmp_path: Path) -> None:
    cells = made(tmp_path, FAKE["small"](), FAKE["meta"](20))
    text = "".join(markdown.lines(cells, FAKE["meta"](20)))
    assert "**20 cells: 2 ok, 2 known, 1 not applicable, 15 bad**" in text
    for record in cells:
        outcome = outcome_of(record)
        if outcome.bad or outcome is Outcome.KNOWN:
            assert f"`{record['cell']}`" in text
    assert f"`{FAKE['KNOWN']['id']}`" in text
    assert "ok, but known as" in text


def test_many_pinners_are_rows(tmp_path: Path) -> None:
    cells = made(tmp_path, FAKE["records"](1800), FAKE["meta"](1800))
    matrix = next(tables("".join(markdown.lines(cells, FAKE["meta"](1800)))))
    assert [cell.strip() for cell in matrix[0]] == ["", "ok", "known", "not applicable", "bad"]
    assert len(matrix) == 2 + len({cell.partition("/")[0] for cell in cells.ids})


# The command


@pytest.mark.parametrize("form", FORMATS)
def test_the_command_prints_and_writes_the_same(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(DATA / "runs")
    assert main(["export", "every-verdict", "--format", form, "--out", out]) == 0
    printed = capsys.readouterr().out
    file = tmp_path / "made"
    arguments = ["export", "every-verdict", "--format", form, "--out", out, "--output", str(file)]
    assert main(arguments) == 0
    with file.open(encoding="utf-8", newline="") as written:
        assert written.read() == printed != ""
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_junit_is_that_of_the_run_folder(capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", "every-verdict", "--format", "junit", "--out", str(DATA / "runs")])
    reference = DATA / "runs/every-verdict/reference-junit.xml"
    assert capsys.readouterr().out == reference.read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["no-such-run", "--format", "csv"], "no run 'no-such-run'"),
        (["every-verdict", "--format", "csv", "--origin", "me"], "--origin is of --format kcidb"),
        (["every-verdict", "--format", "kcidb", "--origin", "My Lab"], "cannot be an origin"),
        (["every-verdict", "--format", "csv", "--output", "/nonexistent/x"], "No such file"),
    ],
)
def test_what_a_person_can_mend(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *arguments, "--out", str(DATA / "runs")]) == 2
    assert told in capsys.readouterr().err


def test_a_run_without_a_journal_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert main(["export", str(tmp_path), "--format", "ktap"]) == 2
    assert "has no journal.jsonl" in capsys.readouterr().err
