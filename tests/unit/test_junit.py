# SPDX-License-Identifier: GPL-2.0-or-later
"""junit.xml as continuous integration reads it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hil.errors import HilError
from hil.report.junit import write_junit
from hil.runs.folder import RunFolder
from hil.runs.outcome import Outcome, outcome_of

DATA = Path(__file__).parent / "data"
FAKE = runpy.run_path(str(DATA / "fake_run.py"))


def written(tmp_path: Path, records: list[dict[str, Any]], meta: dict[str, Any]) -> Any:
    write_junit(tmp_path / "junit.xml", records, meta)
    assert [path.name for path in tmp_path.iterdir()] == ["junit.xml"]
    return ElementTree.parse(tmp_path / "junit.xml").getroot()


def properties(element: Any) -> dict[str, str]:
    return {p.get("name"): p.get("value") for p in element.findall("./properties/property")}


def test_each_outcome_has_its_element(tmp_path: Path) -> None:
    records = FAKE["small"]()
    root = written(tmp_path, records, FAKE["meta"](20))
    cases = root.findall("./testsuite/testcase")
    expected = {
        Outcome.PASS: None,
        Outcome.SKIP: ("skipped", "pytest.skip"),
        Outcome.KNOWN: ("skipped", "pytest.xfail"),
        Outcome.ERROR: ("error", "harness-error"),
        Outcome.UNEXPECTED_PASS: ("failure", "unexpected-pass"),
    }
    seen = set()
    for record, case in zip(records, cases, strict=True):
        outcome = outcome_of(record)
        seen.add(outcome)
        found = [(e.tag, e.get("type")) for e in case if e.tag != "properties"]
        want = expected.get(outcome, ("failure", record["verdict"]))
        assert found == ([] if want is None else [want])
    assert seen == set(Outcome)


def test_counts_are_those_of_the_cases(tmp_path: Path) -> None:
    root = written(tmp_path, FAKE["small"](), FAKE["meta"](20))
    suite = root.find("testsuite")
    counts = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
    assert counts == ["20", "14", "1", "3"]
    assert [root.get(name) for name in ("tests", "failures", "errors", "skipped")] == counts


def test_names_time_and_properties(tmp_path: Path) -> None:
    records = FAKE["small"]()
    root = written(tmp_path, records, FAKE["meta"](20))
    case = root.findall("./testsuite/testcase")[-2]
    assert case.get("classname") == "v4l2-vivid-video1-prepare"
    assert case.get("name") == "memfd-secret/output/steady"
    assert float(case.get("time")) == pytest.approx(records[-2]["seconds"])
    found = properties(case)
    assert found["driver"] == "vivid"
    assert found["memory"] == "memfd-secret"
    assert found["verdict"] == "stayed"
    assert found["kernel"] == "6.12.107"
    assert found["reference"] == FAKE["KNOWN"]["reference"]
    suite = properties(root.find("testsuite"))
    assert suite["board"] == "virtual-x86"
    assert suite["kernel"] == "6.12.107+deb13-amd64"
    assert suite["config.CONFIG_USERFAULTFD"] == "y"


def test_a_failure_tells_errno_log_and_stack(tmp_path: Path) -> None:
    record = FAKE["small"]()[9]
    record["evidence"]["log"] = ["WARNING: at mm/gup.c"]
    record["evidence"]["child"]["stack"] = FAKE["STACK"]
    root = written(tmp_path, [record], {})
    failure = root.find("./testsuite/testcase/failure")
    assert failure.get("message") == "hang: made up, to show hang"
    for part in ("VIDIOC_QBUF: ", "WARNING: at mm/gup.c", "vb2_vmalloc_get_userptr+0x8c"):
        assert part in failure.text


def test_hostile_text_is_well_formed(tmp_path: Path) -> None:
    folder = RunFolder(DATA / "runs" / "hostile")
    root = written(tmp_path, folder.records(), folder.read_meta())
    failure = root.find("./testsuite/testcase/failure")
    assert failure.get("message").startswith("leak: </script>")
    assert r"\x1b[31m\x00" in failure.text


def test_a_record_with_only_its_cell_and_verdict_is_enough(tmp_path: Path) -> None:
    root = written(tmp_path, [{"cell": "p/m/capture/steady", "verdict": "crash"}], {})
    case = root.find("./testsuite/testcase")
    assert (case.get("classname"), case.get("name")) == ("p", "m/capture/steady")
    assert case.find("failure").get("message") == "crash: crash"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(HilError, match="No such file"):
        write_junit(tmp_path / "none" / "junit.xml", [], {})
